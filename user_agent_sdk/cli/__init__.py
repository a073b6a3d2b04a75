# SPDX-License-Identifier: Apache-2.0
"""The command line: one module a command, found through the table in ``commands``."""

from __future__ import annotations

import atexit
import os
import sys
from importlib.machinery import ModuleSpec

from .. import earlier
from .commands import main

__all__ = ["main", "program"]

LEFT_S = 5.0


def program() -> int:
    """:func:`main` as a process of its own, which ends: Python would wait for ever for a thread, or a process of
    multiprocessing, that an agent's function has started and left."""
    _begin_children_with_us()
    code = main()
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except (OSError, ValueError):  # Python would flush again at its exit, and end with 120
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    threading = sys.modules.get("threading")
    children = getattr(sys.modules.get("multiprocessing.process"), "active_children", lambda: ())()
    pools = getattr(sys.modules.get("concurrent.futures.thread"), "_threads_queues", ())  # joined, daemons or not
    if threading is not None and (children or pools or sum(not one.daemon for one in threading.enumerate()) > 1):
        timer = threading.Timer(LEFT_S, os._exit, (code,))
        timer.daemon = True
        timer.start()
        if not children:  # those are joined by a function of atexit, threads before all of them
            atexit.register(timer.cancel)
    return code


def __getattr__(name: str) -> object:  # names that earlier releases had in this module
    return earlier.attribute(__name__, name)


def _begin_children_with_us() -> None:
    """Let a child that multiprocessing spawns run our ``__main__.py`` first, to import what this process did:
    multiprocessing asks the main module for a path, or for a name. By its name it is found in a zip alone: the folder
    that the package was imported from may be on the path no more."""
    main, package = sys.modules["__main__"], __name__.rpartition(".")[0]
    path = os.path.join(os.path.dirname(os.path.dirname(__file__)), "__main__.py")
    if os.path.isfile(path):
        main.__spec__, main.__file__ = None, path
    else:
        main.__spec__ = ModuleSpec(f"{package}.spawned", None)

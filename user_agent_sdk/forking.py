# SPDX-License-Identifier: Apache-2.0
"""What a child that this process forks must not keep of the worker: a child is a plain Python process. It gets the
signals' former handlers back (a Pool ends its children by SIGTERM), and the worker's sockets and files are closed in
it: an orphan would hold the status port. Threads are never copied."""

from __future__ import annotations

import os
import signal
import sys
import threading
import weakref
from contextlib import suppress
from typing import Any, Callable, NoReturn, TypeVar

File = TypeVar("File")
FLUSH_S = 1.0  # for what a child printed: a thread that it does not have may have held the stream's lock in the fork

former_handlers: dict[int, Any] = {}  # the former handlers of the signals that the worker handles meanwhile
in_child: set[Callable[[], None]] = set()  # what else is done in every child, before its code goes on
_OURS: weakref.WeakSet[Any] = weakref.WeakSet()  # sockets and files whose descriptors no child may keep
_mask = threading.local()  # .before: the forking thread's blocked signals


def ours(file: File) -> File:
    """``file``, a socket or whatever has a ``fileno()``, which is closed in every child that is forked."""
    _OURS.add(file)
    return file


class OneProcess:
    """A child that is forked inside ends where this ends: it must not go on as a second worker."""

    def __enter__(self) -> None:
        self._pid = os.getpid()

    def __exit__(self, kind: object, error: BaseException | None, frames: object) -> None:
        if os.getpid() != self._pid:
            end(error)


def end(error: BaseException | None) -> NoReturn:
    """End this process, a forked child, as Python would: what was raised is shown, with status 1."""
    code = 1
    try:
        if error is None:
            code = 0
        elif not isinstance(error, SystemExit):
            sys.excepthook(type(error), error, error.__traceback__)
        elif isinstance(error.code or 0, int):
            code = int(error.code or 0) & 255
        else:
            sys.stderr.write(f"{error.code}\n")
    finally:
        with suppress(BaseException):
            flushing = threading.Thread(target=_flush, name="flush", daemon=True)
            flushing.start()
            flushing.join(FLUSH_S)
        os._exit(code)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):  # None, closed, or a pipe that nobody reads
            stream.flush()


if sys.platform != "win32":

    def _before() -> None:
        """Signals wait until the child has its own handlers: one that came between would be lost in our queue."""
        _mask.before = signal.pthread_sigmask(signal.SIG_BLOCK, former_handlers)

    def _in_parent() -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, _mask.before)

    def _in_child() -> None:
        for number, handler in former_handlers.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        former_handlers.clear()
        for do in in_child:
            do()
        with suppress(OSError):  # no descriptor is left
            null = os.open(os.devnull, os.O_RDWR)
            for file in list(_OURS):
                with suppress(OSError, ValueError):  # closed meanwhile
                    # Not closed: the number's owner may close it once more, and must not hit a file of the child's.
                    os.dup2(null, file.fileno(), inheritable=False)
            os.close(null)
        _in_parent()

    os.register_at_fork(before=_before, after_in_parent=_in_parent, after_in_child=_in_child)

# SPDX-License-Identifier: Apache-2.0
"""A second copy of the package, under another name, whose modules get the made-up world for the standard library's.

So nothing is patched: all that a module imports by itself, and all that stands in a default argument, is of the world.
"""

from __future__ import annotations

import builtins
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from . import disk, world

NAME = "simulated_sdk"
PLACE = Path(__file__).resolve().parents[2] / "user_agent_sdk"
_WORLD: dict[str, Any] = {
    "time": world.time, "threading": world.threading, "random": world.chance, "logging": world.logging,
    "os": disk.os, "fcntl": disk.fcntl, "pathlib": disk.pathlib, "sys": disk.sys,
}  # fmt: skip
_LIVES_THERE = (f"{NAME}.worker", f"{NAME}.conductor.client", f"{NAME}.private")


def _import(name: str, globals: Any = None, locals: Any = None, fromlist: Any = (), level: int = 0) -> Any:
    if not level and name in _WORLD:
        return _WORLD[name]
    return builtins.__import__(name, globals, locals, fromlist, level)


_BUILTINS = {**vars(builtins), "__import__": _import}


class _Loader(importlib.machinery.SourceFileLoader):
    def exec_module(self, module: ModuleType) -> None:
        if module.__name__.startswith(_LIVES_THERE):
            vars(module)["__builtins__"] = _BUILTINS
        super().exec_module(module)


class _Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, fullname: str, path: Sequence[str] | None, target: object = None) -> Any:
        if not fullname.startswith(NAME + "."):
            return None
        place = PLACE.joinpath(*fullname.split(".")[1:])
        is_room = place.is_dir()
        file = place / "__init__.py" if is_room else place.with_suffix(".py")
        rooms = [str(place)] if is_room else None
        return importlib.util.spec_from_file_location(
            fullname, file, loader=_Loader(fullname, str(file)), submodule_search_locations=rooms
        )


if NAME not in sys.modules:
    root = ModuleType(NAME)  # not the package's own __init__, which sees to old Pythons
    root.__path__ = [str(PLACE)]
    sys.modules[NAME] = root
    sys.meta_path.insert(0, _Finder())


def part(name: str) -> Any:
    """A module of the copy: ``part("worker.keeping.held")``."""
    return importlib.import_module(f"{NAME}.{name}")

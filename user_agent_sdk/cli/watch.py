# SPDX-License-Identifier: Apache-2.0
"""Which files of an agent changed, by their times and sizes alone; and which modules came from them."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from .. import errors

LOOK_S = 0.5
SETTLE_S = 0.1  # wait until the file rests: an editor may write in several steps, or put a new file in its place
LOOK_SHARE = 20  # a folder with very many files is looked at less often: a twentieth of the time at most
_FOREIGN = ("__pycache__", "site-packages", "node_modules")
_SDK = Path(errors.__file__).resolve().parent
_INSTALLED = (Path(sys.prefix).resolve(), Path(sys.base_prefix).resolve(), _SDK)


def _is_foreign(folder: Path) -> bool:
    """Below an agent's folder, but not the agent's: hidden, a virtual environment, Python itself, this SDK."""
    hidden = folder.name.startswith(".") or folder.name in _FOREIGN
    return hidden or folder in _INSTALLED or os.path.isfile(folder / "pyvenv.cfg")


class Watch:
    """The Python files below ``folders``, and single ``files``, which need not exist."""

    def __init__(self, folders: Iterable[Path]) -> None:
        self.folders = [Path(os.path.realpath(folder)) for folder in folders]
        self._files: set[Path] = set()
        self._base = self._seen = self._scan()

    def add(self, files: Iterable[Path]) -> None:
        """Watch these too, from now on."""
        for file in {Path(os.path.abspath(file)) for file in files} - self._files:
            self._files.add(file)
            self._base.update(_state(file))

    @property
    def pause_s(self) -> float:
        """Seconds until the next look at the files."""
        return SETTLE_S if self._seen != self._base else max(LOOK_S, LOOK_SHARE * self._cost_s)

    def changed(self) -> list[str]:
        """The files that are new, gone or different since this last said so; none while they still change."""
        before, self._seen = self._seen, self._scan()
        if self._seen == self._base or self._seen != before:
            return []
        names = {*self._base, *self._seen}
        found = sorted(name for name in names if self._base.get(name) != self._seen.get(name))
        self._base = self._seen
        return found

    def _scan(self) -> dict[str, tuple[int, int]]:
        began, files = time.monotonic(), [*self._files]
        for top in self.folders:
            for folder, inner, names in os.walk(top):
                inner[:] = [name for name in inner if not _is_foreign(Path(folder, name))]
                files += [Path(folder, name) for name in names if name.endswith((".py", ".pyw"))]
        found: dict[str, tuple[int, int]] = {}
        for file in files:
            found.update(_state(file))
        self._cost_s = time.monotonic() - began
        return found

    def forget_modules(self) -> None:
        """Let the next import of a module that lies below the folders read its file again."""
        for name, module in list(sys.modules.items()):
            if name != "__main__" and any(self._holds(Path(os.path.realpath(file))) for file in _files_of(module)):
                del sys.modules[name]

    def _holds(self, file: Path) -> bool:
        parents = list(file.parents)
        for folder in self.folders:
            if folder in parents and _SDK not in parents:
                return not any(map(_is_foreign, parents[: parents.index(folder)]))
        return False


def _state(file: Path) -> dict[str, tuple[int, int]]:
    try:
        stat = os.stat(file)
    except OSError:
        return {}
    return {str(file): (stat.st_mtime_ns, stat.st_size)}


def _files_of(module: object) -> list[str]:
    """A module's source file; of a package without a file of its own a name in its folder."""
    file = getattr(module, "__file__", None)
    if isinstance(file, str):
        return [file] if file.endswith((".py", ".pyw")) else []  # an extension module can't be loaded twice
    with suppress(Exception):  # objects of all kinds stand in sys.modules
        return [os.path.join(folder, "__init__.py") for folder in list(getattr(module, "__path__", ()))[:1]]
    return []

# SPDX-License-Identifier: Apache-2.0
"""The results and tasks in a folder's journals, as commands see them, and ``run`` when it starts."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from ...errors import StorageError
from ...private import check_folder
from . import log_file
from .journal_file import ONCE, REJECTED, RESULT, TAKEN, Entry, files_of


class Left(NamedTuple):
    """A row of a process that has ended; or, ``is_in_use``, a result that waits in one that runs."""

    path: Path
    row: int
    entry: Entry
    is_in_use: bool = False


class Leftovers(NamedTuple):
    """Rows that somebody owes the platform or a human; the logs of processes that run; and the logs and folders that
    can't be read, with the reason."""

    rows: list[Left]
    in_use: list[Path]
    unusable: list[tuple[Path, Exception]]


def leftovers(*roots: Path, but: Path | None = None) -> Leftovers:
    """Look into every target's folder of these journal folders, but for one."""
    found = Leftovers([], [], [])
    for root in roots:
        with _noting(found, root, FileNotFoundError):
            for folder in sorted(root.iterdir()):  # glob() takes a folder that can't be read for an empty one
                with _noting(found, folder, FileNotFoundError, NotADirectoryError):
                    files = [] if folder == but or os.path.isfile(folder) else files_of(folder)
                    if files:
                        check_folder(folder)
                    for path in files:
                        with _noting(found, path):
                            _look(path, found)
    return found


@contextlib.contextmanager
def _noting(found: Leftovers, path: Path, *harmless: type[OSError]) -> Iterator[None]:
    try:
        yield
    except harmless:
        pass
    except (StorageError, OSError) as error:
        found.unusable.append((path, error))


def _look(path: Path, found: Leftovers) -> None:
    file = log_file.take(path)
    with contextlib.closing(file) if file is not None else contextlib.nullcontext():
        log = log_file.read(path)  # records are only appended: a worker's log, too, can be read meanwhile
    if file is None:
        found.in_use.append(path)
    states = (TAKEN, ONCE, RESULT, REJECTED) if file is not None else (RESULT, REJECTED)
    found.rows.extend(Left(path, row, entry, file is None) for row, entry in log.rows.items() if entry.state in states)
    if log.damaged is not None:
        raise StorageError(f"{path} is damaged from byte {log.damaged} on")


def change(left: Left, entry: Entry | None) -> bool:
    """Replace a row that was found, or delete it (None). False when a worker has taken it meanwhile. Raises
    StorageError, OSError."""
    file = log_file.take(left.path)
    if file is None:
        return False
    with contextlib.closing(file):
        rows = file.read()
        if rows.get(left.row) != left.entry:
            return False
        rows.pop(left.row)
        if entry is not None:
            rows[left.row] = entry
        file.rewrite(rows, is_old=True)
        return True

# SPDX-License-Identifier: Apache-2.0
"""The results and tasks in a folder's journals, as commands see them, and ``run`` when it starts."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import NamedTuple

from ...errors import StorageError
from ...private import make_folder
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
    roots = tuple(root for root in roots if os.path.isdir(root))  # glob() raises for a name that is too long
    for folder in [folder for root in roots for folder in sorted(root.glob("*/")) if folder != but]:
        path = folder
        try:
            files = files_of(folder)
            if files:
                make_folder(folder)  # checks the owner of a folder that exists
            for path in files:
                _look(path, found)
        except (StorageError, OSError) as error:
            found.unusable.append((path, error))
    return found


def _look(path: Path, found: Leftovers) -> None:
    try:
        file = log_file.take(path)
        with contextlib.closing(file) if file is not None else contextlib.nullcontext():
            log = log_file.read(path)  # records are only appended: a worker's log, too, can be read meanwhile
    except (StorageError, OSError) as error:
        found.unusable.append((path, error))
        return
    if file is None:
        found.in_use.append(path)
    if log.damaged is not None:
        found.unusable.append((path, StorageError(f"{path} is damaged from byte {log.damaged} on")))
    states = (TAKEN, ONCE, RESULT, REJECTED) if file is not None else (RESULT, REJECTED)
    found.rows.extend(Left(path, row, entry, file is None) for row, entry in log.rows.items() if entry.state in states)


def change(left: Left, entry: Entry | None) -> bool:
    """Replace a row that was found, or delete it (None). False when a worker has taken it meanwhile.

    Raises StorageError, OSError."""
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

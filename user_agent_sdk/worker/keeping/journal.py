# SPDX-License-Identifier: Apache-2.0
"""What was taken and what is not yet delivered, on disk before anything depends on it.

A process has one file, and adopts the rows of those whose process has ended. Nothing here ever stops a task:
what can't be written is kept in memory and written when it can be.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import logging
import threading
import time
from pathlib import Path
from typing import Callable

from ... import storage
from ...conductor.wire import Task, TaskStatus
from ...errors import StorageError
from . import journal_file
from .journal_file import LATE, RESULT, Entry

log = logging.getLogger(__name__)

LATE_KEPT_S = 24 * 3600
LATE_ROWS = 1000
LATE_BYTES = 64 * 1024 * 1024
SHRINK_EVERY_S = 10.0
LOG_MAX_BYTES = 16 * 1024 * 1024
REOPEN_EVERY_S = 5.0
FILES_TRIED = 256  # a file system without locks would have us try for ever


def input_hash(task: Task) -> str:
    """SHA-256 of the input's JSON with sorted keys: tells whether a retry asks for the same work. Empty
    for an input that can't be told (too deep to encode), which is like no other."""
    try:
        return hashlib.sha256(_sorted(task.input_data).encode("ascii")).hexdigest()
    except (RecursionError, ValueError):
        return ""


_sorted = json.JSONEncoder(sort_keys=True).encode


class Journal:
    """The journal of one process; ``folder`` None keeps all of it in memory. Safe from any thread."""

    def __init__(
        self,
        folder: Path | None,
        sync: str = "normal",
        *,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._folder = folder
        self._sync = sync
        self._clock = clock
        self._wall = wall
        self._lock = threading.Lock()  # guards all below, and what is done with _file save appending
        self._live: dict[int, Entry] = {}
        self._free: list[int] = []  # numbers of rows that are done with
        self._unsettled: set[int] = set()  # rows that came, changed or went since the file's database was written
        self._ids = itertools.count(1)
        self._file: journal_file.File | None = None
        self._path: Path | None = None
        self._trouble = False  # the file can't be written now
        self._said: set[object] = set()  # what was logged and need not be again
        self._retry_at = 0.0
        self._opened_at = 0.0
        self._shrink_at = 0.0
        self._found: dict[int, Entry] = {}  # of a file that was opened late: adopt() tells of it

    @property
    def is_on_disk(self) -> bool:
        """True while what is written survives the process."""
        return self._file is not None and not self._trouble

    # -- the life of a row -------------------------------------------------------------------------

    def add(self, entry: Entry) -> int:
        """Write a new row; its id. Back when a kill can't take it any more, as is :meth:`replace`."""
        with self._lock:
            row = self._free.pop() if self._free else next(self._ids)
            self._put(row, entry)
        self._append(row, entry)
        return row

    def replace(self, row: int, entry: Entry) -> None:
        with self._lock:
            self._put(row, entry)
        self._append(row, entry)

    def _append(self, row: int, entry: Entry) -> None:
        """Not under the lock: Python lets others run during a write, and they would all come to stand before it. The
        row was put before, so whoever empties the log has it in the database."""
        file = self._file
        if file is None or self._trouble:
            return
        try:
            # With "full" each change goes to the disk itself, by SQLite, which knows how on every system.
            must_settle = self._sync == "full" or file.append(row, entry) > LOG_MAX_BYTES
        except (OSError, ValueError) as error:  # ValueError: it was closed meanwhile, as damaged
            with self._lock:
                if file is self._file and not self._trouble:
                    self._failed(error)
            return
        if must_settle:
            with self._lock:
                self._settle()

    def _put(self, row: int, entry: Entry) -> None:
        self._live[row] = entry
        self._unsettled.add(row)

    def free(self, row: int) -> None:
        """The row is done with. It goes within a second."""
        with self._lock:
            self._let_go(row)

    def _let_go(self, row: int) -> None:
        if self._live.pop(row, None) is not None:
            self._free.append(row)
            self._unsettled.add(row)

    def live(self) -> dict[int, Entry]:
        """All rows that are not done with."""
        return self._live.copy()

    def find_result(self, task_id: str, like: Entry) -> bytes | None:
        """The COMPLETED report held here, late or undelivered, of another attempt at the same work."""
        for entry in self.live().values():
            is_held = entry.state in (LATE, RESULT) and entry.status == TaskStatus.COMPLETED
            if is_held and entry.task_id == task_id and like.is_same_work(entry):
                return entry.body
        return None

    def keep_late(self, row: int, entry: Entry) -> None:
        """Keep a result that came after its lease: the platform answers 200 and ignores it, and hands
        out the same work again under a new id."""
        self.forget_late(entry.task_id)
        with self._lock:
            self._put(row, entry._replace(state=LATE, taken_ms=int(self._wall() * 1000)))
            self._limit_late()
            self._settle()  # no log: a limit may let the row go to another thread before that is written

    def forget_late(self, task_id: str) -> None:
        for row, entry in self.live().items():
            if entry.state == LATE and entry.task_id == task_id:
                self.free(row)

    def _limit_late(self) -> None:
        """The newest stay."""
        late = [(entry.taken_ms, row, entry) for row, entry in self._live.items() if entry.state == LATE]
        since_ms, left_bytes = (self._wall() - LATE_KEPT_S) * 1000, LATE_BYTES
        for number, (kept_ms, row, entry) in enumerate(sorted(late, reverse=True)):
            left_bytes -= len(entry.body)
            if number >= LATE_ROWS or left_bytes < 0 or kept_ms < since_ms:
                self._let_go(row)

    # -- the file ----------------------------------------------------------------------------------

    def open(self) -> dict[int, Entry]:
        """Lock the first free file of the folder; its rows, left by a process that ended."""
        with self._lock:
            self._open()
            if self._trouble:  # perhaps only because another process, which found it damaged, set it aside just now
                self._recover()
            # One row in a damaged file may be the last that SQLite has; none could follow it.
            self._ids = itertools.count(1 + max((row for row in self._found if 0 < row < 2**53), default=0))
            found, self._found = self._found, {}
            return found

    def adopt(self) -> dict[int, Entry]:
        """Take over the rows of every file whose process ended; the rows that came."""
        for path in journal_file.files_of(self._folder) if self._folder is not None else ():
            with self._lock:
                if path != self._path and self.is_on_disk:
                    try:
                        self._adopt(path)
                    except (storage.Error, StorageError, OSError) as error:
                        self._say(path, logging.WARNING, "%s is left alone: %s", path, error)
        with self._lock:
            found, self._found = self._found, {}
            return {row: entry for row, entry in found.items() if row in self._live}

    def sweep(self) -> None:
        """Upkeep, twice a second: the database is written, an empty file shrinks, a broken one is tried again."""
        with self._lock:
            if self._trouble and self._clock() >= self._retry_at:
                self._recover()
            self._limit_late()
            self._settle()
            if self._clock() >= self._shrink_at and not any(entry.is_pending for entry in self._live.values()):
                self._shrink_at = self._clock() + SHRINK_EVERY_S
                self._shrink()

    def save(self) -> bool:
        """Write what is in memory only, without the pause that follows on trouble; whether all is on disk now."""
        with self._lock:
            if self._trouble:
                self._recover()
            self._settle()
            return self.is_on_disk

    def close(self) -> None:
        self.save()
        with self._lock:
            self._shrink()
            if self._file is not None:
                self._file.close()
                self._file = None

    def _settle(self) -> None:
        rows = {row: self._live.get(row) for row in self._unsettled}
        if not rows or self._file is None or self._trouble:
            return
        try:
            self._file.settle(rows)
            self._unsettled.clear()
        except (storage.Error, OSError) as error:
            self._failed(error)

    def _shrink(self) -> None:
        if self._file is None or self._trouble:
            return
        try:
            self._file.shrink()
        except (storage.Error, OSError) as error:  # without room for that it stays as it is, and goes on being written
            if storage.is_damage(error):
                self._failed(error)

    def _failed(self, error: Exception) -> None:
        self._trouble = True
        self._retry_at = self._clock() + REOPEN_EVERY_S
        text = "The journal %s can't be written (%s): results are kept in memory only until it can"
        self._say("trouble", logging.ERROR, text, self._path or self._folder, error)
        if storage.is_damage(error) and self._file is not None and self._path is not None:
            self._retry_at = self._opened_at + REOPEN_EVERY_S  # that is now, unless new files are damaged as well
            seen = storage.inode(self._path)
            self._file.discard()  # all rows are here, and are written to the next file
            self._file = None
            self._set_aside(self._path, seen, error)

    def _recover(self) -> None:
        self._trouble = False
        if self._file is None:
            self._open(is_late=True)
        self._settle()
        if not self._trouble:
            self._said.discard("trouble")
            log.warning("The journal %s is written again", self._path, extra=_ACTION)

    def _say(self, key: object, level: int, text: str, *values: object) -> None:
        if key not in self._said:
            self._said.add(key)
            log.log(level, text, *values, extra=_ACTION)

    def _open(self, is_late: bool = False) -> None:
        """``is_late``: there are rows already, so those of the file get new numbers."""
        if self._folder is None:
            return
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._file = self._lock_first(self._folder)
            rows = self._file.read()
        except (storage.Error, StorageError, OSError) as error:
            self._failed(error)
            if self._file is not None:  # what could not be read must not be cleared: it is opened anew
                self._file.close()
                self._file = None
            return
        self._opened_at = self._clock()
        for row, entry in rows.items():
            self._found[next(self._ids) if is_late else row] = entry
        self._live.update(self._found)
        if is_late:
            self._unsettled.update(rows, self._live)

    def _lock_first(self, folder: Path) -> journal_file.File:
        for number in range(1, FILES_TRIED + 1):
            self._path = folder / f"{number}.db"
            file = self._lock_file(self._path)
            if file is not None:
                return file
        raise OSError(f"none of {FILES_TRIED} files could be locked")

    def _lock_file(self, path: Path) -> journal_file.File | None:
        """The file, locked; None when another process has it, or it is newer."""
        seen = storage.inode(path)
        try:
            return journal_file.lock(path, self._sync)
        except storage.NewerFileError as error:
            self._say(path, logging.WARNING, "%s; it is left alone", error)
            return None
        except storage.UnusableFileError as error:
            self._set_aside(path, seen, error)
            return journal_file.lock(path, self._sync)

    def _set_aside(self, path: Path, seen: int, error: Exception) -> None:
        if storage.inode(path) != seen:  # another process did it, and has a new file there
            return
        try:
            kept = storage.set_aside(path)
        except FileNotFoundError:
            return
        except OSError as why:
            self._say(
                path, logging.ERROR, "The journal %s is damaged (%s) and can't be set aside: %s", path, error, why
            )
            return
        text = "The journal %s is damaged or not ours (%s); it is kept as %s and what it held is not delivered"
        log.error(text, path, error, kept.name, extra=_ACTION)

    def _adopt(self, path: Path) -> None:
        other = self._lock_file(path)
        if other is None:
            return
        try:
            theirs = other.read()
            ours = {next(self._ids): entry for entry in theirs.values()}
            for row, entry in ours.items():
                self._put(row, entry)
            self._settle()
            if self._unsettled:  # they stay where they are
                for row in ours:
                    self._let_go(row)
            elif ours:  # in both files: twice is better than not at all
                self._found.update(ours)
                other.settle(dict.fromkeys(theirs))
                other.shrink()
        finally:
            other.close()


_ACTION = {"action": "journal"}

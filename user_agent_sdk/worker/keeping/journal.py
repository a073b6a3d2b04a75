# SPDX-License-Identifier: Apache-2.0
"""Tasks that were taken and results that are not yet delivered, on disk before anything depends on them.

A process has one file, and adopts the rows of those whose process has ended. Nothing here ever stops a task:
what can't be written is kept in memory and written when it can be.
"""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Callable

from ...conductor.wire import Task
from ...errors import StorageError
from ...prepared import json_encoder
from .journal_file import Entry, encode
from .log_file import Folder, LogFile

log = logging.getLogger(__name__)

REWRITE_EVERY_S = 10.0  # at the latest: until then delivered results are on the disk
LOG_MAX_BYTES = 16 * 1024 * 1024
REOPEN_EVERY_S = 5.0
LONG_S = 60.0  # for a wait that ends in milliseconds: Windows interrupts none without an end
_ACTION = {"action": "journal"}
_sorted = json_encoder(sort_keys=True)


def work_hash(task: Task, is_in_memory: bool = False) -> str:
    """A hash of the task's key and input: tells whether a retry asks for the same work. Empty for an input that is too
    deep to encode, and like no other. SHA-256, which loads OpenSSL, if it is kept."""
    try:
        text = _sorted([task.key, task.input_data])
    except (RecursionError, ValueError):
        return ""
    if is_in_memory:
        return str(hash(text))
    import hashlib  # urllib has loaded it
    return hashlib.sha256(text.encode("ascii")).hexdigest()


class Journal:
    """The journal of one process; ``folder`` None keeps all of it in memory. Safe from any thread."""

    def __init__(self, folder: Path | None, sync: str = "normal") -> None:
        self._path, self.is_in_memory = folder, folder is None
        self._folder = Folder(folder, sync) if folder is not None else None
        self._clock = time.monotonic
        self._lock = threading.Lock()  # guards all below, and what is done with _file save appending
        self._ended = threading.Condition(self._lock)  # an append has, or a rewrite
        self._live: dict[int, Entry] = {}
        self._free: list[int] = []  # numbers of rows that are done with
        self._freed: deque[int] = deque()  # rows that free() was told of since; not under the lock
        self._unwritten: set[int] = set()  # rows whose last change is not in the file
        self._ids = itertools.count(1)
        self._file: LogFile | None = None
        self._borrowed: list[LogFile] = []  # of ended processes: their rows are here, but not in our file yet
        self._found: dict[int, Entry] = {}  # rows of ended processes, of which adopt() has not told yet
        self._appending = 0  # threads
        self._is_closed = False  # to appends: the file is being replaced
        self._limit_bytes = LOG_MAX_BYTES
        self._kept: dict[int, Entry] = {}  # when the file was last rewritten
        self._rewrite_at = 0.0
        self._trouble = False  # the file can't be written now
        self._retry_at = 0.0
        self._is_said = False  # which was logged

    @property
    def is_on_disk(self) -> bool:
        """True while rows survive the process."""
        return self._file is not None and not self._trouble

    # -- the life of a row -------------------------------------------------------------------------

    def write(self, entry: Entry, row: int = 0) -> int:
        """Write a row, a new one without its number; the number. Back when a kill can't take it any more."""
        # Append not under the lock: Python lets other threads run during a write, and all would come to stand before
        # the lock. A rewrite waits for the append.
        with self._lock:
            while self._is_closed:
                self._ended.wait(LONG_S)
            self._take_out()
            row = row or (self._free.pop() if self._free else next(self._ids))
            self._live[row] = entry
            file = self._file
            if file is None or self._trouble:
                self._unwritten.add(row)
                return row
            self._unwritten.discard(row)
            self._appending += 1
        failure: Exception | None = None
        size_bytes = 0
        try:
            size_bytes = file.append(encode(row, entry))
        except (OSError, ValueError) as error:
            failure = error
        finally:
            with self._lock:
                self._appending -= 1
                if self._is_closed:
                    self._ended.notify_all()
                file.size_bytes += size_bytes
                file.records += 1
                if failure is not None:
                    self._unwritten.add(row)
                    self._failed(failure)
                elif file.size_bytes > self._limit_bytes and not self._is_closed:
                    self._rewrite(file)
        return row

    def free(self, row: int) -> None:
        """The row is done with. It goes within a second, and nobody waits for that: a slow disk may hold the lock for
        seconds, and the slot that calls this may have its next task on the way."""
        self._freed.append(row)

    def _take_out(self) -> None:
        while self._freed:
            if self._live.pop(row := self._freed.popleft(), None) is not None:
                self._free.append(row)
                self._unwritten.add(row)

    def live(self) -> dict[int, Entry]:
        """All rows that are not done with."""
        freed = set(self._freed.copy())
        return {row: entry for row, entry in self._live.copy().items() if row not in freed}

    # -- the file ----------------------------------------------------------------------------------

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """The lock, while the file is not being replaced. What can't be written is trouble, and tried again later."""
        with self._lock:
            self._ended.wait_for(lambda: not self._is_closed, LONG_S)
            try:
                yield
            except (OSError, StorageError, ValueError) as error:
                self._failed(error)

    def open(self) -> dict[int, Entry]:
        """Lock the first free file of the folder; its rows, left by a process that ended."""
        with self._turn():
            self._open()
        return self._told()

    def adopt(self) -> dict[int, Entry]:
        """Take over the rows of every file whose process ended; the rows that came. Their files stay locked, and as
        they are, until ours has the rows."""
        for path in self._folder.files() if self._folder is not None else ():
            with self._turn():
                if all(path != file.path for file in (self._file, *self._borrowed) if file is not None):
                    self._adopt(path)
        return self._told()

    def _told(self) -> dict[int, Entry]:
        with self._lock:
            self._take_out()
            found, self._found = self._found, {}
            return {row: entry for row, entry in found.items() if row in self._live}

    def sweep(self, *, at_once: bool = False) -> bool:
        """Upkeep, twice a second: what is gone is marked so, a file that is gone is made anew, one with much in it
        that is done with is rewritten, one that could not be written is tried again: after a pause, if not ``at_once``.
        Whether a next process would find all rows."""
        with self._turn():
            self._check()
            if self._trouble and (at_once or self._clock() >= self._retry_at):
                self._recover()
            self._write()
            self._tidy()
        return self.is_on_disk

    def close(self) -> None:
        self._rewrite_at = 0.0
        self.sweep(at_once=True)
        with self._turn():
            for file in (*self._borrowed, self._file):
                if file is not None:
                    file.close()
            self._file, self._borrowed = None, []

    def _open(self) -> None:
        if self._folder is None:
            return
        self._file, rows = self._folder.first()
        if self._live or self._free:  # row numbers are in use: the file's rows get new numbers
            self._receive(rows)
            self._unwritten.update(rows, self._live)
        else:
            self._ids = itertools.count(1 + max(rows, default=0))
            self._live.update(rows)
            self._found.update(rows)
        self._begin(self._file)

    def _begin(self, file: LogFile) -> None:
        if file.begin(self._live):
            self._unwritten.clear()

    def _receive(self, rows: dict[int, Entry]) -> None:
        """Rows of an ended process. What we hold already is a copy of our own: the folder was moved, or restored."""
        self._take_out()
        ours = {entry.task_id for entry in self._live.values()}
        for entry in rows.values():
            if entry.task_id not in ours:
                row = next(self._ids)
                self._live[row] = self._found[row] = entry
                self._unwritten.add(row)

    def _adopt(self, path: Path) -> None:
        assert self._folder is not None
        try:
            taken = self._folder.take(path)
        except OSError as error:
            self._folder.leave(path, error)
            return
        if taken is not None:
            self._borrowed.append(taken[0])
            self._receive(taken[1])
            self._write()

    def _write(self) -> None:
        """Bring what is in memory only into the file: first what came, then what went, in case the disk is full."""
        self._take_out()
        if self._file is None or self._trouble:
            return
        rows = sorted(self._unwritten, key=lambda row: row not in self._live)
        if rows:
            data = b"".join(encode(row, self._live.get(row)) for row in rows)
            self._file.size_bytes += self._file.append(data)
            self._file.records += len(rows)
            self._unwritten.clear()
        for file in self._borrowed.copy():  # ours has their rows now; in both files: twice is better than not at all
            if self._is_done(file.clear):
                file.close()
                self._borrowed.remove(file)

    def _tidy(self) -> None:
        """Rewrite the file when what is done with outgrows the rest, and now and then if there is anything."""
        file = self._file
        if file is None or self._trouble or file.records <= len(self._live):
            return
        if not self._live and not self._appending:
            self._is_done(file.clear)
            return
        live_bytes = sum(len(entry.body) + len(entry.task) for entry in self._live.values())
        if file.size_bytes > 2 * live_bytes or self._clock() >= self._rewrite_at:
            self._rewrite(file)

    def _rewrite(self, file: LogFile) -> None:
        self._rewrite_at = self._clock() + REWRITE_EVERY_S
        with self._alone():
            # A power cut may take the rows of the last moments, but not older ones.
            is_old = any(self._live.get(row) is entry for row, entry in self._kept.items())
            if self._is_done(lambda: file.rewrite(self._live, is_old=is_old)):
                self._kept = self._live.copy()
                self._unwritten.clear()
        self._limit_bytes = file.size_bytes + LOG_MAX_BYTES

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Nobody appends meanwhile."""
        self._is_closed = True
        try:
            self._ended.wait_for(lambda: not self._appending, LONG_S)
            yield
        finally:
            self._is_closed = False
            self._ended.notify_all()

    def _is_done(self, act: Callable[[], None]) -> bool:
        """What fails, for want of room or, on Windows, because somebody reads the file, leaves the file as it was, and
        is tried again later."""
        try:
            act()
            return True
        except (OSError, StorageError) as error:
            log.debug("A file of the journal could not be rewritten: %s", error, extra=_ACTION)
            return False

    # -- trouble -----------------------------------------------------------------------------------

    def _check(self) -> None:
        """A file that is not under its name any more would be found by no next process."""
        if self._file is None or self._file.is_there():
            return
        text = "The journal %s was removed or replaced by somebody; it is written anew"
        log.error(text, self._file.path, extra=_ACTION)
        with self._alone():
            self._trouble, self._retry_at = True, self._clock()
            self._file.close()
            self._file = None

    def _failed(self, error: Exception) -> None:
        if not self._trouble:
            self._trouble = True
            self._retry_at = self._clock() + REOPEN_EVERY_S
        if not self._is_said:
            self._is_said = True
            text = "The journal %s can't be written (%s): results are kept in memory only until it can"
            log.error(text, self._file.path if self._file is not None else self._path, error, extra=_ACTION)

    def _recover(self) -> None:
        self._trouble = False
        if self._file is None:
            self._open()
        else:
            self._begin(self._file)
            self._tidy()  # what is done with may be what fills the disk
        self._write()
        if self._file is not None and not self._trouble:
            self._is_said = False
            log.warning("The journal %s is written again", self._file.path, extra=_ACTION)

# SPDX-License-Identifier: Apache-2.0
"""The journal's files: 1.log, 2.log, … in one folder for each platform and client, and beside each its lock.

Whoever can lock N.lock may take over the rows of N.log: the lock dies with its process. Reading writes nothing, so
what lies on a full or read-only disk is delivered too.
"""

from __future__ import annotations

import io
import logging
import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from ... import private
from ...errors import StorageError
from .journal_file import HEADER, Decoded, Entry, decode, encode, files_of

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

log = logging.getLogger(__name__)

FILES_TRIED = 256  # a file system on which no lock is ever free would have us try for ever
_NO_END = 2**62  # of a log that we have begun: all that is in it from then on is our own
_ACTION = {"action": "journal"}

_held: set[int] = set()  # descriptors of locks: a forked child, which may outlive its parent, closes them


class LogFile:
    """A log whose lock this process holds until it is closed. Of several threads at once all may append; whatever else
    is done is done by one thread, and replacing or closing the log only while nobody appends. ``size_bytes`` and
    ``records`` count what was read and written; whoever appends adds to them."""

    def __init__(self, path: Path, lock: int, sync: str) -> None:
        self.path, self._lock, self._is_synced = path, lock, sync == "full"
        self.size_bytes = self.records = 0
        self._log: io.FileIO | None = None
        self._found = Decoded({}, 0, None, 0)

    def read(self) -> dict[int, Entry]:
        """All rows. Raises OSError, StorageError."""
        self._found = read(self.path)
        self.records = self._found.records
        return self._found.rows

    def begin(self, rows: Mapping[int, Entry]) -> bool:
        """Open it for appending, after :meth:`read`, if it is not open; one that is damaged, empty or missing is
        rewritten with these rows: then True. Raises OSError, StorageError."""
        if self._log is not None and self._found.end:
            return False
        if self._found.damaged is not None or not self._found.end or not os.path.lexists(self.path):
            self.rewrite(rows, is_old=True)
            return True
        log = self._open()
        if self.size_bytes > self._found.end:  # a kill cut the last record off: no record may follow its rest
            log.truncate(self._found.end)
            self.size_bytes = self._found.end
        self._found = self._found._replace(end=_NO_END)
        return False

    def append(self, data: bytes) -> int:
        """Write whole records at the end; how many bytes. Raises OSError, ValueError when it is not open."""
        if self._log is None:
            raise ValueError("the log is not open")
        written = self._log.write(data)
        if written != len(data):
            raise OSError(f"only {written} of {len(data)} bytes could be written: the disk is full")
        if self._is_synced:
            _flush(self._log.fileno())
        return written

    def rewrite(self, rows: Mapping[int, Entry], *, is_old: bool) -> None:
        """Put a log with these rows alone in place of the old one, which stays as it was if that fails. ``is_old``:
        they must be on the disk itself before the old log goes. Raises OSError, StorageError."""
        new = _new_path(self.path)
        with suppress(FileNotFoundError):
            os.unlink(new)  # of a process that was killed; the lock is ours
        try:
            with os.fdopen(private.open_own(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL), "wb") as stream:
                stream.write(HEADER)
                for row, entry in rows.items():
                    stream.write(encode(row, entry))
                stream.flush()
                if is_old or self._is_synced:
                    _flush(stream.fileno())
        except OSError:
            with suppress(OSError):
                os.unlink(new)
            raise
        self._close_log()  # Windows replaces no open file
        try:
            self._set_aside()
            os.replace(new, self.path)
            self.records = len(rows)
            self._found = Decoded({}, 0, None, _NO_END)
            if self._is_synced:
                _flush_folder(self.path.parent)
        finally:
            self._open()

    def clear(self) -> None:
        """Take out all rows. Raises OSError, StorageError."""
        if self._found.damaged is not None:
            self.rewrite({}, is_old=False)
        elif os.path.lexists(self.path):
            log = self._log or self._open()
            self.size_bytes, self.records = min(self.size_bytes, len(HEADER)), 0
            log.truncate(self.size_bytes)

    def is_there(self) -> bool:
        """Whether the next process would find this lock, and the whole log, under their names."""
        try:
            if not _is_at(_lock_path(self.path), self._lock):
                return False
            is_whole = self._log is None or os.lstat(self.path).st_size >= self.size_bytes
            return is_whole and (self._log is None or _is_at(self.path, self._log.fileno()))
        except OSError:
            return False

    def close(self) -> None:
        self._close_log()
        if self._lock in _held:
            _held.discard(self._lock)
            os.close(self._lock)

    def _open(self) -> io.FileIO:
        self._log = log = os.fdopen(private.open_own(self.path, os.O_WRONLY | os.O_APPEND), "ab", 0)
        self.size_bytes = os.fstat(log.fileno()).st_size
        return log

    def _close_log(self) -> None:
        if self._log is not None:
            self._log.close()
            self._log = None

    def _set_aside(self) -> None:
        """A damaged log is kept for a human; renamed, which takes no room on a full disk."""
        if self._found.damaged is not None and os.path.lexists(self.path):
            kept = private.aside(self.path)
            os.replace(self.path, kept)
            text = "%s is damaged from byte %d on; it is kept as %s, and what can't be read there is not delivered"
            log.error(text, self.path, self._found.damaged, kept.name, extra=_ACTION)


class Folder:
    """The journals of one target. What is left alone there, and why, is said once."""

    def __init__(self, path: Path, sync: str) -> None:
        self._path, self._sync = path, sync
        self._said: set[Path] = set()

    def files(self) -> list[Path]:
        try:
            return files_of(self._path)
        except OSError:  # the journal itself says what is wrong with its folder
            return []

    def first(self) -> tuple[LogFile, dict[int, Entry]]:
        """The first log whose lock is free, made if need be, and what it holds. Raises OSError, StorageError."""
        private.make_folder(self._path)
        for number in range(1, FILES_TRIED + 1):
            taken = self.take(self._path / f"{number}.log")
            if taken is not None:
                return taken
        raise OSError(f"none of {FILES_TRIED} files could be locked")

    def take(self, path: Path) -> tuple[LogFile, dict[int, Entry]] | None:
        """A log with its lock and its rows; None when another process, user or newer release owns the log. Raises
        OSError."""
        file = None
        try:
            file = take(path, self._sync)
            return (file, file.read()) if file is not None else None
        except BaseException as error:
            if file is not None:
                file.close()
            if not isinstance(error, (StorageError, PermissionError)):
                raise
            self.leave(path, error)
            return None

    def leave(self, path: Path, error: Exception) -> None:
        if path not in self._said:
            self._said.add(path)
            log.warning("%s is left alone: %s", path, error, extra=_ACTION)


def take(path: Path, sync: str = "normal") -> LogFile | None:
    """The log of that name, with its lock, made if it is missing; None while another process has it. Raises OSError,
    also where the file system has no locks, and StorageError."""
    while True:
        descriptor = _open_lock(_lock_path(path))
        try:
            is_ours = _lock(descriptor)
            if is_ours and _is_at(_lock_path(path), descriptor):
                _held.add(descriptor)
                return LogFile(path, descriptor, sync)
        except FileNotFoundError:  # removed just now, by somebody's hand
            is_ours = True
        finally:
            if descriptor not in _held:
                os.close(descriptor)
        if not is_ours:
            return None


def read(path: Path) -> Decoded:
    """The rows of a log, at the moment of reading: another process may be writing it. Raises OSError,
    StorageError for what is not ours, or a newer release's."""
    for name in (path, _new_path(path)):
        with suppress(FileNotFoundError), os.fdopen(private.open_own(name, os.O_RDONLY), "rb") as stream:
            return decode(stream.read())
    return decode(b"")


def _lock_path(path: Path) -> Path:
    return path.with_suffix(".lock")


def _new_path(path: Path) -> Path:
    return path.with_name(path.name + ".new")


def _open_lock(path: Path) -> int:
    try:
        return private.open_own(path, os.O_RDWR | os.O_CREAT)
    except OSError:
        with suppress(FileNotFoundError):  # a lock file that exists can be locked on a read-only disk
            return private.open_own(path, os.O_RDONLY)
        raise


def _is_at(path: Path, descriptor: int) -> bool:
    """Whether the open descriptor is the file of that name. Raises OSError."""
    return os.path.samestat(os.lstat(path), os.fstat(descriptor))


def _flush(descriptor: int) -> None:
    if sys.platform != "win32" and hasattr(fcntl, "F_FULLFSYNC"):  # macOS: fsync() leaves data in the drive's cache
        fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
    else:
        os.fsync(descriptor)


def _flush_folder(path: Path) -> None:
    """A rename is on the disk itself only when its folder is. Windows opens no folder."""
    if sys.platform != "win32":
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


if sys.platform == "win32":

    def _lock(descriptor: int) -> bool:
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError as error:
            if error.errno and not isinstance(error, PermissionError):  # Wine's C library gives no number
                raise
            return False
        return True

else:

    def _lock(descriptor: int) -> bool:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _let_go() -> None:
        for descriptor in _held:
            os.close(descriptor)
        _held.clear()

    os.register_at_fork(after_in_child=_let_go)

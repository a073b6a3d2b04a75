# SPDX-License-Identifier: Apache-2.0
"""The one opener of what is kept on disk: modes, locks, checks, and what to do with a file that is no good.

Nothing newer than SQLite 3.31 is used: no RETURNING, no STRICT, no JSON functions.
"""

from __future__ import annotations

import io
import os
import sqlite3
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path, PurePath
from urllib.parse import quote

from .errors import StorageError

Connection = sqlite3.Connection
Error = sqlite3.Error
_FAILURES = (sqlite3.Error, UnicodeDecodeError)  # the latter for a damaged schema, which SQLite's message quotes
BUSY_TIMEOUT_S = 5.0


class UnusableFileError(StorageError):
    """The file is damaged or belongs to another program; :func:`set_aside` makes room."""


class NewerFileError(StorageError):
    """The file was written by a newer release; it is left alone."""


def _connect(name: str, *, timeout_s: float = BUSY_TIMEOUT_S, is_uri: bool = False) -> Connection:
    db = sqlite3.connect(name, timeout=timeout_s, isolation_level=None, check_same_thread=False, uri=is_uri)
    db.execute("PRAGMA temp_store=MEMORY")  # else inputs and outputs pass through the system's temporary folder
    return db


def open_shared(path: Path) -> Connection:
    """A file that several processes may write (WAL), made with mode 0600 if it is missing.

    Raises Error, OSError, UnusableFileError.
    """
    _create_private(path)
    db = _connect(str(path))
    try:
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=NORMAL")
        db.execute("PRAGMA secure_delete=ON")  # Debian's SQLite does so by itself, most others leave what was deleted
    except _FAILURES as error:
        db.close()
        raise _explained(path, error) from error
    return db


def open_exclusive(path: Path, *, sync: str = "normal") -> Connection | None:
    """A file that this process holds alone until it ends, however it ends; None while another does.

    The lock is SQLite's own, so it works wherever SQLite does and dies with the process. Nothing else
    may open the file meanwhile: on POSIX closing any other descriptor of it would drop the lock.
    Raises Error, OSError, UnusableFileError.
    """
    _create_private(path)
    db = _connect(str(path), timeout_s=0.0)
    try:
        if path.stat().st_size == 0:  # it would be written into a file that has it already, too
            db.execute("PRAGMA auto_vacuum=INCREMENTAL")  # free pages go, content and all, when somebody asks
        db.execute("PRAGMA locking_mode=EXCLUSIVE")
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("BEGIN EXCLUSIVE")
        db.execute("COMMIT")
        db.execute(f"PRAGMA synchronous={'FULL' if sync == 'full' else 'NORMAL'}")
        db.execute(f"PRAGMA fullfsync={sync == 'full':d}")  # on macOS fsync() leaves the data in the drive's cache
        db.execute("PRAGMA wal_autocheckpoint=16")  # pages: commits are few and small, and so stays the file
        db.execute("PRAGMA secure_delete=FAST")  # what is deleted from a page that stays is overwritten
        if db.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok":
            raise sqlite3.DatabaseError("the file is damaged")
    except _FAILURES as error:
        db.close()
        if is_locked(error):
            return None
        raise _explained(path, error) from error
    return db


def open_existing(path: Path) -> Connection:
    """A file to read, which must be there; reading creates and changes nothing.

    Raises StorageError (``db-missing``, ``db-invalid``).
    """
    if not os.path.isfile(path):  # not Path.is_file: it raises for a name that is too long
        raise StorageError(
            f"there is no database {path}",
            code="db-missing",
            hints=("run the agent with -r to record executions", "or name the file with -db PATH"),
        )
    names = [str(path)]
    if not path.with_name(path.name + "-wal").exists():
        # On a read-only disk SQLite can't make the files that it wants beside one; then nobody writes either.
        names.append(_uri(path.resolve()) + "?immutable=1")
    for name in names:
        db = _connect(name, is_uri=name != names[0])
        try:
            db.execute("PRAGMA query_only=ON")
            db.execute("SELECT count(*) FROM sqlite_master").fetchone()
            return db
        except _FAILURES as error:
            db.close()
            if name == names[-1] or "unable to open" not in str(error):
                raise StorageError(f"{path} can't be read as a database: {error}") from error
    raise AssertionError("unreachable")


def is_locked(error: Exception) -> bool:
    return isinstance(error, sqlite3.OperationalError) and ("locked" in str(error) or "busy" in str(error))


def is_damage(error: Exception) -> bool:
    """True for what another file would mend; a full disk or a lock is not damage."""
    if str(error) == "unsupported file format":  # an OperationalError, for a header that a disk has changed
        return True
    return isinstance(error, (UnusableFileError, sqlite3.DatabaseError, UnicodeDecodeError)) and not isinstance(
        error, (sqlite3.OperationalError, sqlite3.IntegrityError, sqlite3.ProgrammingError)
    )


def inode(path: Path) -> int:
    """Tells a file from another one that has its name later; 0 for none."""
    try:
        return path.stat().st_ino
    except OSError:
        return 0


def set_aside(path: Path) -> Path:
    """Rename a file that can't be used, with what SQLite keeps beside it; never delete it.

    Returns the new path. Raises OSError.
    """
    target = _beside(path)
    for suffix in ("-wal", "-shm", ""):  # the file last: as soon as it is gone, another process may have made a new one
        beside = path.with_name(path.name + suffix)
        if not suffix or beside.exists():
            os.replace(beside, target.with_name(target.name + suffix))
    return target


def open_appending(path: Path) -> io.FileIO:
    """A file of bytes that is only written at its end, made with mode 0600 if it is missing. Raises OSError."""
    _create_private(path)
    return open(path, "ab", buffering=0)


def _beside(path: Path) -> Path:
    """A name for a damaged file that nothing has yet."""
    stamp = datetime.now(timezone.utc).strftime("%Y%m%dT%H%M%SZ")
    target = path.with_name(f"{path.name}.corrupt-{stamp}")
    number = 1
    while target.exists():
        number += 1
        target = path.with_name(f"{path.name}.corrupt-{stamp}-{number}")
    return target


def _uri(path: PurePath) -> str:
    """Not as_uri: SQLite takes no host in an address, so a share must be ``file:////HOST/SHARE/…``."""
    name = path.as_posix()
    return f"file://{'' if name.startswith('/') else '/'}{quote(name, safe='/:')}"


def _create_private(path: Path) -> None:
    """Make the file with mode 0600 before SQLite would make it with the umask's."""
    if not path.exists():
        with suppress(FileExistsError):
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))


def _explained(path: Path, error: Exception) -> Exception:
    if is_damage(error):
        return UnusableFileError(f"{path} is damaged or not a database: {error}")
    return error

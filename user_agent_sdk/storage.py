# SPDX-License-Identifier: Apache-2.0
"""The one opener of SQLite files: modes, locks, checks. Nothing newer than SQLite 3.31 is used: no RETURNING, no
STRICT, no JSON functions."""

from __future__ import annotations

import os
import sqlite3
from contextlib import suppress
from pathlib import Path, PurePath
from urllib.parse import quote

from .errors import StorageError, is_hidden
from .private import check_own

Connection = sqlite3.Connection
Error = sqlite3.Error
_FAILURES = (sqlite3.Error, UnicodeDecodeError)  # the latter for a damaged schema, which SQLite's message quotes
BUSY_TIMEOUT_S = 5.0


def _connect(name: str, *, is_uri: bool = False) -> Connection:
    db = sqlite3.connect(name, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False, uri=is_uri)
    db.execute("PRAGMA temp_store=MEMORY")  # else inputs and outputs pass through the system's temporary folder
    db.execute("PRAGMA trusted_schema=OFF")
    return db


def open_shared(path: Path) -> Connection:
    """A file that several processes may write (WAL), made with mode 0600 if it is missing. Raises Error, OSError,
    StorageError for a damaged file and for what others may have put there."""
    _check_own(path)
    with suppress(FileExistsError):  # SQLite would make it with the umask's mode
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    db = _connect(str(path))
    try:
        try:
            db.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            if "locked" not in str(error):  # else another process does the same now, which SQLite does not wait for
                raise
        db.execute("PRAGMA synchronous=NORMAL")
        db.execute("PRAGMA secure_delete=ON")  # the default of Debian's SQLite; most others leave deleted rows
    except _FAILURES as error:
        db.close()
        if is_damage(error):
            raise StorageError(f"{path} is damaged or not a database: {error}") from error
        raise
    return db


def open_existing(path: Path, is_named: bool = True) -> Connection:
    """A file to read, which must be there; reading creates and changes nothing. One that was found by its name alone,
    not ``is_named``, must be ours or root's. Raises StorageError (``db-missing``, ``db-invalid``)."""
    try:
        if not is_named:
            _check_own(path, or_roots=True)
    except (StorageError, OSError) as error:
        raise StorageError(str(error), hints=("name it with -db if you trust it",)) from None
    if not os.path.isfile(path) and not is_hidden(path):  # not Path.is_file, which raises for a name that is too long
        hints = ("run the agent with -r to record executions", "or name the file with -db PATH")
        raise StorageError(f"there is no database {path}", code="db-missing", hints=hints)
    names = [str(path)]
    if not os.path.exists(f"{path}-wal"):
        # On a read-only disk SQLite can't make -wal and -shm; then nobody else writes either.
        names.append(_uri(Path(os.path.realpath(path))) + "?immutable=1")
    for name in names:
        db = None
        try:
            db = _connect(name, is_uri=name != names[0])
            db.execute("PRAGMA query_only=ON")
            db.execute("SELECT count(*) FROM sqlite_master").fetchone()
            return db
        except _FAILURES as error:
            if db is not None:
                db.close()
            if name == names[-1] or "unable to open" not in str(error):
                raise StorageError(f"{path} can't be read as a database: {error}") from error
    raise AssertionError("unreachable")


def is_damage(error: Exception) -> bool:
    """True for what another file would mend; a full disk or a lock is not damage."""
    if str(error) == "unsupported file format":  # SQLite raises OperationalError for a header that a disk has changed
        return True
    is_fault = isinstance(error, (sqlite3.DatabaseError, UnicodeDecodeError))
    passing = (sqlite3.OperationalError, sqlite3.IntegrityError, sqlite3.ProgrammingError)
    return is_fault and not isinstance(error, passing)


def _check_own(path: Path, or_roots: bool = False) -> None:
    """Raises OSError, StorageError for what others may have put there."""
    for suffix in ("", "-wal", "-shm", "-journal"):  # SQLite opens these files by their names
        check_own(path.with_name(path.name + suffix), or_roots)


def _uri(path: PurePath) -> str:
    """A file's address for SQLite, which takes no host: a share must be ``file:////HOST/SHARE/…``, unlike as_uri."""
    name = path.as_posix()
    return f"file://{'' if name.startswith('/') else '/'}{quote(os.fsencode(name), safe='/:')}"

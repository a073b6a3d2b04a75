# SPDX-License-Identifier: Apache-2.0
"""The journal's files: 1.db, 2.db, … in one folder for each platform and client, and beside each its log.

Whoever can lock a file may take over its rows: the lock is SQLite's own and dies with its process. The log, 1.db-log,
has what changed since the database was last written: an append is on disk, as far as a kill goes, for a third of what
a commit costs. Who locks the file brings what is there into the database first.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import logging
import os
import re
import struct
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ... import storage
from ...conductor.wire import Task, parse_tasks
from ...errors import PlatformError, StorageError

log = logging.getLogger(__name__)

SCHEMA = 3  # 2 had no log beside it, 1 had the late results in a table of their own
APPLICATION_ID = 0x55414A31
TAKEN, RESULT, ONCE, LATE, REJECTED = "taken", "result", "once", "late", "rejected"
DAMAGED = "its row in the journal is damaged"
_FILE_NAME = re.compile(r"(\d+\.db)(-log)?")
_TEXTS = ("state", "task_id", "workflow_id", "agent_id", "worker_id", "status", "input_hash", "reason")


class Entry(NamedTuple):
    """One task's row. ``body`` is the encoded TaskResult; times are epoch milliseconds; ``task`` is the
    platform's reply that brought the task, kept while it runs only if its history will be wanted.

    ``state``: ``taken`` (the function was started), ``result`` (it ended, the report is not acknowledged),
    ``once`` (being sent, and never to be sent again), ``late`` (the platform has it and may have ignored it, since
    ``taken_ms``) or ``rejected`` (refused for good, kept for a human).
    """

    state: str
    task_id: str
    workflow_id: str
    agent_id: str
    worker_id: str
    status: str = ""
    body: bytes = b""
    input_hash: str = ""
    taken_ms: int = 0
    lease_until_ms: int = 0
    lease_s: float | None = None
    reason: str = ""
    task: bytes = b""

    @property
    def is_pending(self) -> bool:
        """Something is still to be done for the platform."""
        return self.state not in (LATE, REJECTED)

    def is_same_work(self, other: Entry) -> bool:
        """The same agent and the same input: one's result answers the other."""
        return bool(self.input_hash) and (self.agent_id, self.input_hash) == (other.agent_id, other.input_hash)


_TABLE = (
    "CREATE TABLE entry(id INTEGER PRIMARY KEY, state TEXT, task_id TEXT, workflow_id TEXT, agent_id TEXT,"
    " worker_id TEXT, status TEXT, body BLOB, input_hash TEXT, taken_ms INTEGER, lease_until_ms INTEGER,"
    " lease_s REAL, reason TEXT, task BLOB)"
)
_MARKS = (f"PRAGMA application_id={APPLICATION_ID}", f"PRAGMA user_version={SCHEMA}")
_FROM_1 = (
    "INSERT INTO entry SELECT NULL, 'late', task_id, '-', agent_id, '', 'COMPLETED', body, input_hash, kept_ms, 0,"
    " NULL, '', x'' FROM late",
    "DROP TABLE late",
)
_WRITE = "REPLACE INTO entry VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?)"
_HEAD = struct.Struct(">II")  # of a record in the log: the CRC-32 of what follows, and its length
_BODY, _TASK = Entry._fields.index("body"), Entry._fields.index("task")


def folder_of(root: Path, *identity: str) -> Path:
    """The subfolder for one target (dialect, base URL, client): results never reach another."""
    return root / hashlib.sha256("\0".join(identity).encode("utf-8")).hexdigest()[:12]


def files_of(folder: Path) -> list[Path]:
    """The journal's files in a target's folder, lowest number first. One may be missing while its log is there: it
    was set aside, and who did that was killed before there was a new one."""
    names = {match[1] for path in folder.glob("*.db*") if (match := _FILE_NAME.fullmatch(path.name))}
    return sorted(map(folder.joinpath, names), key=lambda path: int(path.stem))


class File:
    """A file that this process holds alone, until it is closed. Of several threads at once all may append, and one
    may do something else."""

    def __init__(self, db: storage.Connection, log_file: io.FileIO) -> None:
        self._db = db
        self._log = log_file

    def append(self, row: int, entry: Entry) -> int:
        """Write a row to the log; how long that is now, in bytes. Raises OSError, ValueError when it is closed."""
        record = _record(row, entry)
        written = self._log.write(record)
        if written != len(record):
            raise OSError(f"only {written} of {len(record)} bytes could be written: the disk is full")
        return self._log.tell()

    def settle(self, rows: Mapping[int, Entry | None]) -> None:
        """Write these rows to the database, and delete those that are None, in one commit. They must be all that
        changed: the log is empty then. Raises Error, OSError."""
        _store(self._db, rows)
        self._log.truncate(0)

    def read(self) -> dict[int, Entry]:
        """All settled rows by id. What a disk has changed in one is told by its types and its JSON; such a row is
        never sent, but kept for a human."""
        return {row: _entry(values) for row, *values in self._db.execute("SELECT * FROM entry ORDER BY id").fetchall()}

    def shrink(self) -> None:
        """Give free pages back and empty the write-ahead log into the file: what was deleted is then nowhere."""
        self._db.executescript("PRAGMA incremental_vacuum")  # execute() frees one page alone on Python 3.11
        self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def discard(self) -> None:
        """Close a damaged file; what is in its log goes. First closed: an append that comes now must not be in it."""
        self._log.close()
        with contextlib.suppress(OSError):
            os.truncate(self._log.name, 0)
        self._db.close()

    def close(self) -> None:
        self._log.close()
        self._db.close()  # last: the lock is its


def lock(path: Path, sync: str = "normal") -> File | None:
    """The file, made if it is missing, locked until it is closed; None while another process has it.

    Raises Error, OSError, UnusableFileError (damaged, or not a journal), NewerFileError.
    """
    db = storage.open_exclusive(path, sync=sync)
    if db is None:
        return None
    db.text_factory = lambda raw: raw.decode("utf-8", "replace")  # a damaged row must not hide the others
    log_path = path.with_name(path.name + "-log")
    try:
        _prepare(db, path)
        _replay(db, log_path)
        return File(db, storage.open_appending(log_path))
    except BaseException:
        db.close()
        raise


def _record(row: int, entry: Entry) -> bytes:
    fields = [row, *entry]
    fields[1 + _BODY], fields[1 + _TASK] = len(entry.body), len(entry.task)
    content = _json(fields).encode("ascii") + b"\n" + entry.body + entry.task
    return _HEAD.pack(zlib.crc32(content), len(content)) + content


_json = json.JSONEncoder(separators=(",", ":")).encode


def _read_log(data: bytes) -> tuple[dict[int, Entry], int | None]:
    """The last record of each row, and the first byte that is damaged. A kill may have cut off the last record of all:
    that is no damage."""
    rows: dict[int, Entry] = {}
    bad = damaged = None
    start = 0
    while start + _HEAD.size <= len(data):
        checksum, size = _HEAD.unpack_from(data, start)
        end = start + _HEAD.size + size
        is_whole = end <= len(data)  # asked first: what is no head would have all that follows copied
        if is_whole and size and zlib.crc32(content := data[start + _HEAD.size : end]) == checksum:
            texts, _, rest = content.partition(b"\n")
            row, *fields = json.loads(texts)
            fields[_BODY], fields[_TASK] = rest[: fields[_BODY]], rest[fields[_BODY] :]
            rows[row] = Entry(*fields)
            damaged = bad
            start = end
            continue
        if bad is None:
            bad = start
            damaged = start if is_whole else None
        start = data.find(b"[", start + _HEAD.size + 1) - _HEAD.size  # a record's text begins with one
        if start < 0:
            break
    return rows, damaged


def _replay(db: storage.Connection, log_path: Path) -> None:
    if not log_path.exists():
        return
    rows, damaged = _read_log(log_path.read_bytes())
    if rows:
        _store(db, rows)
    if damaged is None:
        os.truncate(log_path, 0)
    else:  # renamed, which takes no room on a full disk
        kept = storage.set_aside(log_path)
        text = "%s is damaged from byte %d on; it is kept as %s, and what can't be read there is not delivered"
        log.error(text, log_path, damaged, kept.name, extra={"action": "journal"})


def _store(db: storage.Connection, rows: Mapping[int, Entry | None]) -> None:
    with _commit(db):
        for row, entry in rows.items():
            try:
                if entry is None:
                    db.execute("DELETE FROM entry WHERE id = ?", (row,))
                else:
                    db.execute(_WRITE, (row, *entry))
            except (ValueError, OverflowError) as error:  # an id that is no text: no other row suffers from it
                log.error("A row can't be stored: %s", error, extra={"action": "journal"})


def _prepare(db: storage.Connection, path: Path) -> None:
    if db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0:
        _execute(db, _TABLE, *_MARKS)
        return
    if db.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
        raise storage.UnusableFileError(f"{path} belongs to another program")
    version = db.execute("PRAGMA user_version").fetchone()[0]
    if version > SCHEMA:
        raise storage.NewerFileError(f"{path} was written by a newer version")
    tables = dict(db.execute("SELECT name, sql FROM sqlite_master").fetchall())
    if tables.get("entry") != _TABLE:
        raise storage.UnusableFileError(f"{path} has not the table of a journal")
    if version < SCHEMA:
        _execute(db, *(_FROM_1 if "late" in tables else ()), *_MARKS)


def _execute(db: storage.Connection, *statements: str) -> None:
    with _commit(db):
        for statement in statements:
            db.execute(statement)


def _entry(values: list[Any]) -> Entry:
    given = Entry(*values)
    texts = {name: _text(getattr(given, name)) for name in _TEXTS}
    lease_s = given.lease_s if isinstance(given.lease_s, float) and 0 < given.lease_s < 10**8 else None
    entry = given._replace(
        **texts,
        body=_bytes(given.body),
        taken_ms=_ms(given.taken_ms, 2**44),  # the year 2527: Windows has no times after 3000
        lease_until_ms=_ms(given.lease_until_ms),
        lease_s=lease_s,
        task=_bytes(given.task),
    )
    can_be_sent = entry.state != RESULT or object_in(entry.body) is not None
    is_known = entry.state in (TAKEN, ONCE, RESULT, LATE, REJECTED) and bool(entry.task_id and entry.workflow_id)
    return entry if can_be_sent and is_known else entry._replace(state=REJECTED, reason=DAMAGED)


def _text(value: object) -> str:
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return "" if value is None else str(value)


def _bytes(value: object) -> bytes:
    return value if isinstance(value, bytes) else _text(value).encode("utf-8")


def _ms(value: object, limit: int = 2**63) -> int:
    return value if isinstance(value, int) and 0 <= value < limit else 0


def object_in(body: bytes) -> dict[str, Any] | None:
    """The JSON object that was kept; None when a disk has made something else of it."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


@contextlib.contextmanager
def _commit(db: storage.Connection) -> Iterator[None]:
    """All that is done meanwhile, or nothing of it."""
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


def task_of(entry: Entry) -> Task:
    """An entry's task as it was handed out; one with the ids alone when that was not kept."""
    with contextlib.suppress(PlatformError):
        for task in parse_tasks(entry.task):
            if task.task_id == entry.task_id:
                return task
    return Task({"taskId": entry.task_id, "workflowInstanceId": entry.workflow_id, "taskType": entry.agent_id})


class Left(NamedTuple):
    """A row in the file of a process that has ended."""

    path: Path
    row: int
    entry: Entry


class Leftovers(NamedTuple):
    """What ended processes left; the files of those that run; and those that can't be read, with the reason."""

    rows: list[Left]
    in_use: list[Path]
    unusable: list[tuple[Path, Exception]]


def leftovers(root: Path) -> Leftovers:
    """Look into every target's folder of a journal folder. Only files that can be locked are read."""
    found = Leftovers([], [], [])
    folders = sorted(root.glob("*/")) if os.path.isdir(root) else []  # glob() raises for a name that is too long
    for path in [path for folder in folders for path in files_of(folder)]:
        try:
            file = lock(path)
            if file is None:
                found.in_use.append(path)
                continue
            with contextlib.closing(file):
                found.rows.extend(Left(path, row, entry) for row, entry in file.read().items() if entry.state != LATE)
        except (storage.Error, StorageError, OSError) as error:
            found.unusable.append((path, error))
    return found


def change(left: Left, entry: Entry | None) -> bool:
    """Replace a row that was found, or delete it (None). False when a worker has taken it meanwhile.

    Raises Error, StorageError, OSError."""
    file = lock(left.path)
    if file is None:
        return False
    with contextlib.closing(file):
        if file.read().get(left.row) != left.entry:
            return False
        file.settle({left.row: entry})
        file.shrink()
        return True

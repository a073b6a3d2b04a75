"""The journal's files: 1.db, 2.db, … in one folder for each platform and client.

Whoever can lock a file may take over its rows: the lock is SQLite's own and dies with its process.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from .. import storage
from ..conductor.wire import Task, parse_tasks
from ..errors import PlatformError, StorageError

SCHEMA = 2  # 1 had the late results in a table of their own
APPLICATION_ID = 0x55414A31
TAKEN, RESULT, ONCE, LATE, REJECTED = "taken", "result", "once", "late", "rejected"
DAMAGED = "its row in the journal is damaged"
_FILE_NAME = re.compile(r"\d+\.db")
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
WRITE = "REPLACE INTO entry VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?)"
DELETE = "DELETE FROM entry WHERE id = ?"
CLEAR = "DELETE FROM entry"


def folder_of(root: Path, *identity: str) -> Path:
    """The subfolder for one target (dialect, base URL, client): results never reach another."""
    return root / hashlib.sha256("\0".join(identity).encode("utf-8")).hexdigest()[:12]


def files_of(folder: Path) -> list[Path]:
    """The journal's files in a target's folder, lowest number first."""
    found = [path for path in folder.glob("*.db") if _FILE_NAME.fullmatch(path.name)]
    return sorted(found, key=lambda path: int(path.stem))


def lock(path: Path, sync: str = "normal") -> storage.Connection | None:
    """The file, made if it is missing, locked until it is closed; None while another process has it.

    Raises Error, OSError, UnusableFileError (damaged, or not a journal), NewerFileError.
    """
    db = storage.open_exclusive(path, sync=sync)
    if db is not None:
        db.text_factory = lambda raw: raw.decode("utf-8", "replace")  # a damaged row must not hide the others
        try:
            _prepare(db, path)
        except BaseException:
            db.close()
            raise
    return db


def _prepare(db: storage.Connection, path: Path) -> None:
    if db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0:
        write_all(db, [(statement, ()) for statement in (_TABLE, *_MARKS)])
        return
    if db.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
        raise storage.UnusableFileError(f"{path} belongs to another program")
    version = db.execute("PRAGMA user_version").fetchone()[0]
    if version > SCHEMA:
        raise storage.NewerFileError(f"{path} was written by a newer version")
    if _TABLE not in {sql for (sql,) in db.execute("SELECT sql FROM sqlite_master")}:
        raise storage.UnusableFileError(f"{path} has not the table of a journal")
    if version < SCHEMA:
        write_all(db, [(statement, ()) for statement in (*_FROM_1, *_MARKS)])


def read(db: storage.Connection) -> dict[int, Entry]:
    """All rows by id. What a disk has changed in one is told by its types and its JSON; such a row is never
    sent, but kept for a human."""
    return {row: _entry(values) for row, *values in db.execute("SELECT * FROM entry ORDER BY id").fetchall()}


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


def write(db: storage.Connection, row: int, entry: Entry) -> None:
    db.execute(WRITE, (row, *entry))


def write_all(db: storage.Connection, statements: Iterable[tuple[str, Any]]) -> None:
    """Several statements, one commit: all of them or none."""
    db.execute("BEGIN IMMEDIATE")
    try:
        for statement, values in statements:
            db.execute(statement, values)
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


def shrink(db: storage.Connection) -> None:
    """Give free pages back and empty the write-ahead log into the file: what was deleted is then nowhere."""
    db.executescript("PRAGMA incremental_vacuum")  # execute() frees one page alone on Python 3.11
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


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
    for path in [path for folder in sorted(root.glob("*/")) for path in files_of(folder)]:
        try:
            db = lock(path)
            if db is None:
                found.in_use.append(path)
                continue
            with contextlib.closing(db):
                found.rows.extend(Left(path, row, entry) for row, entry in read(db).items() if entry.state != LATE)
        except (storage.Error, StorageError, OSError) as error:
            found.unusable.append((path, error))
    return found


def change(left: Left, entry: Entry | None) -> bool:
    """Replace a row that was found, or delete it (None). False when a worker has taken it meanwhile.

    Raises Error, StorageError, OSError."""
    db = lock(left.path)
    if db is None:
        return False
    with contextlib.closing(db):
        if read(db).get(left.row) != left.entry:
            return False
        write_all(db, [(DELETE, (left.row,)) if entry is None else (WRITE, (left.row, *entry))])
        shrink(db)
        return True

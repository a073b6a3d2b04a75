"""What was taken and what is not yet delivered, on disk before anything depends on it.

One SQLite file a process (1.db, 2.db, …), held by SQLite's own exclusive lock, which dies with the
process: whoever can lock a file may take over its rows. A row says ``taken`` (the function was
started), ``result`` (it ended, the report is not acknowledged), ``once`` (being sent, and never to be
sent again) or ``rejected`` (refused for good, kept for a human). Late results are kept beside them.

Nothing here ever stops a task: what can't be written is kept in memory and written when it can be.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
import threading
import time
from collections import OrderedDict
from pathlib import Path
from typing import Any, Callable, NamedTuple

from .. import storage
from ..conductor.wire import Task

log = logging.getLogger(__name__)

SCHEMA = 1
APPLICATION_ID = 0x55414A31
TAKEN, RESULT, ONCE, REJECTED = "taken", "result", "once", "rejected"
LATE_KEPT_S = 24 * 3600
LATE_ROWS = 1000
LATE_BYTES = 64 * 1024 * 1024
CHECKPOINT_EVERY_S = 10.0
REOPEN_EVERY_S = 5.0
FILE_NAME = re.compile(r"\d+\.db")


class Entry(NamedTuple):
    """One task's row. ``body`` is the encoded TaskResult; times are epoch milliseconds; ``task`` is the
    task's own JSON, kept while it runs only if its history will be wanted."""

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


class Late(NamedTuple):
    """A result that the platform may have ignored because it came too late."""

    agent_id: str
    input_hash: str
    body: bytes
    kept_ms: int


_ROWS = (
    "CREATE TABLE IF NOT EXISTS entry(id INTEGER PRIMARY KEY, state TEXT, task_id TEXT, workflow_id TEXT,"
    " agent_id TEXT, worker_id TEXT, status TEXT, body BLOB, input_hash TEXT, taken_ms INTEGER,"
    " lease_until_ms INTEGER, lease_s REAL, reason TEXT, task BLOB)"
)
_LATE = (
    "CREATE TABLE IF NOT EXISTS late(task_id TEXT PRIMARY KEY, agent_id TEXT, input_hash TEXT, body BLOB,"
    " kept_ms INTEGER)"
)
_WRITE = "REPLACE INTO entry VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?)"
_WRITE_LATE = "REPLACE INTO late VALUES (?,?,?,?,?)"
_READ_LATE = "SELECT task_id, agent_id, input_hash, body, kept_ms FROM late ORDER BY kept_ms"
_READ = (
    "SELECT id, state, task_id, workflow_id, agent_id, worker_id, status, body, input_hash, taken_ms,"
    " lease_until_ms, lease_s, reason, task FROM entry ORDER BY id"
)


def input_hash(task: Task) -> str:
    """SHA-256 of the input's JSON with sorted keys: tells whether a retry asks for the same work. Empty
    for an input that can't be told (too deep to encode), which is like no other."""
    try:
        return hashlib.sha256(json.dumps(task.input_data, sort_keys=True).encode("ascii")).hexdigest()
    except RecursionError:
        return ""


def stored_task(entry: Entry) -> dict[str, Any]:
    """The wire object of an entry's task: all of it when it was kept, else the ids."""
    wire = json.loads(entry.task) if entry.task else {}
    return {"taskId": entry.task_id, "workflowInstanceId": entry.workflow_id, "taskType": entry.agent_id, **wire}


def folder_of(root: Path, *identity: str) -> Path:
    """The subfolder for one target (dialect, base URL, client): results never reach another."""
    return root / hashlib.sha256("\0".join(identity).encode("utf-8")).hexdigest()[:12]


class Journal:
    """The journal of one process; ``folder`` None keeps all of it in memory. Safe from any thread."""

    def __init__(self, folder: Path | None, sync: str = "normal", wall: Callable[[], float] = time.time) -> None:
        self._folder = folder
        self._sync = sync
        self._wall = wall
        self._lock = threading.Lock()  # guards all below, and each statement on _db
        self._db: storage.Connection | None = None
        self._path: Path | None = None
        self._live: dict[int, Entry] = {}
        self._free: list[int] = []  # rows that are done with, to be replaced or swept
        self._swept: list[int] = []
        self._last_id = 0
        self._late: OrderedDict[str, Late] = OrderedDict()
        self._late_bytes = 0
        self._trouble = ""  # why the file can't be written now
        self._said: set[str] = set()  # what was logged and need not be again
        self._arrived: list[int] = []  # rows found in a file that was opened late
        self._retry_at = 0.0
        self._checkpoint_at = 0.0

    # -- the life of a row -------------------------------------------------------------------------

    def add(self, entry: Entry) -> int:
        """Write a new row; its id."""
        with self._lock:
            row = self._free.pop() if self._free else self._last_id + 1
            self._last_id = max(self._last_id, row)
            self._write(row, entry)
            return row

    def replace(self, row: int, entry: Entry) -> None:
        with self._lock:
            self._write(row, entry)

    def free(self, row: int) -> None:
        """The row is done with. It goes with the next task's row, or within a second."""
        with self._lock:
            if self._live.pop(row, None) is not None:
                self._free.append(row)

    def live(self) -> dict[int, Entry]:
        """All rows that are not done with."""
        with self._lock:
            return dict(self._live)

    # -- late results ------------------------------------------------------------------------------

    def keep_late(self, task_id: str, late: Late) -> None:
        """Keep a result that came after its lease: the platform answers 200 and ignores it, and hands
        out the same work again under a new id."""
        with self._lock:
            self._late[task_id] = late
            self._late_bytes += len(late.body)
            self._run(_WRITE_LATE, (task_id, *late))
            while self._late and self._is_late_overfull():
                self._drop_late(next(iter(self._late)))

    def find_late(self, task: Task, agent_id: str) -> bytes | None:
        """The body of the held COMPLETED result of the attempt that ``task`` retries, if the work is
        the same; it is from now on kept under the new id."""
        if not task.retried_task_id:
            return None
        with self._lock:
            late = self._late.get(task.retried_task_id)
            if late is None or late.agent_id != agent_id or late.input_hash != (input_hash(task) or None):
                return None
            self._drop_late(task.retried_task_id)
        self.keep_late(task.task_id, late._replace(kept_ms=int(self._wall() * 1000)))
        return late.body

    def forget_late(self, task_id: str) -> None:
        with self._lock:
            if task_id in self._late:
                self._drop_late(task_id)

    def _is_late_overfull(self) -> bool:
        oldest = next(iter(self._late.values()))
        too_old = oldest.kept_ms < (self._wall() - LATE_KEPT_S) * 1000
        return too_old or len(self._late) > LATE_ROWS or self._late_bytes > LATE_BYTES

    def _drop_late(self, task_id: str) -> None:
        self._late_bytes -= len(self._late.pop(task_id).body)
        self._run("DELETE FROM late WHERE task_id = ?", (task_id,))

    # -- the file ----------------------------------------------------------------------------------

    def open(self) -> dict[int, Entry]:
        """Lock the first free file of the folder; its rows, left by a process that ended."""
        with self._lock:
            self._open()
            return self._take_arrived()

    def adopt(self) -> dict[int, Entry]:
        """Take over the rows of every file whose process ended; the rows that came."""
        for path in sorted(self._folder.glob("*.db")) if self._folder is not None else ():
            with self._lock:
                if path == self._path or not FILE_NAME.fullmatch(path.name) or self._db is None:
                    continue
                try:
                    self._adopt(path)
                except (storage.Error, OSError, storage.UnusableFileError) as error:
                    log.debug("%s was not adopted: %s", path, error, extra=_ACTION)
        with self._lock:
            return self._take_arrived()

    def sweep(self) -> None:
        """Upkeep, twice a second: done rows go, an empty file shrinks, a broken one is tried again."""
        with self._lock:
            if self._trouble and time.monotonic() >= self._retry_at:
                self._reopen()
            rows = [row for row in self._swept if row in set(self._free)]
            if rows and self._run(f"DELETE FROM entry WHERE id IN ({','.join('?' * len(rows))})", rows):  # noqa: S608
                self._free = [row for row in self._free if row not in set(rows)]
            self._swept = list(self._free)
            if not self._live and not self._free:
                self._last_id = 0
                self._checkpoint()
            while self._late and self._is_late_overfull():
                self._drop_late(next(iter(self._late)))

    def close(self) -> None:
        with self._lock:
            if self._db is not None:
                if self._free:
                    self._run(f"DELETE FROM entry WHERE id IN ({','.join('?' * len(self._free))})", self._free)  # noqa: S608
                self._checkpoint_at = 0.0
                self._checkpoint()
                self._db.close()
                self._db = None

    def _write(self, row: int, entry: Entry) -> None:
        self._live[row] = entry
        self._run(_WRITE, (row, *entry))

    def _run(self, statement: str, values: Any = ()) -> bool:
        """One statement, one commit. False, and said once, when it could not be written."""
        if self._db is None or self._trouble:
            return False
        try:
            self._db.execute(statement, values)
        except (storage.Error, OSError) as error:
            self._failed(error)
            return False
        return True

    def _failed(self, error: Exception) -> None:
        self._trouble = str(error) or type(error).__name__
        self._retry_at = time.monotonic() + REOPEN_EVERY_S
        text = "The journal %s can't be written (%s): results are kept in memory only until it can"
        self._say("trouble", logging.ERROR, text, self._path or self._folder, error)
        if storage.is_damage(error) and self._db is not None and self._path is not None:
            self._db.close()
            self._db = None
            self._set_aside(self._path)

    def _reopen(self) -> None:
        self._trouble = ""
        if self._db is None:
            self._open()
        rows: list[tuple[str, Any]] = [(_WRITE, (row, *entry)) for row, entry in self._live.items()]
        rows += [(_WRITE_LATE, (task_id, *late)) for task_id, late in self._late.items()]
        if self._db is not None and all(self._run(*row) for row in rows) and self._run("SELECT 1"):
            self._said.discard("trouble")
            log.warning("The journal %s is written again", self._path, extra=_ACTION)

    def _say(self, key: str, level: int, text: str, *values: object) -> None:
        if key not in self._said:
            self._said.add(key)
            log.log(level, text, *values, extra=_ACTION)

    def _checkpoint(self) -> None:
        if self._db is not None and time.monotonic() >= self._checkpoint_at:
            self._checkpoint_at = time.monotonic() + CHECKPOINT_EVERY_S
            self._run("PRAGMA wal_checkpoint(TRUNCATE)")

    def _open(self) -> None:
        if self._folder is None:
            return
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            number = 0
            while self._db is None:
                number += 1
                self._path = self._folder / f"{number}.db"
                self._db = self._lock_file(self._path)
            self._read(self._db)
        except (storage.Error, OSError, storage.UnusableFileError) as error:
            self._failed(error)

    def _lock_file(self, path: Path) -> storage.Connection | None:
        """The file, locked and with our schema; None when another process has it, or it is newer."""
        try:
            return self._lock_once(path)
        except storage.UnusableFileError:
            self._set_aside(path)
            return self._lock_once(path)

    def _lock_once(self, path: Path) -> storage.Connection | None:
        db = storage.open_exclusive(path, sync=self._sync)
        if db is None:
            return None
        try:
            if self._has_our_schema(db, path):
                return db
        except BaseException:
            db.close()
            raise
        db.close()
        return None

    def _has_our_schema(self, db: storage.Connection, path: Path) -> bool:
        version = db.execute("PRAGMA user_version").fetchone()[0]
        owner = db.execute("PRAGMA application_id").fetchone()[0]
        is_new = db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0
        if is_new:
            db.execute("BEGIN IMMEDIATE")
            for statement in (_ROWS, _LATE, f"PRAGMA application_id={APPLICATION_ID}", f"PRAGMA user_version={SCHEMA}"):
                db.execute(statement)
            db.execute("COMMIT")
        elif owner != APPLICATION_ID:
            raise storage.UnusableFileError(f"{path} belongs to another program")
        elif version > SCHEMA:
            self._say(str(path), logging.WARNING, "%s was written by a newer version; it is left alone", path)
            return False
        return True

    def _set_aside(self, path: Path) -> None:
        kept = storage.set_aside(path)
        text = "The journal %s is damaged or not ours; it is kept as %s and what it held is not delivered"
        log.error(text, path, kept.name, extra=_ACTION)

    def _read(self, db: storage.Connection) -> list[str]:
        """Take what ``db`` holds into memory, under row ids of our own; the late results' task ids."""
        keep_ids = db is self._db and not self._live
        for row, *values in db.execute(_READ).fetchall():
            row = row if keep_ids else self._last_id + 1
            self._last_id = max(self._last_id, row)
            self._live[row] = Entry(*values)
            self._arrived.append(row)
        if db is self._db and not keep_ids:
            db.execute("DELETE FROM entry")  # whoever opened the file late writes all rows again
        late = {task_id: Late(*values) for task_id, *values in db.execute(_READ_LATE).fetchall()}
        self._late.update(late)
        self._late_bytes = sum(len(held.body) for held in self._late.values())
        return list(late)

    def _take_arrived(self) -> dict[int, Entry]:
        rows, self._arrived = self._arrived, []
        return {row: self._live[row] for row in rows if row in self._live}

    def _adopt(self, path: Path) -> None:
        other = self._lock_file(path)
        if other is None:
            return
        try:
            before = len(self._arrived)
            late = self._read(other)
            for row in self._arrived[before:]:
                self._run(_WRITE, (row, *self._live[row]))
            for task_id in late:
                self._run(_WRITE_LATE, (task_id, *self._late[task_id]))
            if not self._trouble:  # else they stay there too: twice is better than not at all
                other.execute("BEGIN IMMEDIATE")
                other.execute("DELETE FROM entry")
                other.execute("DELETE FROM late")
                other.execute("COMMIT")
                other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        finally:
            other.close()


_ACTION = {"action": "journal"}

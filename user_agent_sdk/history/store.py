# SPDX-License-Identifier: Apache-2.0
"""The history's file: its tables, what is read from them, and how old executions are taken out.

0.2.0, whose files are read as they are, unpacks exactly the ten columns of ``execution_history``, so whatever else is
known about an execution is in ``execution_facts``, under the same id.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, closing, suppress
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any, Callable, NamedTuple

from ..errors import StorageError
from ..storage import Connection, Error, open_existing, open_shared
from ..values import utf8
from . import times

DISORDER_ROWS = 1000  # rows lie in the order of their ends, save where two processes or a clock step mix them
PRUNE_ROWS = 500  # rows in a commit: a worker that records never waits long
MAX_US = 10**17  # of the year 5138
DEPTH_MAX = 200  # beyond this depth the json module may run out of stack
_BIG = ("input_data", "output_data", "logs")


class Record(NamedTuple):
    """One execution. The first ten fields are the columns of ``execution_history``, as stored, but that
    the two times have their offset where it is known; the rest is None for what 0.2.0 recorded, save ``duration_ms``,
    which then comes from the two times."""

    id: int
    task_id: str | None
    agent_id: str | None
    user_agent_id: str | None
    started_at: str | None
    ended_at: str | None
    status: str | None
    input_data: str | None
    output_data: str | None
    error_message: str | None
    duration_ms: int | None = None
    attempt: int | None = None
    worker_id: str | None = None
    workflow_id: str | None = None
    wire_task_id: str | None = None
    platform_status: str | None = None
    logs: str | None = None
    altered: str | None = None

    def to_json(self) -> dict[str, Any]:
        """The ten columns, JSON texts parsed (what is none stays text), and ``extra`` for the rest."""
        document = {name: parse(value) if name in _BIG else value for name, value in self._asdict().items()}
        document["extra"] = {name: document.pop(name) for name in FACTS}
        return document

    def log_lines(self) -> list[tuple[str, str]]:
        """(local time of day, text) of each line."""
        lines = parse(self.logs)
        known = [line if isinstance(line, dict) else {"log": line} for line in lines] if isinstance(lines, list) else []
        return [(times.clock(line.get("created_ms")), str(line.get("log", ""))) for line in known]


COLUMNS, FACTS = Record._fields[:10], Record._fields[10:]
# In microseconds of the epoch: started_at and ended_at are 0.2.0's, local time without its offset.
INSTANTS = ("started_us", "ended_us")

CLEAN = 1  # user_version of a file in which everything that was deleted was overwritten

_TABLES = (
    """CREATE TABLE IF NOT EXISTS execution_history (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        task_id TEXT, agent_id TEXT, user_agent_id TEXT, started_at TEXT, ended_at TEXT,
        status TEXT CHECK (status IN ('success', 'error')),
        input_data TEXT, output_data TEXT, error_message TEXT)""",
    "CREATE INDEX IF NOT EXISTS idx_agent_id ON execution_history(agent_id)",
    "CREATE INDEX IF NOT EXISTS idx_user_agent_id ON execution_history(user_agent_id)",
    "CREATE INDEX IF NOT EXISTS idx_status ON execution_history(status)",
    """CREATE TABLE IF NOT EXISTS execution_facts (
        id INTEGER PRIMARY KEY,
        duration_ms INTEGER, attempt INTEGER, worker_id TEXT, workflow_id TEXT, wire_task_id TEXT,
        platform_status TEXT, logs TEXT, altered TEXT, started_us INTEGER, ended_us INTEGER)""",
)


def check(db: Connection) -> bool:
    """Whether there is a history here, False for a database without any table. Raises Error, and StorageError for
    somebody else's, or one that would do more with a row than keep it."""
    if extra := db.execute("SELECT type, name FROM sqlite_master WHERE type IN ('trigger', 'view')").fetchone():
        raise StorageError("it has a {} called {!r}, which none of ours has".format(*extra))
    has_tables = db.execute("SELECT 1 FROM sqlite_master WHERE type = 'table'").fetchone()  # now; another process
    columns = {row[1] for row in db.execute("PRAGMA table_info(execution_history)")}  # may make ours in between
    if columns and not columns.issuperset(COLUMNS):
        raise StorageError("its table execution_history has other columns than an execution history")
    if has_tables and not columns:
        raise StorageError("it is the database of another program: it has no execution_history")
    return bool(columns)


def facts(db: Connection) -> list[str]:
    """The columns of ``execution_facts``; none where there is no such table. Raises Error."""
    return [row[1] for row in db.execute("PRAGMA table_info(execution_facts)")]


def prepare(db: Connection) -> None:
    """Make missing tables and columns. Raises as :func:`check` does."""
    if not check(db):
        with suppress(Error):  # another process may be as far as we are
            clean(db)
    with db:  # commits, or rolls back
        db.execute("BEGIN IMMEDIATE")
        for statement in _TABLES:
            db.execute(statement)
        for name in set(INSTANTS).difference(facts(db)):  # a file of 1.0.0
            db.execute(f"ALTER TABLE execution_facts ADD COLUMN {name} INTEGER")


def clean(db: Connection) -> None:
    """Write the file anew, once: others left in its free space what they deleted, and it could give none back.
    Raises Error."""
    if db.execute("PRAGMA user_version").fetchone()[0] < CLEAN:
        db.executescript(f"PRAGMA auto_vacuum=INCREMENTAL; VACUUM; PRAGMA user_version={CLEAN}")


def parse(text: str | None) -> Any:
    """The value of a stored JSON text; the text itself where it is no JSON, or nested too deep to be shown."""
    if text is None:
        return None
    try:
        value = json.loads(text, parse_constant=str)  # NaN, which 0.2.0 may have written, is no JSON
    except (ValueError, RecursionError):
        return text
    deep = text.count("[") + text.count("{") > DEPTH_MAX and _is_deep(value)
    return text if deep else value


def _is_deep(value: Any) -> bool:
    level = [value]
    for _ in range(DEPTH_MAX):
        level = [item for part in level if isinstance(part, (dict, list))
                 for item in (part.values() if isinstance(part, dict) else part)]  # fmt: skip
    return bool(level)


class History(AbstractContextManager["History"]):
    """A history file, open for reading; see ``open_existing`` for ``is_named``.

    Raises StorageError (``db-missing``, ``db-invalid``)."""

    def __init__(self, path: Path, is_named: bool = True) -> None:
        self.path = path
        self._db = open_existing(path, is_named)
        # Another program may have stored bytes that are not UTF-8.
        self._db.text_factory = lambda raw: raw.decode("utf-8", "replace")
        try:
            if not check(self._db):
                raise StorageError("it has no table yet")
            self._facts = facts(self._db)
        except (Error, StorageError) as error:
            self._db.close()
            raise StorageError(f"{path} can't be read as an execution history: {error}") from None

    def __exit__(self, *_: object) -> None:
        self._db.close()

    def find(self, *, agent_id: str | None = None, user_agent_id: str | None = None, status: str | None = None,
             since: datetime | None = None, until: datetime | None = None, task: str | None = None,
             after_id: int | None = None, limit: int | None = None, full: bool = True) -> Iterator[Record]:  # fmt: skip
        """Newest first; with ``after_id`` what came after that one, oldest first. None = all.

        ``since``: those that ended then or later; ``until``: before then. ``task``: those one of whose ids (of the
        task, here or on the wire, of the workflow) begins so. Not ``full``: without input, output and logs.
        Raises StorageError.
        """
        given = {"h.agent_id = ?": agent_id, "h.user_agent_id = ?": user_agent_id, "h.id > ?": after_id}
        # The plus keeps SQLite from taking the index on the status, which most rows share, over that on an id.
        given["+h.status = ?" if agent_id or user_agent_id else "h.status = ?"] = status
        wanted = {term: value for term, value in given.items() if value not in (None, "")}
        if task:
            ids = ["h.task_id", *(["f.wire_task_id", "f.workflow_id"] if self._facts else [])]
            wanted["? IN (" + ", ".join(f"substr({name}, 1, {len(task)})" for name in ids) + ")"] = task
        where = "WHERE " + " AND ".join(wanted) if wanted else ""
        left_out = () if full else _BIG
        names = [f"h.{name}" if name not in left_out else "NULL" for name in COLUMNS]
        facts = (*FACTS, *INSTANTS)
        names += [f"f.{name}" if name in self._facts and name not in left_out else "NULL" for name in facts]
        joined = "LEFT JOIN execution_facts f ON f.id = h.id" if self._facts else ""
        order = "DESC" if after_id is None else "ASC"
        query = f"SELECT {', '.join(names)} FROM execution_history h {joined} {where} ORDER BY h.id {order}"  # noqa: S608
        try:
            records: Iterator[Record] = map(_record, self._db.execute(query, [*map(utf8, wanted.values())]))
            if until is not None:
                records = (record for record in records if (_end(record) or until) < until)
            yield from islice(records if since is None else _ended(records, since.__le__), limit)
        except Error as error:
            raise StorageError(f"{self.path} can't be read: {error}") from None


def _end(record: Record) -> datetime | None:
    return times.moment(record.ended_at) or times.moment(record.started_at)


def _ended(records: Iterable[Record], is_wanted: Callable[[datetime], bool]) -> Iterator[Record]:
    """The records whose end is wanted, until a long run of records is not. A time that can't be read is not wanted."""
    passed, now = 0, datetime.now().astimezone()
    for record in records:
        when = _end(record)
        passed += when is None or when <= now  # not those of a clock that ran ahead
        if when is not None and is_wanted(when):
            passed = 0
            yield record
        elif passed == DISORDER_ROWS:
            return


def _record(row: tuple[Any, ...]) -> Record:
    """Texts where there should be texts and numbers where numbers, whatever is stored; and the instants, where they are
    known, in place of local times."""
    fields: dict[str, Any] = dict(zip(Record._fields, row))
    for name, value in fields.items():
        if name in ("id", "duration_ms", "attempt"):
            fields[name] = value if isinstance(value, (int, float)) and abs(value) <= 2**63 else None  # not Infinity
        elif value is not None:
            fields[name] = value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
    for name, us in zip(("started_at", "ended_at"), row[-len(INSTANTS) :]):
        if isinstance(us, int) and 0 < us < MAX_US:
            fields[name] = times.stamp(us / 1e6)
    if fields["duration_ms"] is None:
        started, ended = times.moment(fields["started_at"]), times.moment(fields["ended_at"])
        if started and ended:
            fields["duration_ms"] = max(0, round((ended - started).total_seconds() * 1000))
    return Record(**fields)


def prune(path: Path, before: datetime, dry_run: bool, is_named: bool = True) -> int:
    """Delete the executions that ended before then; how many there were (with ``dry_run``: are).

    Raises StorageError.
    """
    with History(path, is_named) as history:  # raises for a damaged file, without changing it
        ids = [(record.id,) for record in _ended(history.find(after_id=0, full=False), before.__gt__)]
    if dry_run or not ids:
        return len(ids)
    try:
        with closing(open_shared(path)) as db:
            prepare(db)
            for start in range(0, len(ids), PRUNE_ROWS):
                with db:
                    db.execute("BEGIN IMMEDIATE")
                    for table in ("execution_history", "execution_facts"):
                        db.executemany(f"DELETE FROM {table} WHERE id = ?", ids[start : start + PRUNE_ROWS])  # noqa: S608
                # Has an effect where the file was made for it. Not execute(), which takes one step only.
                db.executescript("PRAGMA incremental_vacuum")
            clean(db)
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    except (Error, OSError) as error:
        raise StorageError(f"{path} can't be pruned: {error}", code="io") from None
    return len(ids)

# SPDX-License-Identifier: Apache-2.0
"""The history's tables: 0.2.0's own, exactly, and one of ours beside it.

0.2.0 unpacks exactly the ten columns of ``execution_history``, so whatever else is known about an
execution is in ``execution_facts``, under the same id.
"""

from __future__ import annotations

from contextlib import suppress

from ..errors import StorageError
from ..storage import Connection, Error

COLUMNS = (
    "id", "task_id", "agent_id", "user_agent_id", "started_at", "ended_at", "status",
    "input_data", "output_data", "error_message",
)  # fmt: skip
FACTS = ("duration_ms", "attempt", "worker_id", "workflow_id", "wire_task_id", "platform_status", "logs", "altered")
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

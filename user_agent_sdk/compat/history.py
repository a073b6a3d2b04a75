# SPDX-License-Identifier: Apache-2.0
"""The history database as 0.2.0 wrote and read it from Python."""

from __future__ import annotations

import threading
from functools import partial
from pathlib import Path
from typing import Any

from ..history.store import COLUMNS, prepare
from ..storage import Connection, open_shared

_INTO = ", ".join(COLUMNS[1:])


class ExecutionHistory:
    """A history file, made when it is first used. Rows are tuples of the ten columns. Thread-safe."""

    def __init__(self, db_path: str = "execution_history.db") -> None:
        self.db_path = db_path
        self._lock = threading.RLock()  # guards _db
        self._db: Connection | None = None

    def _rows(self, statement: str, values: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        with self._lock:
            if self._db is None:
                is_file = self.db_path != ":memory:"
                memory = partial(Connection, ":memory:", isolation_level=None, check_same_thread=False)
                self._db = open_shared(Path(self.db_path)) if is_file else memory()
                prepare(self._db)
            return self._db.execute(statement, values).fetchall()

    def record(self, task_id: str | None, agent_id: str | None, user_agent_id: str | None, started_at: str,
               ended_at: str, status: str, input_data: str, error_message: str | None = None,
               output_data: str | None = None) -> None:  # fmt: skip
        row = (task_id, agent_id, user_agent_id, started_at, ended_at, status, input_data, output_data, error_message)
        self._rows(f"INSERT INTO execution_history ({_INTO}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", row)  # noqa: S608

    def get_history(
        self, agent_id: str | None = None, user_agent_id: str | None = None, limit: int = 50
    ) -> list[tuple[Any, ...]]:
        """The latest first."""
        wanted = {"agent_id": agent_id, "user_agent_id": user_agent_id}
        given = {name: value for name, value in wanted.items() if value}
        where = " AND ".join([f"{name} = ?" for name in given] or ["1"])
        query = f"SELECT * FROM execution_history WHERE {where} ORDER BY started_at DESC LIMIT ?"  # noqa: S608
        return self._rows(query, (*given.values(), limit))

    def get_record_by_id(self, record_id: int) -> tuple[Any, ...] | None:
        return next(iter(self._rows("SELECT * FROM execution_history WHERE id = ?", (record_id,))), None)

    def close(self) -> None:
        with self._lock:
            db, self._db = self._db, None
            if db is not None:
                db.close()


execution_history = ExecutionHistory()

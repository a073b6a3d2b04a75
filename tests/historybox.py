# SPDX-License-Identifier: Apache-2.0
"""What the history's tests share: a folder, executions to record, and rows as an old release wrote them."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import tempfile
import threading
import time
import unittest
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from user_agent_sdk.conductor.wire import LogLine, Task, TaskResult
from user_agent_sdk.errors import StorageError
from user_agent_sdk.history.recorder import Recorder
from user_agent_sdk.history.store import History, Record

# 0.2.0's own statement, word for word in what counts.
SEED_TABLE = """CREATE TABLE IF NOT EXISTS execution_history (
    id INTEGER PRIMARY KEY AUTOINCREMENT, task_id TEXT, agent_id TEXT, user_agent_id TEXT,
    started_at TEXT, ended_at TEXT, status TEXT CHECK (status IN ('success', 'error')),
    input_data TEXT, output_data TEXT, error_message TEXT)"""
NOON_S = 1_800_000_000.0

# What a hostile or unlucky task leaves behind: (id, error, JSON).
MARKUP = "</script><script>document.title='HIT'</script><img src=x onerror=\"document.title='HIT'\">"
HOSTILE = (
    ("[/etc/passwd]", "[/etc/passwd]", '{"a": "[/etc/passwd]"}'),
    ("\x1b[31mred\x1b]0;title\x07", "one\r\ntwo\x00three", '{"x": '),
    ("\u202etxt.exe", "=cmd|' /C calc'!A0", '"=1+1"'),
    (MARKUP, MARKUP, '{"%s": "%s"}' % ((MARKUP.replace('"', '\\"'),) * 2)),
    ("株式会社アクメ 🚀", "مرحبا", "[NaN, Infinity]"),
    ("large", "x" * 100, '{"blob": "%s"}'),
    ("bytes", None, b"\xff\xfe\x00"),
    ("deep", None, "[" * 5000 + "]" * 5000),
)


def execution(
    given: Any = None,
    output: Any = None,
    *,
    task_id: str = "wire-1",
    agent_id: str = "reader#user-agent",
    started_s: float = NOON_S,
    lasted_s: float = 1.5,
    logs: Sequence[str] = (),
    **result: Any,
) -> tuple[Any, ...]:
    """The arguments of ``Recorder.record``."""
    wire = {
        "taskId": task_id,
        "workflowInstanceId": "flow-1",
        "retryCount": 1,
        "inputData": {"__task_id__": "platform-1", "__deployed_workflow_id__": "deployed-1", **(given or {})},
    }
    task = Task(wire)
    with contextlib.suppress(RecursionError):
        task.raw = json.dumps(wire).encode()
    reported = TaskResult(task_id, "flow-1", output_data=output, **result)
    reported.logs = [LogLine(line, int(started_s * 1000)) for line in logs]
    return agent_id, "worker-1", task, reported, started_s, started_s + lasted_s


class HistoryTest(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.path = self.folder / "execution_history.db"

    def record(self, *executions: tuple[Any, ...], redact: Sequence[str] = ()) -> None:
        recorder = Recorder(self.path, redact)
        recorder.start()
        for one in executions:
            recorder.record(*one)
        recorder.close()

    def seed(self, *rows: dict[str, Any]) -> None:
        """Write rows as 0.2.0 does."""
        db = sqlite3.connect(str(self.path), isolation_level=None)
        db.execute("PRAGMA journal_mode=WAL")
        db.execute(SEED_TABLE)
        for row in rows:
            names = ", ".join(row)
            db.execute(f"INSERT INTO execution_history ({names}) VALUES ({', '.join('?' * len(row))})", [*row.values()])
        db.close()

    def seed_hostile(self, large: int = 100_000) -> None:
        """HOSTILE, with so many characters in the large one."""
        times = {"started_at": "2026-11-22T10:00:01.500000", "ended_at": "2026-11-22T10:00:02.750000"}
        self.seed(
            *(
                dict(task_id=name, agent_id=name, user_agent_id=name, status="error" if error else "success",
                     input_data=text, output_data=text, error_message=error, **times)
                for name, error, text in (*HOSTILE[:5], (*HOSTILE[5][:2], HOSTILE[5][2] % ("y" * large)), *HOSTILE[6:])
            )
        )  # fmt: skip

    def found(self, **filters: Any) -> list[Record]:
        with History(self.path) as history:
            return list(history.find(**filters))

    def await_rows(self, count: int = 1) -> None:
        """Until a recorder has written so many rows."""
        never, deadline = threading.Event(), time.monotonic() + 10
        while time.monotonic() < deadline:
            with contextlib.suppress(StorageError):
                if len(self.found()) >= count:
                    return
            never.wait(0.005)
        self.fail(f"no {count} rows were written")

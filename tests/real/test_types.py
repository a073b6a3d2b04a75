# SPDX-License-Identifier: Apache-2.0
"""What an editor tells somebody who writes an agent: a right script passes ``mypy --strict`` and pyright, and each
wrong line of the other one is refused by both. Needs both, as ``.ci/run`` installs them."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
TOOLS = Path(sys.executable).parent
RIGHT = '''\
from collections.abc import Awaitable, Callable
from logging import Logger
from typing import Any

import user_agent_sdk
from user_agent_sdk import (
    NonRetryableException, Task, TaskResult, TaskStatus, current_task, on_start, on_stop, register_user_agent,
    user_agent,
)
from user_agent_sdk.testing import run_task


@user_agent()
def plain(input_data: dict[str, Any], logger: Logger) -> int:
    logger.info("%s", current_task().key)
    return len(input_data)


@user_agent
async def bare(task: Task, path: str, currency: str = "EUR") -> TaskResult:
    known: str = task.task_id
    again: int = task.retry_count
    kind: str | None = task.task_type
    if kind is None or again > 3:
        raise NonRetryableException(f"{known}: {task.input_data.get(path)} {currency}")
    return TaskResult(status="IN_PROGRESS", output_data={"seen": 3}, callback_after_seconds=60)


@user_agent(agent_id="x", workers=4, poll_interval=500, timeout_s=3.5, domain="d", worker_id="w")
def chosen(platform_task_id: str | None) -> dict[str, str | None]:
    if current_task().stopping.is_set():
        return {}
    return {"id": platform_task_id}


@on_start(timeout_s=60)  # its function was one of an unknown type, which strict checkers refuse
async def opens(browser: str = "chrome") -> str:
    return browser


@on_stop
def closes() -> None: ...


opened: Callable[[], Awaitable[str]] = opens
register_user_agent(len, agent_id="length")
result = run_task(plain, {"num1": 2})
assert result.status == TaskStatus.COMPLETED, result.reason_for_incompletion
lines: list[str] = [line.log for line in result.logs]
value: dict[str, str | None] = chosen("1")
if __name__ == "__main__":
    user_agent_sdk.run()
'''
WRONG = '''\
from user_agent_sdk import Task, TaskResult, TaskStatus, current_task, user_agent
from user_agent_sdk.testing import run_task


@user_agent(workers="four")  # wrong
def first() -> None: ...


@user_agent(timeout="3")  # wrong
def second() -> None: ...


def third(task: Task) -> TaskResult:
    length: int = task.task_id  # wrong
    task.retry_count.upper()  # wrong
    task.input_data.push(1)  # wrong
    TaskResult(status="DONE")  # wrong
    TaskResult(status=1)  # wrong
    TaskResult(output_data=3)  # wrong
    TaskResult(output_data="text")  # wrong
    TaskResult(callback_after_seconds="60")  # wrong
    TaskStatus.SUCCESS  # wrong
    current_task().stopping.wait("1")  # wrong
    run_task(third, [1])  # wrong
    return TaskResult(status=TaskStatus.FAILED, output_data={"length": length})
'''


@unittest.skipUnless((TOOLS / "mypy").exists() and (TOOLS / "pyright").exists(), "needs mypy and pyright beside Python")
class TypesTest(unittest.TestCase):
    def setUp(self) -> None:
        holder = tempfile.TemporaryDirectory()
        self.addCleanup(holder.cleanup)
        self.folder = Path(holder.name).resolve()
        (self.folder / "right.py").write_text("from __future__ import annotations\n\n" + RIGHT)
        (self.folder / "wrong.py").write_text(WRONG)
        shutil.copytree(ROOT / "user_agent_sdk", self.folder / "user_agent_sdk")
        config = {"include": ["right.py", "wrong.py"], "typeCheckingMode": "strict", "pythonVersion": "3.9"}
        (self.folder / "pyrightconfig.json").write_text(json.dumps(config))
        self.wrong = [number for number, line in enumerate(WRONG.splitlines(), 1) if line.endswith("# wrong")]

    def refused(self, *command: str) -> dict[str, list[int]]:
        """The lines with errors, by file."""
        done = subprocess.run(command, cwd=self.folder, env={**os.environ, "PATH": f"{TOOLS}:{os.environ['PATH']}"},
                              capture_output=True, text=True, timeout=300)  # fmt: skip
        self.said = done.stdout + done.stderr
        found: dict[str, list[int]] = {}
        for name, line in re.findall(r"(\w+\.py):(\d+)(?::\d+)?(?: -)?:? error:", self.said):
            found.setdefault(name, []).append(int(line))
        return {name: sorted(set(lines)) for name, lines in found.items()}

    def test_mypy_takes_what_is_right_and_refuses_each_wrong_line(self) -> None:
        command = (str(TOOLS / "mypy"), "--strict", "right.py", "wrong.py")
        self.assertEqual(self.refused(*command), {"wrong.py": self.wrong}, self.said)

    def test_pyright_does_too(self) -> None:
        self.assertEqual(self.refused(str(TOOLS / "pyright")), {"wrong.py": self.wrong}, self.said)


if __name__ == "__main__":
    unittest.main()

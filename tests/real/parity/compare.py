# SPDX-License-Identifier: Apache-2.0
"""Runs one script on the published package and on ours, each as a worker of its own on the real engine, and compares
what became of its task.

``USERAGENT_SEED_PYTHON`` names a Python in whose environment the published package, 0.2.0, is installed;
``USERAGENT_SEED_03_PYTHON`` one with 0.3.0.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from ..stack import ENDED, Stack, wait_until
from .scripts import MOVES, SCRIPTS, Script

SEED, SEED_03 = os.environ.get("USERAGENT_SEED_PYTHON", ""), os.environ.get("USERAGENT_SEED_03_PYTHON", "")
ROOT = Path(__file__).resolve().parents[3]
AT_ONCE = 4
WAIT_S = 120.0
LOST_S = 30.0  # for what is meant to be lost on one side
LOGS_S = 10.0
STOP_S = 20.0


class Outcome(NamedTuple):
    """What became of a script's task; ``logs`` are the lines of the last try, without tracebacks."""

    status: str
    output: Any
    attempts: int
    reason: str | None
    logs: list[str]
    history: Any
    files: str | None
    said: str  # on stderr, for whoever looks for a cause; not compared


class Compared(NamedTuple):
    script: Script
    there: Outcome
    here: Outcome

    @property
    def differs(self) -> list[str]:
        return [name for name in Outcome._fields[:-1] if getattr(self.there, name) != getattr(self.here, name)]

    @property
    def unmeant(self) -> list[str]:
        return [name for name in self.differs if not self.script.differs.get(name)]

    @property
    def verdict(self) -> str:
        if self.unmeant:
            both = [(name, getattr(self.there, name), getattr(self.here, name)) for name in self.unmeant]
            return "DIFFERS: " + "; ".join(f"{name}: {there!r} there, {here!r} here" for name, there, here in both)
        keys = sorted({self.script.differs[name] for name in self.differs})
        return f"better ({'; '.join(MOVES[key][1] for key in keys)})" if keys else "same"


def compared(stack: Stack, scripts: Sequence[Script] = SCRIPTS, seed: str = SEED) -> Iterator[Compared]:
    """Each script's two outcomes, in the order of ``scripts``; ``seed`` is the Python that has the published one."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        jobs = [
            [pool.submit(_run, stack, script, f"parity-{number}-{side}-{uuid.uuid4()}#user-agent", python)
             for side, python in (("there", seed), ("here", ""))]
            for number, script in enumerate(scripts)
        ]  # fmt: skip
        for script, (there, here) in zip(scripts, jobs):
            yield Compared(script, there.result(), here.result())


def _run(stack: Stack, script: Script, agent_id: str, seed: str) -> Outcome:
    stack.register_task(agent_id, retry_count=2, response_timeout_s=10)
    stack.register_workflow(agent_id, [agent_id], inputs=[*script.given])
    workflow_id = stack.start_workflow(agent_id, script.given)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for file, text in {"agent.py": script.text, **script.files}.items():
            (folder / file).write_text(text, "utf-8")
        credentials = folder / "credentials.json"
        credentials.write_text(json.dumps({**stack.credentials(agent_id), **script.credentials}), "utf-8")
        credentials.chmod(0o600)
        with _worker(folder, script, seed) as said:
            wait_s = LOST_S if "status" in script.differs and seed else WAIT_S
            wait_until(lambda: stack.workflow(workflow_id)["status"] in ENDED, wait_s)
            tasks = stack.workflow(workflow_id)["tasks"]
            logs = _logs(stack, tasks[-1]["taskId"])
        made = folder / script.made if script.made else None
        files = (made.read_text("utf-8") if made.is_file() else "not made") if made else None
        return Outcome(
            stack.workflow(workflow_id)["status"],
            tasks[-1]["outputData"],
            len(tasks),
            tasks[-1].get("reasonForIncompletion"),
            logs,
            _recorded(folder / "execution_history.db"),
            files,
            said.read_text("utf-8", "replace")[-2000:],
        )


@contextlib.contextmanager
def _worker(folder: Path, script: Script, seed: str) -> Iterator[Path]:
    """The worker, until the end of the block; the file of what it says."""
    command = [str(Path(seed).with_name("useragent"))] if seed else [sys.executable, "-m", "user_agent_sdk"]
    environ = {key: value for key, value in os.environ.items() if not key.startswith(("USERAGENT_", "PYTHONPATH"))}
    environ.update(script.environ, PYTHONUTF8="1", **({} if seed else {"PYTHONPATH": str(ROOT)}))
    said = folder / "stderr.txt"
    with open(said, "wb") as stream:
        words = [*command, "run", "agent.py", *script.options, "-r"]
        process = subprocess.Popen(words, cwd=folder, env=environ, stdout=stream, stderr=stream)
        try:
            yield said
            process.send_signal(signal.SIGINT if seed else signal.SIGTERM)
            process.wait(STOP_S)
        finally:
            process.kill()
            process.wait()


def _logs(stack: Stack, task_id: str) -> list[str]:
    """The lines of a try, as soon as two looks at the index find the same; each once, since the published package
    repeats those of earlier tries."""
    seen: list[list[str]] = [["not looked yet"]]

    def settled() -> bool:
        seen.append(stack.task_logs(task_id))
        return seen[-1] == seen[-2] and len(seen) > 10

    wait_until(settled, LOGS_S)
    lines = [line for line in seen[-1] if "Traceback (most recent call last)" not in line]
    return list(dict.fromkeys(lines))


def _recorded(path: Path) -> Any:
    """The last row: its status, its input and output as JSON, its error, and that its times are local."""
    if not path.exists():
        return None
    with contextlib.closing(sqlite3.connect(str(path))) as db:
        query = "SELECT status, input_data, output_data, error_message, started_at, ended_at FROM execution_history"
        try:
            rows = db.execute(query + " ORDER BY id").fetchall()
        except sqlite3.OperationalError:  # no table: nothing was ever recorded
            return None
    if not rows:
        return None
    status, given, output, error, *times = rows[-1]
    parsed = [None if text is None else json.loads(text) for text in (given, output)]
    return [status, *parsed, error, ["+" in time for time in times]]

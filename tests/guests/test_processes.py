# SPDX-License-Identifier: Apache-2.0
"""Processes that a function starts, by fork and by spawn, under each command that runs it and from each place that the
SDK may lie in: eighteen combinations, each with a pool, a class of the script's own and a child that is terminated.

All of them run with USERAGENT_GUESTS=1, as in CI, and a few in every test run.
"""

from __future__ import annotations

import json
import os
import signal
import unittest
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.guests.test_guests import IS_ALL, LONG_S, GuestTest
from user_agent_sdk import _build

METHODS, COMMANDS, PLACES = ("fork", "spawn"), ("run", "invoke", "dev"), ("folder", "vendored", "zipapp")
ALWAYS = {("spawn", "dev", "zipapp"), ("spawn", "invoke", "vendored"), ("fork", "run", "vendored")}
AGENT_ID = "processes"
SCRIPT = '''
import multiprocessing
import signal
import threading

import user_agent_sdk
from user_agent_sdk import TaskResult, TaskStatus, user_agent


class Line:
    def __init__(self, number):
        self.number = number

def look(line, result):
    assert isinstance(result, TaskResult) and result.status is TaskStatus.FAILED
    result.output_data = line.number ** 2
    return result, user_agent_sdk.__file__

def waits(ready):
    ready.set()
    threading.Event().wait()

@user_agent(agent_id="processes")
def work(method):
    context = multiprocessing.get_context(method)
    with context.Pool(2) as pool:
        given = TaskResult(status=TaskStatus.FAILED)
        found = pool.starmap(look, [(Line(2), given), (Line(3), given)])
    ready = context.Event()
    child = context.Process(target=waits, args=(ready,))
    child.start()
    assert ready.wait(30)
    child.terminate()
    child.join()
    return {"squares": [result.output_data for result, _ in found if isinstance(result, TaskResult)],
            "copies": [user_agent_sdk.__file__, *{copy for _, copy in found}], "ended_by": -child.exitcode}
'''


class ProcessesTest(GuestTest):
    """The methods are made below."""

    def placed(self, place: str) -> Path:
        """Put a copy of the SDK there, and start that from now on; where its files should be found."""
        files, self.on_path = _build._tree(_build.PACKAGE), ""
        if place == "zipapp":
            program = self.folder / "useragent.pyz"
            program.write_bytes(_build._zip({**files, "__main__.py": _build.ZIPAPP_MAIN}))
            self.program = [str(program)]
            return program
        copy = self.folder / ("vendor/worker_kit" if place == "vendored" else "user_agent_sdk")
        for name, data in files.items():
            target = copy / name.partition("/")[2]
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
        self.program = ["-m", ".".join(copy.relative_to(self.folder).parts)]
        return copy

    def look(self, method: str, command: str, place: str) -> None:
        if method == "fork" and not hasattr(os, "fork"):
            self.skipTest("no fork here")
        if not IS_ALL and (method, command, place) not in ALWAYS:
            self.skipTest("runs in CI, and with USERAGENT_GUESTS=1")
        copy = self.placed(place)
        script = self.folder / "bots" / "my.bot.py"  # whose name is no module's
        script.parent.mkdir()
        script.write_text(SCRIPT, "utf-8")
        given = {"method": method}
        if command == "invoke":
            code, out, err = self.finished(self.started("invoke", str(script), "-i", json.dumps(given)))
            self.assertEqual(code, 0, err)
            output = json.loads(out)
        else:
            worker = self.started(command, str(script), "--poll-interval", "50")
            execution = self.sandbox.wait(self.sandbox.submit(AGENT_ID, given, retries=0), LONG_S)
            code, _, err = self.stopped(worker)
            self.assertEqual((execution.status, code), ("COMPLETED", 0), f"{execution.reason}\n{err[-3000:]}")
            output = execution.output
        own, *childs = output.pop("copies")
        self.assertTrue(own.startswith(str(copy)), f"{own} is not in {copy}")
        self.assertEqual((childs, output), ([own], {"squares": [4, 9], "ended_by": signal.SIGTERM}))


def _test_of(*combination: str) -> Callable[[Any], None]:
    return lambda case: case.look(*combination)


for _method in METHODS:
    for _command in COMMANDS:
        for _place in PLACES:
            _name = f"test_by_{_method}_under_{_command}_from_the_{_place}"
            setattr(ProcessesTest, _name, _test_of(_method, _command, _place))


if __name__ == "__main__":
    unittest.main()

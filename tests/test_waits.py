# SPDX-License-Identifier: Apache-2.0
"""What a person in front of a worker is told while it waits, and that nobody else is."""

from __future__ import annotations

import contextlib
import io
import logging
import threading
import time
import unittest
from types import SimpleNamespace
from typing import Any
from unittest import mock

from tests.support import entered
from user_agent_sdk import settings as settings_module
from user_agent_sdk.agents import Agent
from user_agent_sdk.cli import terminal
from user_agent_sdk.sandbox.server import Sandbox
from user_agent_sdk.watching import waits
from user_agent_sdk.worker.runner import Runner
from user_agent_sdk.worker.running.context import current_task

LONG_S = 20.0
WALL = time.mktime((2026, 1, 2, 12, 30, 0, 0, 0, -1))


def sentence(*failing: float, running: int = 0, results: int = 0, is_checking: bool = False, is_stopping: bool = False,
             until: float | None = None, is_refused: bool = False, next_report: float | None = None) -> str | None:
    """What is said of such a worker at 100 s; ``failing``: when its gates that fail poll next."""
    intakes = [SimpleNamespace(is_failing=False, next_at=1.0)]  # of a gate that is fine
    intakes += [SimpleNamespace(is_failing=True, next_at=at) for at in failing]
    gates = [SimpleNamespace(intake=intake, is_refused=is_refused) for intake in intakes]
    delivery = mock.MagicMock(next_due=lambda: next_report, __len__=lambda _: results)
    services = mock.Mock(custody=SimpleNamespace(delivery=delivery), stopping=threading.Event())
    if is_stopping:
        services.stopping.set()
    runner: Any = SimpleNamespace(gates=gates, services=services, running=running, is_checking=is_checking,
                                  drain=SimpleNamespace(deadline=until), hooks=SimpleNamespace(runs=None))
    return waits.sentence(runner, 100.0, WALL)  # fmt: skip


class SentenceTest(unittest.TestCase):
    def test_it_says_what_is_waited_for_and_until_when(self) -> None:
        for found, said in (
            (sentence(), None),
            (sentence(running=3), None),  # work is no wait
            (sentence(is_checking=True), "waiting for a token, 15 s at most"),
            (sentence(112.4, 113.0), "the platform does not answer: next poll at 12:30:12 (12 s)"),
            (sentence(112.4, is_refused=True), "the platform refuses the credentials: next poll at 12:30:12 "
             "(12 s)"),
            (sentence(results=2, next_report=90), "2 undelivered results: next try at 12:30:00"),
            (sentence(101, results=1, next_report=102), "the platform does not answer: next poll at 12:30:01 "
             "(1 s); 1 undelivered result: next try at 12:30:02 (2 s)"),
            (sentence(is_stopping=True, running=1, results=1, until=130), "stopping: waiting for 1 running task, until "
             "12:30:30 (30 s); another Ctrl+C ends it at once"),
            (sentence(is_stopping=True, running=2), "stopping: waiting for 2 running tasks, as long as it takes; "
             "another Ctrl+C ends it at once"),
            (sentence(is_stopping=True, results=5, until=160), "stopping: waiting to deliver 5 results, until 12:31:00 "
             "(60 s)"),
            (sentence(is_stopping=True), "stopping: waiting for the answer to an open poll, 6 s at most"),
        ):  # fmt: skip
            self.assertEqual(found, said)


class PaceTest(unittest.TestCase):
    def test_something_new_is_shown_at_once_and_what_goes_on_ever_more_rarely(self) -> None:
        pace = terminal.Pace()
        shown = [second for second in range(200) if pace.is_due(f"next poll in {200 - second} s", float(second))]
        self.assertEqual(shown, [0, 5, 15, 35, 75, 135, 195])
        self.assertTrue(pace.is_due("stopping", 200.0))
        self.assertFalse(pace.is_due("stopping", 201.0))
        self.assertFalse(pace.is_due(None, 202.0))
        self.assertTrue(pace.is_due("stopping", 203.0))


class Screen(io.StringIO):
    """A terminal on which the first line sets ``written``."""

    def __init__(self, is_terminal: bool = True) -> None:
        super().__init__()
        self.is_terminal, self.written = is_terminal, threading.Event()

    def isatty(self) -> bool:
        return self.is_terminal

    def write(self, text: str) -> int:
        self.written.set()
        return super().write(text)


class ShownTest(unittest.TestCase):
    def setUp(self) -> None:
        self.settings = settings_module.load({}, environ={}, target=False)
        self.addCleanup(setattr, terminal, "LOOK_S", terminal.LOOK_S)
        terminal.LOOK_S = 0.01

    def test_on_a_terminal_it_is_a_line(self) -> None:
        screen = Screen()
        with contextlib.redirect_stderr(screen), terminal.waiting(self.settings, lambda: "waiting for Godot"):
            self.assertTrue(screen.written.wait(LONG_S))
        self.assertRegex(screen.getvalue(), r"^\d\d:\d\d:\d\d \.\.\.     waiting for Godot\n$")

    def test_in_a_pipe_and_when_quiet_it_is_nothing(self) -> None:
        for is_terminal, quiet in ((False, False), (True, True)):
            screen = Screen(is_terminal)
            settings = self.settings._replace(quiet=quiet)
            with contextlib.redirect_stderr(screen), terminal.waiting(settings, lambda: "never"):
                self.assertNotIn("waiting", [thread.name for thread in threading.enumerate()])
            self.assertEqual(screen.getvalue(), "")


class RunnerTest(unittest.TestCase):
    def runner(self, func: Any, **changes: Any) -> Runner:
        self.sandbox = entered(self, Sandbox())
        plain = settings_module.load({}, environ={}, target=False)
        settings = plain.on_sandbox(self.sandbox.credentials("a"), None)._replace(**changes)
        runner = Runner(settings, [Agent(func, "a")])
        self.thread = threading.Thread(target=runner.run, daemon=True)
        self.addCleanup(self.thread.join, LONG_S)
        self.addCleanup(runner.stop, 0)
        return runner

    def test_a_drain_tells_how_many_run_and_how_long_they_have(self) -> None:
        seen = []

        def patient() -> None:
            running.set()
            current_task().stopping.wait(LONG_S)
            seen.append(waits.sentence(runner, time.monotonic(), time.time()))

        running = threading.Event()
        runner = self.runner(patient)
        self.assertEqual(waits.sentence(runner, 0.0, 0.0), "waiting for a token, 15 s at most")
        self.sandbox.submit("a", {})
        self.thread.start()
        self.assertTrue(running.wait(LONG_S))
        runner.stop(100)
        self.thread.join(LONG_S)
        self.assertRegex(seen[0] or "", r"stopping: waiting for 1 running task, until [0-9:]+ \((9\d|100) s\); another")

    def test_a_drain_can_be_cut_short_from_outside(self) -> None:
        """Ctrl+C in `dev` waited for the slowest task."""
        running, free = threading.Event(), threading.Event()
        self.addCleanup(free.set)

        def stubborn() -> None:
            running.set()
            free.wait(LONG_S)

        runner = self.runner(stubborn, drain_timeout_s=0)
        execution = self.sandbox.submit("a", {}, retries=0)
        self.thread.start()
        self.assertTrue(running.wait(LONG_S))
        runner.stop()
        runner.stop(0.0)
        self.assertEqual(self.sandbox.wait(execution, LONG_S).status, "FAILED")
        self.thread.join(LONG_S)
        self.assertFalse(self.thread.is_alive())

    def test_an_outage_tells_when_the_next_poll_is(self) -> None:
        seen = []
        failed = threading.Event()

        class Watcher(logging.Handler):
            def emit(self, record: logging.LogRecord) -> None:
                seen.append(waits.sentence(runner, time.monotonic(), time.time()))
                failed.set()

        runner = self.runner(lambda: None, service_url="http://127.0.0.1:1/api", client_id=None)
        log = logging.getLogger("user_agent_sdk.worker.polling.gate")
        handler = Watcher()
        log.addHandler(handler)
        self.addCleanup(log.removeHandler, handler)
        log.propagate = False
        self.addCleanup(setattr, log, "propagate", True)
        self.thread.start()
        self.assertTrue(failed.wait(LONG_S))
        self.assertIn("next poll at", seen[0] or "")


if __name__ == "__main__":
    unittest.main()

# SPDX-License-Identifier: Apache-2.0
"""What a script asks to be run once, before the worker's first poll and after its last task."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import threading
import time
import types
import unittest
from typing import Any
from unittest import mock

from tests.support import entered
from tests.test_forking import fork
from tests.workerbox import LONG_S, Box, Worker, agent, settings_for, working
from user_agent_sdk import on_start, on_stop
from user_agent_sdk.errors import AgentError, ConfigError
from user_agent_sdk.worker.running import hooks

LOGGER = "user_agent_sdk.worker.running.hooks"


class HooksTest(unittest.TestCase):
    def setUp(self) -> None:
        self.box = entered(self, Box())
        self.addCleanup(hooks.STARTS.clear)
        self.addCleanup(hooks.STOPS.clear)
        self.said: list[str] = []
        self.go = threading.Event()
        self.addCleanup(self.go.set)

    def worker(self, **changes: Any) -> Worker:
        """One that has been started, with an agent that says that it runs."""
        worker = Worker(settings_for(self.box, workers=1, **changes), [agent(lambda: self.said.append("task"))])
        worker.start()
        return worker

    def test_they_run_once_around_all_polls_and_stop_hooks_in_reverse(self) -> None:
        for moment, name in ((on_start, "open a"), (on_stop, "close a"), (on_start, "open b"), (on_stop, "close b")):
            moment(lambda name=name: self.said.append(f"{name}, {self.box.calls['poll'] > 0}"))
        worker = self.worker()
        self.box.wait(self.box.put(), LONG_S)
        self.box.wait(self.box.put(), LONG_S)
        self.assertEqual(worker.stop(), 0)
        opened, closed = ["open a, False", "open b, False"], ["close b, True", "close a, True"]
        self.assertEqual(self.said, [*opened, "task", "task", *closed])

    def test_what_a_coroutine_opens_works_in_tasks_of_the_shared_loop(self) -> None:
        """And is closed on that loop: an HTTP session belongs to one."""
        kept: dict[str, asyncio.Lock] = {}

        @on_start
        async def opens() -> None:
            kept["lock"] = asyncio.Lock()
            await asyncio.wait_for(kept["lock"].acquire(), 5)  # binds it to the loop, before 3.10 too
            self.said.append(f"opened {id(asyncio.get_running_loop())}")
            kept["lock"].release()

        @on_stop
        async def closes() -> None:
            async with kept["lock"]:
                self.said.append(f"closed {id(asyncio.get_running_loop())}")

        async def works() -> str:
            async with kept["lock"]:
                return f"worked {id(asyncio.get_running_loop())}"

        with working(self.box, agent(works, loop="shared"), workers=2) as worker:
            ended = [self.box.wait(task, LONG_S) for task in [self.box.put(), self.box.put()]]
            worker.stop()
        self.assertEqual([one.status for one in ended], ["COMPLETED"] * 2, ended[0].reason)
        words = [*self.said, *(str(one.output["result"]) for one in ended)]
        self.assertEqual({word.split()[0] for word in words}, {"opened", "closed", "worked"})
        self.assertEqual(len({word.split()[1] for word in words}), 1)

    def test_a_start_hook_that_raises_keeps_the_worker_from_starting(self) -> None:
        """What an earlier one has opened is closed, and no task was taken."""
        on_stop(lambda: self.said.append("closed"))

        @on_start
        def opens() -> None:
            raise SystemExit("no Excel on this machine")

        @on_start
        def never_begins() -> None:
            self.said.append("begun")

        with self.assertRaises(AgentError) as raised:
            self.worker().ended()
        error = raised.exception
        self.assertEqual((error.code, error.exit_code), ("agent-start", 6))
        self.assertRegex(str(error), r"the start hook .*opens \(.*test_hooks.py:\d+\) failed\n")
        self.assertRegex(str(error), r'raise SystemExit\("no Excel on this machine"\)\nSystemExit: no Excel')
        self.assertNotIn("running/hooks.py", str(error))
        self.assertEqual((self.said, self.box.calls["poll"]), (["closed"], 0))

    @unittest.skipUnless(hasattr(os, "fork"), "no fork here")
    def test_a_child_that_a_hook_forks_ends_as_any_program(self) -> None:
        """What it raised was kept for nobody, and its status was 0."""

        @on_start
        def forks() -> None:
            child = fork()
            if not child:
                raise SystemExit(3)
            self.said.append(str(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])))

        worker = self.worker()
        self.box.wait(self.box.put(), LONG_S)
        self.assertEqual((worker.stop(), self.said), (0, ["3", "task"]))

    def test_a_late_start_hook_keeps_it_from_starting_too(self) -> None:
        async def is_cancelled() -> None:
            try:
                await asyncio.Event().wait()
            finally:
                self.said.append("finally")

        for hook in (lambda: self.go.wait(LONG_S), is_cancelled):
            hooks.STARTS.clear()
            on_start(hook, timeout_s=0.02)
            with self.assertRaisesRegex(AgentError, r"start hook .* had not ended after 0\.02 s") as raised:
                self.worker().ended()
            self.assertEqual(raised.exception.hints, ("@on_start(timeout_s=0.04) gives it more time",))
        self.assertEqual((self.said, self.box.calls["poll"]), (["finally"], 0))

    def test_a_coroutine_that_refuses_its_cancellation_is_waited_for_within_a_grace(self) -> None:
        """Its thread waited until the worker ended."""

        async def refuses() -> None:
            while not self.go.is_set():
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.Event().wait()

        async def limited() -> None:
            try:
                with self.assertRaises(hooks.Late):
                    await asyncio.wait_for(hooks._limited(refuses(), time.monotonic()), 5)
            finally:
                self.go.set()

        with mock.patch.object(hooks, "GRACE_S", 0.01):
            asyncio.run(limited())

    def test_a_stop_hook_that_fails_or_is_late_is_said_and_the_end_goes_on(self) -> None:
        on_stop(lambda: self.said.append("closed"))
        on_stop(lambda: self.go.wait(LONG_S), timeout_s=0.02)

        @on_stop
        def closes() -> None:
            raise ValueError("no such window")

        with self.assertLogs(LOGGER, "ERROR") as logged:
            self.assertEqual(self.worker().stop(), 0)
        self.assertEqual(self.said, ["closed"])
        self.assertRegex(logged.output[0], r"The stop hook .*closes \(.*\) failed\n(.|\n)*ValueError: no such window")
        self.assertRegex(logged.output[1], r"The stop hook .* had not ended after 0\.02 s; the end goes on")

    def test_a_stop_that_comes_meanwhile_lets_the_running_hook_end_and_takes_nothing(self) -> None:
        begun = threading.Event()

        @on_start
        def opens() -> None:
            begun.set()
            self.go.wait(LONG_S)
            self.said.append("opened")

        on_start(lambda: self.said.append("not begun"))
        on_stop(lambda: self.said.append("closed"))
        worker = self.worker()
        self.assertTrue(begun.wait(LONG_S))
        said = worker.runner.watch.sentence(worker.runner)
        self.assertRegex(str(said), r"^waiting for the hook .*opens \(.*\), 30 s at most$")
        worker.runner.stop()
        self.go.set()
        self.assertEqual((worker.ended(), self.said, self.box.calls["poll"]), (0, ["opened", "closed"], 0))

    def test_a_worker_without_hooks_starts_no_thread_for_them(self) -> None:
        before, seen = set(threading.enumerate()), []
        with working(self.box, agent(lambda: seen.extend(threading.enumerate())), workers=1):
            self.box.wait(self.box.put(), LONG_S)
        names = {each.name for each in seen if each not in before}
        self.assertIn("slot_0", names)
        self.assertEqual({"hook", "shared-loop"} & names, set())

    def test_no_limit_is_too_long_for_the_wait_that_bounds_the_end(self) -> None:
        """The thread that ends a stop which hangs ended itself, with a traceback: such a wait overflows."""
        raised = entered(self, mock.patch.object(threading, "excepthook"))
        on_stop(lambda: self.said.append("closed"), timeout_s=10**10)
        on_stop(lambda: None, timeout_s=sys.float_info.max)
        worker = Worker(settings_for(self.box, workers=1), [agent(lambda: None)], owns_process=True)
        worker.start()
        self.box.await_calls("poll", 1)
        [limit] = [thread for thread in threading.enumerate() if thread.name == "drain-limit"]
        self.assertEqual(worker.stop(), 0)
        limit.join(LONG_S)
        raised.assert_not_called()
        self.assertEqual(self.said, ["closed"])

    def test_what_can_be_no_hook_is_refused(self) -> None:
        def opens_and_closes() -> Any:
            yield

        for wrong in (opens_and_closes, 5):
            with self.assertRaisesRegex(AgentError, "can't be a hook"):
                on_start(wrong)
        for limit_s in (0, -1, float("nan"), float("inf"), 10**400, "5", True):
            with self.assertRaisesRegex(ConfigError, "timeout_s=.*can't be used"):
                on_stop(timeout_s=limit_s)(print)  # type: ignore[arg-type]
        self.assertEqual((hooks.STARTS, hooks.STOPS), ([], []))

    def test_a_script_that_a_helper_imports_too_has_its_hooks_once(self) -> None:
        """But several of one factory are several."""
        code = compile("from user_agent_sdk import on_start\n@on_start\ndef opens(): ...\n", "agent.py", "exec")
        for name in ("_agent_bot", "bot"):
            exec(code, types.ModuleType(name).__dict__)
        self.assertEqual([hook.func.__module__ for hook in hooks.STARTS], ["bot"])
        for path in ("a.xlsx", "b.xlsx"):
            on_start(lambda path=path: self.said.append(path))
        self.assertEqual(len(hooks.STARTS), 3)


if __name__ == "__main__":
    unittest.main()

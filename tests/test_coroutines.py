# SPDX-License-Identifier: Apache-2.0
"""Async functions in a running worker: what cancels them, what they leave, and the loop that tasks can share."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import tempfile
import threading
import unittest
from pathlib import Path
from typing import Any
from unittest import mock

from tests.support import entered
from tests.test_forking import fork
from tests.workerbox import LONG_S, Box, agent, hasten, working
from user_agent_sdk.worker.running import event_loop


class CoroutinesTest(unittest.TestCase):
    def setUp(self) -> None:
        self.box = entered(self, Box())
        self.began, self.ended = threading.Event(), threading.Event()

    async def waits_for_ever(self, how: str = "") -> str:
        self.began.set()
        try:
            if how != "quick":
                await asyncio.Event().wait()
            return "done"
        finally:
            await asyncio.sleep(0)  # a finally may await, too
            self.ended.set()

    def lines(self, execution: Any) -> str:
        return "\n".join(line.log for attempt in execution.attempts for line in attempt.logs)

    def test_past_its_timeout_a_coroutine_is_cancelled_and_the_slot_goes_on(self) -> None:
        """Its slot was lost, its finally never ran, and with one worker the process ended with 7."""
        for loop in ("own", "shared"):
            self.ended.clear()
            with working(self.box, agent(self.waits_for_ever, timeout_s=0.1, loop=loop), workers=1) as worker:
                late = self.box.engine.submit("tested#user-agent", {}, retries=0)
                execution = self.box.wait(late, LONG_S)
                self.assertEqual(execution.status, "FAILED")
                self.assertEqual(execution.reason, "the function ran longer than its timeout of 0.1 s")
                self.assertTrue(self.ended.is_set())
                self.assertIn("await asyncio.Event().wait()", self.lines(execution))
                quick = self.box.wait(self.box.put(how="quick"), LONG_S)
                self.assertEqual(quick.output, {"result": "done"})
                self.assertEqual(worker.stop(), 0)

    def test_a_coroutine_that_refuses_is_reported_after_its_grace_and_is_stuck(self) -> None:
        hasten(self, slots_GRACE_S=0.05)
        go = threading.Event()

        async def refuses() -> None:
            while not go.is_set():
                try:
                    await asyncio.sleep(0.01)
                except asyncio.CancelledError:
                    continue

        with working(self.box, agent(refuses, timeout_s=0.05), workers=1) as worker:
            execution = self.box.wait(self.box.engine.submit("tested#user-agent", {}, retries=0), LONG_S)
            self.assertIn("longer than its timeout", str(execution.reason))
            self.assertEqual(worker.ended(), 7)
            go.set()

    def test_past_the_drain_limit_it_is_cancelled_and_reported(self) -> None:
        with working(self.box, agent(self.waits_for_ever), workers=1, drain_timeout_s=0.1) as worker:
            self.box.put()
            self.assertTrue(self.began.wait(LONG_S))
            self.assertEqual(worker.stop(), 7)
            self.assertTrue(self.ended.is_set())
            reasons = [report.get("reasonForIncompletion") for report in self.box.reports]
            self.assertEqual(reasons, ["the worker was stopped while the task ran"])

    def test_what_a_module_keeps_works_in_all_tasks_of_a_shared_loop(self) -> None:
        """A lock, a session or a pool is bound to the first loop that uses it: with four workers, each with a loop of
        its own, that was "bound to a different event loop", or a slot that hung."""
        kept: dict[str, asyncio.Lock] = {}
        inside: list[int] = []

        async def counts() -> int:
            lock = kept.setdefault("lock", asyncio.Lock())
            async with lock:
                inside.append(1)
                self.assertEqual(len(inside), 1)
                await asyncio.sleep(0.01)
                inside.clear()
            return id(asyncio.get_running_loop())

        with working(self.box, agent(counts, loop="shared"), workers=4):
            tasks = [self.box.put() for _ in range(8)]
            ended = [self.box.wait(task, LONG_S) for task in tasks]
        self.assertEqual({each.status for each in ended}, {"COMPLETED"}, [each.reason for each in ended])
        self.assertEqual(len({each.output["result"] for each in ended}), 1)

    def test_an_error_of_two_loops_says_what_helps(self) -> None:
        async def fails() -> None:
            raise RuntimeError("<asyncio.Lock object> is bound to a different event loop")

        with working(self.box, agent(fails), workers=1):
            execution = self.box.wait(self.box.engine.submit("tested#user-agent", {}, retries=0), LONG_S)
        self.assertIn('@user_agent(loop="shared")', str(execution.reason))

    def test_a_system_exit_ends_its_task_and_not_the_shared_loop(self) -> None:
        async def leaves(how: str) -> str:
            if how == "exit":
                raise SystemExit(3)
            return how

        with working(self.box, agent(leaves, loop="shared"), workers=1):
            failed = self.box.wait(self.box.engine.submit("tested#user-agent", {"how": "exit"}, retries=0), LONG_S)
            self.assertIn("SystemExit: 3", str(failed.reason))
            self.assertEqual(self.box.wait(self.box.put(how="on"), LONG_S).output, {"result": "on"})

    def test_what_cannot_be_awaited_on_the_loop_fails_its_task(self) -> None:
        """A future of another loop held its slot for good on the shared one, and past its timeout."""
        other = asyncio.new_event_loop()
        self.addCleanup(other.close)
        for loop in ("shared", None):
            with self.subTest(loop), working(self.box, agent(lambda: other.create_future(), loop=loop), workers=1):
                failed = self.box.wait(self.box.submit("tested#user-agent", {}, retries=0), LONG_S)
                self.assertIn("different loop", str(failed.reason))

    def test_a_shared_loop_that_makes_no_task_fails_what_is_to_run(self) -> None:
        """A script's task factory that raised held the slot for good, and past its timeout."""

        def refuses(*_: Any, **more: Any) -> Any:
            raise RuntimeError("no more")

        shared = event_loop.SharedLoop()
        self.addCleanup(shared.close)
        loop = shared._started()
        self.assertEqual(self.raised(shared, refuses, loop.create_future()), "no more")

    @unittest.skipUnless(hasattr(asyncio, "eager_task_factory"), "needs Python 3.12")
    def test_an_eager_coroutine_that_exits_ends_its_task_alone(self) -> None:
        """Its SystemExit, which came while its task was made, held the slot for good, and past its timeout."""
        shared = event_loop.SharedLoop()
        self.addCleanup(shared.close)

        async def exits() -> None:
            sys.exit("bye")

        self.be_quiet()
        self.assertEqual(self.raised(shared, asyncio.eager_task_factory, exits()), "bye")

    def test_a_generator_that_never_ends_does_not_keep_the_worker(self) -> None:
        """With --max-tasks it stayed for ever, else for all of its drain timeout: the slot waited for a finally."""
        entered(self, mock.patch.object(event_loop, "GRACE_S", 0.05))
        self.be_quiet()
        kept = []

        async def rows() -> Any:
            try:
                yield 7
            finally:
                await asyncio.Event().wait()

        async def reads() -> Any:
            kept.append(rows())
            return await kept[0].__anext__()

        with working(self.box, agent(reads), workers=1, max_tasks=1) as worker:
            self.assertEqual(self.box.wait(self.box.put(), LONG_S).output, {"result": 7})
            self.assertEqual(worker.ended(), 0)

    def be_quiet(self) -> None:
        """asyncio says which tasks nobody waited for."""
        asyncio_log = logging.getLogger("asyncio")
        self.addCleanup(setattr, asyncio_log, "disabled", asyncio_log.disabled)
        asyncio_log.disabled = True

    def raised(self, shared: event_loop.SharedLoop, factory: Any, awaitable: Any) -> str:
        """What a slot that runs it gets, with a script's task factory."""
        raised: list[str] = []

        def slot() -> None:
            try:
                shared.run(awaitable)
            except (RuntimeError, SystemExit) as error:
                raised.append(str(error))

        loop = shared._started()
        loop.set_task_factory(factory)
        thread = threading.Thread(target=slot, daemon=True)
        thread.start()
        thread.join(LONG_S)
        loop.set_task_factory(None)
        return "".join(raised)

    @unittest.skipUnless(hasattr(os, "fork"), "no fork here")
    def test_a_child_that_a_coroutine_forks_is_no_second_worker_and_says_how_it_ended(self) -> None:
        """It reported the task as its own, polled on, and on the shared loop ran the other tasks too; of what it raised
        nobody heard, and its status was 0."""
        holder = tempfile.TemporaryDirectory()
        self.addCleanup(holder.cleanup)
        said = Path(holder.name, "said")

        async def forks(how: str) -> int:
            child = fork()
            if child:
                return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            signal.alarm(20)
            sys.stderr, sys.excepthook = said.open("w", buffering=1), sys.__excepthook__
            if how == "awaits":
                await asyncio.sleep(LONG_S)
            if how != "returns":
                raise ValueError("the child's") if how == "raises" else SystemExit(how)
            return 7

        for loop in ("own", "shared"):
            cases = {"returns": (0, "^$"), "raises": (1, "in forks\n(?s:.*)ValueError: the chi"), "bye": (1, "^bye$")}
            if loop == "shared":  # or what asyncio says from Python 3.12 on
                cases["awaits"] = (1, "RuntimeError: (a child that is forked.* can't await|no running event loop)")
            with working(self.box, agent(forks, loop=loop), workers=1):
                for how, (code, text) in cases.items():
                    with self.subTest(loop=loop, how=how):
                        said.write_text("")
                        self.assertEqual(self.box.wait(self.box.put(how=how), LONG_S).output, {"result": code})
                        self.assertRegex(said.read_text().strip(), text)
                self.assertEqual(len(self.box.reports), len(cases))
                self.box.reports.clear()

    def test_what_it_leaves_running_is_named_in_the_tasks_log(self) -> None:
        async def notify_later() -> None:
            await asyncio.sleep(60)

        async def leaves() -> str:
            self.left = asyncio.ensure_future(notify_later())
            await asyncio.sleep(0)
            return "done"

        with working(self.box, agent(leaves), workers=1):
            execution = self.box.wait(self.box.put(), LONG_S)
        self.assertEqual(execution.output, {"result": "done"})
        self.assertRegex(self.lines(execution), r"notify_later was left running and is cancelled")

    def test_who_blocks_the_shared_loop_is_said_once(self) -> None:
        for name, value in (("WATCH_S", 0.01), ("BLOCKED_S", 0.05)):
            self.addCleanup(setattr, event_loop, name, getattr(event_loop, name))
            setattr(event_loop, name, value)
        go = threading.Event()

        async def blocks() -> None:
            go.wait(LONG_S)

        logger = "user_agent_sdk.worker.running.event_loop"
        with working(self.box, agent(blocks, loop="shared"), workers=1), self.assertLogs(logger, "WARNING") as said:
            first = self.box.put()
            while not said.output:
                self.ended.wait(0.01)
            go.set()
            self.box.wait(first, LONG_S)
            go.clear()
            second = self.box.put()
            self.box.await_state(second, lambda now: now.attempts[-1].status == "IN_PROGRESS")
            self.ended.wait(0.2)
            go.set()
            self.box.wait(second, LONG_S)
        self.assertEqual(len(said.output), 1)
        self.assertRegex(said.output[0], r"blocks \(.*test_coroutines.py:\d+\) blocks the event loop")


if __name__ == "__main__":
    unittest.main()

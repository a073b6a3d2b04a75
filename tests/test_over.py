# SPDX-License-Identifier: Apache-2.0
"""A function hears that its task is over, and its slot is free for the next."""

from __future__ import annotations

import asyncio
import threading
import unittest
from typing import Any

from tests.support import entered, executions
from tests.workerbox import LONG_S, PASS, Box, agent, hasten, working
from user_agent_sdk import current_task
from user_agent_sdk.sandbox.exchange import Reply


class OverTest(unittest.TestCase):
    def setUp(self) -> None:
        hasten(self, lease_LOOK_AFTER_S=0.0)
        self.box = entered(self, Box())
        self.began, self.ended = threading.Event(), threading.Event()
        self.looks = 0
        self.box.faults.append(self.count)

    def count(self, kind: str, request: Any, proceed: Any) -> Any:
        path = request.path.rpartition("/")
        if request.method == "GET" and path[0].endswith("/tasks"):
            self.looks += 1
            if self.answer is not None:
                return self.answer
        return PASS

    answer: Reply | None = None

    def heeds(self) -> str:
        self.began.set()
        return f"heard: {current_task().cancelled.wait(LONG_S)}"

    async def waits(self) -> None:
        self.began.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.ended.set()

    def put(self) -> str:
        return self.box.submit("tested#user-agent", {}, retries=0, response_timeout_s=4.5)

    def test_a_terminated_workflow_frees_the_slot_within_an_extension(self) -> None:
        for func in (self.waits, self.heeds):
            self.began.clear()
            with working(self.box, agent(func), workers=1, platform="conductor") as worker:
                task = self.put()
                self.assertTrue(self.began.wait(LONG_S))
                self.box.engine.cancel(task)
                reports = self.box.calls["report"]
                self.box.await_calls("report", reports + 1)
                self.assertEqual(self.box.wait(task, LONG_S).status, "TERMINATED")
                self.assertEqual(worker.stop(), 0)
        self.assertTrue(self.ended.is_set())
        told = [report.get("reasonForIncompletion") or report["outputData"] for report in self.box.reports]
        self.assertEqual(told, ["the task was ended on the platform meanwhile (CANCELED)", {"result": "heard: True"}])

    def test_a_task_that_is_gone_is_over_on_either_platform(self) -> None:
        def gone(kind: str, request: Any, proceed: Any) -> Any:
            if kind != "extend":
                return PASS
            task_id = executions(self.box.engine)[0].attempts[-1].task_id
            return Reply.error(404, f"No such task found by id: {task_id}")

        self.box.faults.append(gone)
        for platform in ("akabot", "conductor"):
            self.began.clear()
            with working(self.box, agent(self.heeds), workers=1, platform=platform):
                task = self.put()
                self.assertEqual(self.box.wait(task, LONG_S).output, {"result": "heard: True"})

    def test_a_task_that_timed_out_goes_on_since_its_result_may_answer_the_retry(self) -> None:
        self.answer = Reply.of({"status": "TIMED_OUT"})
        go = threading.Event()

        def works() -> bool:
            go.wait(LONG_S)
            return current_task().cancelled.is_set()

        with working(self.box, agent(works), workers=1, platform="conductor"):
            task = self.put()
            self.box.await_calls("other", 1)
            go.set()
            self.assertEqual(self.box.wait(task, LONG_S).output, {"result": False})

    def test_there_is_one_look_for_an_extension_and_none_where_the_route_is_missing(self) -> None:
        for answer, most in ((None, 3), (Reply.error(404, "No static resource"), 1), (Reply.error(403, "no"), 1)):
            self.answer, self.looks = answer, 0
            with working(self.box, agent(self.waits), workers=1, platform="conductor", drain_timeout_s=0.01):
                extended = self.box.calls["extend"]
                self.put()
                self.box.await_calls("extend", extended + 1)
            self.assertLessEqual(self.looks, most if answer else self.box.calls["extend"] - extended)
            self.assertGreaterEqual(self.looks, 1)

    def test_a_token_that_was_refused_for_a_look_does_not_end_the_looks(self) -> None:
        """After one 401, as while a key is rotated, no function heard any more that its task was over."""
        self.answer = Reply.error(401, "who are you?")
        with working(self.box, agent(self.heeds), workers=1, platform="conductor"):
            task = self.put()
            self.box.await_calls("other", 1)
            self.answer = None
            self.box.engine.cancel(task)
            self.box.await_calls("report", 1)
        self.assertEqual(self.box.reports[0]["outputData"], {"result": "heard: True"})

    def test_akabot_has_no_such_route_and_is_not_asked(self) -> None:
        with working(self.box, agent(self.waits), workers=1, drain_timeout_s=0.01):
            self.put()
            self.box.await_calls("extend", 1)
        self.assertEqual(self.looks, 0)


if __name__ == "__main__":
    unittest.main()

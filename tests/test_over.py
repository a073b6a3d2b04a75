# SPDX-License-Identifier: Apache-2.0
"""A function hears that its task is over, and its slot is free for the next."""

from __future__ import annotations

import asyncio
import json
import threading
import unittest
from contextlib import nullcontext
from typing import Any

from tests.support import entered, executions
from tests.workerbox import LONG_S, PASS, Box, agent, hasten, working
from user_agent_sdk import current_task
from user_agent_sdk.sandbox.exchange import Reply

CUSTODY = "user_agent_sdk.worker.keeping.custody"


class OverTest(unittest.TestCase):
    def setUp(self) -> None:
        hasten(self, lease_LOOK_AFTER_S=0.0, gate_LONG_POLL_MAX_MS=200)  # a stop awaits the poll that is kept
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
        heard = current_task().cancelled.wait(LONG_S)
        self.ended.set()
        return f"heard: {heard}"

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
            self.ended.clear()
            with working(self.box, agent(func), workers=1, platform="conductor") as worker:
                task = self.put()
                self.assertTrue(self.began.wait(LONG_S))
                self.box.engine.cancel(task)
                self.assertTrue(self.ended.wait(LONG_S))
                self.assertEqual(self.box.wait(task, LONG_S).status, "TERMINATED")
                self.assertEqual(worker.stop(), 0)
                self.assertEqual(worker.runner.services.custody.journal.live(), {})
        self.assertEqual(self.box.reports, [], "a rerun has the same id, and may wait in the queue")

    def rerun(self, hears: bool = False, undelivered: bool = False, **changes: Any) -> tuple[list[int], Any, set[str]]:
        """A task comes again, with that input, while its function runs (and heard the end), or while its result waits
        for delivery. The inputs of the runs, the task's output, and what the log said."""
        inputs: list[int] = []
        given: dict[str, Any] = {}
        go, again = threading.Event(), threading.Event()

        def hands_out_again(kind: str, request: Any, proceed: Any) -> Any:
            reply = proceed(request) if kind == "poll" else PASS
            if reply is PASS:
                return PASS
            if found := json.loads(reply.body or b"[]"):
                given.update(found[0] if isinstance(found, list) else found)
            elif again.is_set():
                again.clear()
                copy = {**given, "inputData": {"n": 1, **changes}}
                return Reply.of([copy] if "/batch/" in request.path else copy)
            return reply

        def works(n: int) -> int:
            inputs.append(n)
            number = len(inputs)
            if number == 1 and not undelivered:
                if hears:
                    current_task().cancelled.wait(LONG_S)
                self.began.set()
                go.wait(LONG_S)
            return number

        self.box.faults.append(hands_out_again)
        actions: set[str] = set()
        with working(self.box, agent(works), workers=3, platform="conductor") as worker:
            refused = self.box.down("report") if undelivered else nullcontext()
            with refused, self.assertLogs(CUSTODY, "WARNING") as said:
                self.answer = Reply.of({"status": "CANCELED"}) if hears else None
                task = self.box.submit("tested#user-agent", {"n": 1}, retries=0, response_timeout_s=4.5)
                self.box.await_calls("report", 1) if undelivered else self.assertTrue(self.began.wait(LONG_S))
                again.set()
                self.box.await_state(task, lambda _: bool(said.records))
                actions.update(record.action for record in said.records)  # type: ignore[attr-defined]
            if "copy_ignored" in actions:
                go.set()
            output = self.box.wait(task, LONG_S).output
            go.set()
            self.assertEqual(worker.stop(), 0)
            self.assertEqual(worker.runner.services.custody.journal.live(), {})
        return inputs, output, actions

    def test_a_rerun_of_what_was_told_to_give_up_runs_anew_and_has_a_result_of_its_own(self) -> None:
        """An operator terminated a workflow, the function heard of it, and closed its browser; the rerun that came
        meanwhile had the same id, and completed with the nothing that the function then returned."""
        self.assertEqual(self.rerun(hears=True), ([1, 1], {"result": 2}, {"task_replaced"}))

    def test_a_rerun_with_another_input_is_a_task_of_its_own(self) -> None:
        """A rerun whose input the operator had corrected completed with the result for the wrong input."""
        self.assertEqual(self.rerun(n=7), ([1, 7], {"result": 2}, {"task_replaced"}))

    def test_so_it_is_while_the_old_result_waits_for_delivery(self) -> None:
        self.assertEqual(self.rerun(n=7, undelivered=True), ([1, 7], {"result": 2}, {"task_replaced"}))

    def test_any_other_copy_is_not_run(self) -> None:
        self.assertEqual(self.rerun(), ([1], {"result": 1}, {"copy_ignored"}))

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

    def test_the_result_of_a_task_that_timed_out_unheard_answers_the_retry_that_comes_after_it(self) -> None:
        """The platform gave up on a task that took longer than it may in all, though each extension got a 200, as did
        the report. The worker had seen the task's end, but took the report for one that counts: the retry ran again."""
        runs: list[int] = []
        known = threading.Event()

        def gives_up(kind: str, request: Any, proceed: Any) -> Any:
            if kind == "extend":
                return Reply(200, b"taken")  # and nothing comes of it
            reply = proceed(request) if request.method == "GET" and kind == "other" else PASS
            if reply is not PASS and b"TIMED_OUT" in reply.body:
                looks.append(reply)
                if len(looks) == 2:  # the first one was heeded
                    known.set()
            return reply

        def works() -> int:
            runs.append(1)
            known.wait(LONG_S)
            return len(runs)

        looks: list[Any] = []
        self.box.faults.append(gives_up)
        with working(self.box, agent(works), workers=1, platform="conductor"):
            task = self.box.submit("tested#user-agent", {}, retries=1, response_timeout_s=0.6)
            done = self.box.wait(task, LONG_S)
        self.assertEqual([one.status for one in done.attempts], ["TIMED_OUT", "COMPLETED"])
        self.assertEqual((done.output, len(runs)), ({"result": 1}, 1))

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
            self.assertTrue(self.ended.wait(LONG_S))

    def test_akabot_has_no_such_route_and_is_not_asked(self) -> None:
        with working(self.box, agent(self.waits), workers=1, drain_timeout_s=0.01):
            self.put()
            self.box.await_calls("extend", 1)
        self.assertEqual(self.looks, 0)


if __name__ == "__main__":
    unittest.main()

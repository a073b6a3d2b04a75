# SPDX-License-Identifier: Apache-2.0
"""The engine's own promises: waiting, memory, counts. What it shares with the real platform is in conformance.py."""

from __future__ import annotations

import gc
import random
import threading
import time
import unittest
import weakref
from typing import Any
from unittest import mock

from tests.support import executions
from user_agent_sdk.errors import NotFoundError, UsageError
from user_agent_sdk.sandbox import engine as engine_module
from user_agent_sdk.sandbox.engine import Engine
from user_agent_sdk.sandbox.tasks import ReportRefused

Wire = dict[str, Any]


class FakeTime:
    def __init__(self) -> None:
        self.now_s = 1000.0
        self.clock = lambda: self.now_s


def report(task: Wire, status: str = "COMPLETED", **fields: Any) -> Wire:
    return {"taskId": task["taskId"], "workflowInstanceId": task["workflowInstanceId"], "status": status, **fields}


class EngineCase(unittest.TestCase):
    def setUp(self) -> None:
        self.time = FakeTime()
        self.engine = Engine()
        self.engine.clock = self.time.clock

    def take(self, **options: Any) -> Wire:
        (task,) = self.engine.poll("a", "w", **options)
        return task

    def in_thread(self, target: Any) -> threading.Thread:
        thread = threading.Thread(target=target, daemon=True)
        thread.start()
        self.addCleanup(thread.join, 10)
        return thread


class Submitting(EngineCase):
    def test_an_input_that_is_no_json_object_is_refused(self) -> None:
        for given in ([1], "text", None, {"a": float("nan")}, {"a": {1, 2}}):
            with self.assertRaises(UsageError):
                self.engine.submit("a", given)  # type: ignore[arg-type]

    def test_an_input_that_no_worker_can_receive_is_refused(self) -> None:
        """A worker takes replies of up to 16 MB: with a larger input invoke waited its 60 s, and dev an hour."""
        self.engine.submit("a", {"a": "x" * (engine_module.PAYLOAD_MAX_BYTES - 9)})
        with self.assertRaisesRegex(UsageError, "at most 10,485,760 bytes"):
            self.engine.submit("a", {"a": "x" * engine_module.PAYLOAD_MAX_BYTES})
        self.engine.submit("a", {"a": "ế" * (engine_module.PAYLOAD_MAX_BYTES // 3 - 9)})  # in UTF-8, not as \\u1ebf

    def test_a_policy_without_sense_is_refused(self) -> None:
        policies: list[dict[str, Any]] = [{"retries": -1}, {"retry_delay_s": -1}, {"response_timeout_s": 0}]
        for policy in policies:
            with self.assertRaises(UsageError):
                self.engine.submit("a", {}, **policy)
        with self.assertRaises(UsageError):
            self.engine.submit("", {})

    def test_what_the_caller_does_to_its_input_later_changes_nothing(self) -> None:
        given = {"items": [1]}
        self.engine.submit("a", given)
        given["items"].append(2)
        self.assertEqual({"items": [1]}, self.take()["inputData"])

    def test_tasks_come_in_the_order_of_their_submission(self) -> None:
        ids = [self.engine.submit("a", {}) for _ in range(5)]
        self.assertEqual(ids, [task["workflowInstanceId"] for task in self.engine.poll("a", count=5)])


class Waiting(EngineCase):
    def setUp(self) -> None:
        self.engine = Engine()  # these wait for real, for the blink that another thread needs
        self.addCleanup(setattr, engine_module, "_SLICE_S", engine_module._SLICE_S)
        engine_module._SLICE_S = 60  # nobody is saved by looking again

    def test_a_waiting_poll_gets_the_task_as_it_comes(self) -> None:
        found: list[Wire] = []
        thread = self.in_thread(lambda: found.extend(self.engine.poll("a", "w", wait_s=10)))
        execution_id = self.engine.submit("a", {})
        thread.join(5)
        self.assertEqual([execution_id], [task["workflowInstanceId"] for task in found])

    def test_one_task_wakes_one_of_the_polls_that_wait(self) -> None:
        found: list[list[Wire]] = []
        threads = [self.in_thread(lambda: found.append(self.engine.poll("a", wait_s=0.3))) for _ in range(3)]
        self.engine.submit("a", {})
        for thread in threads:
            thread.join(5)
        self.assertEqual([0, 0, 1], sorted(map(len, found)))

    def test_a_waiting_poll_gets_the_retry_of_a_lapsed_lease_though_nobody_else_calls(self) -> None:
        self.engine.submit("a", {}, response_timeout_s=0.05)
        first = self.take()
        began = time.monotonic()
        self.assertEqual(first["taskId"], self.take(wait_s=10)["retriedTaskId"])
        self.assertLess(time.monotonic() - began, 5)

    def test_a_waiting_poll_gets_a_delayed_task_when_it_is_due(self) -> None:
        self.engine.submit("a", {}, retry_delay_s=0.05)
        first = self.take()
        began = time.monotonic()
        self.engine.update(report(first, "FAILED"))
        self.assertEqual(first["taskId"], self.take(wait_s=10)["retriedTaskId"])
        self.assertGreaterEqual(round(time.monotonic() - began, 6), 0.05)  # a sum of floats

    def test_wait_returns_when_the_execution_ends(self) -> None:
        execution_id = self.engine.submit("a", {})
        self.in_thread(lambda: self.engine.update(report(self.take(wait_s=5), outputData={"x": 1})))
        execution = self.engine.wait(execution_id, 10)
        self.assertEqual(("COMPLETED", {"x": 1}), (execution.status, execution.output))

    def test_wait_sees_a_lease_lapse_though_nobody_else_calls(self) -> None:
        execution_id = self.engine.submit("a", {}, retries=0, response_timeout_s=0.05)
        task = self.take()
        began = time.monotonic()
        execution = self.engine.wait(execution_id, 10)
        self.assertLess(time.monotonic() - began, 5)
        self.assertEqual("TIMED_OUT", execution.status)
        self.assertIn(task["taskId"], execution.reason or "")

    def test_wait_returns_what_is_when_its_time_is_up(self) -> None:
        execution_id = self.engine.submit("a", {})
        self.assertEqual("RUNNING", self.engine.wait(execution_id, 0.01).status)
        with self.assertRaises(NotFoundError):
            self.engine.wait("nobody", 0)

    def test_close_ends_every_wait(self) -> None:
        execution_id = self.engine.submit("other", {})
        ended = [self.in_thread(lambda: self.engine.poll("a", wait_s=60)),
                 self.in_thread(lambda: self.engine.wait(execution_id, 60))]  # fmt: skip
        self.engine.close()
        for thread in ended:
            thread.join(5)
            self.assertFalse(thread.is_alive())
        self.assertEqual([], self.engine.poll("a", wait_s=60))

    def test_many_workers_run_each_task_once(self) -> None:
        ids = {self.engine.submit("a", {}) for _ in range(300)}
        seen: list[str] = []

        def work() -> None:
            while tasks := self.engine.poll("a"):
                seen.append(tasks[0]["workflowInstanceId"])
                self.engine.update(report(tasks[0]))

        for thread in [self.in_thread(work) for _ in range(6)]:
            thread.join(20)
        self.assertEqual((len(ids), ids), (len(seen), set(seen)))


class Leases(EngineCase):
    def test_a_lease_holds_to_its_last_moment(self) -> None:
        self.engine.submit("a", {}, response_timeout_s=5)
        first = self.take()
        self.time.now_s += 4.999
        self.assertEqual([], self.engine.poll("a"))
        self.time.now_s += 0.001
        self.assertEqual(first["taskId"], self.take()["retriedTaskId"])

    def test_a_lease_begins_anew_when_a_task_is_polled_again(self) -> None:
        self.engine.submit("a", {}, response_timeout_s=5)
        task = self.take()
        self.time.now_s += 4
        self.engine.update(report(task, "IN_PROGRESS"))
        self.take()
        self.time.now_s += 4  # 8 s after the first poll, 4 s after the second
        self.assertEqual([], self.engine.poll("a"))
        self.time.now_s += 1
        self.assertEqual(task["taskId"], self.take()["retriedTaskId"])

    def test_a_second_hand_back_replaces_the_first_place_in_the_queue(self) -> None:
        self.engine.submit("a", {})
        task = self.take()
        self.engine.update(report(task, "IN_PROGRESS", callbackAfterSeconds=0))
        self.engine.update(report(task, "IN_PROGRESS", callbackAfterSeconds=10))
        self.assertEqual([], self.engine.poll("a"))
        self.time.now_s += 10
        self.assertEqual(1, len(self.engine.poll("a", count=5)))

    def test_a_response_timeout_on_the_wire_is_a_whole_number_when_it_is_one(self) -> None:
        self.engine.submit("a", {}, response_timeout_s=60.0)
        self.engine.submit("a", {}, response_timeout_s=0.5)
        self.assertEqual(["60", "0.5"], [repr(self.take()["responseTimeoutSeconds"]) for _ in range(2)])


class Memory(EngineCase):
    def keep(self, limit: str, value: int) -> None:
        self.addCleanup(setattr, engine_module, limit, getattr(engine_module, limit))
        setattr(engine_module, limit, value)

    def run_one(self, given: str = "", **fields: Any) -> str:
        execution_id = self.engine.submit("a", {"given": given})
        self.engine.update(report(self.take(), **fields), 1000)
        return execution_id

    def test_only_the_latest_executions_that_ended_are_kept(self) -> None:
        self.keep("KEPT_EXECUTIONS", 3)
        running = self.engine.submit("other", {})
        ids = [self.run_one() for _ in range(5)]
        self.assertEqual([*reversed(ids[2:]), running], [execution.id for execution in executions(self.engine)])
        with self.assertRaises(NotFoundError):
            self.engine.wait(ids[0], 0)

    def test_large_inputs_and_reports_push_older_executions_out_sooner(self) -> None:
        """Inputs counted for nothing: ten thousand of 1 MB, kept beside reports of a few bytes, took all memory."""
        self.keep("KEPT_BYTES", 5000)
        ids = [self.run_one() for _ in range(6)]
        self.assertEqual(ids[:1:-1], [execution.id for execution in executions(self.engine)])
        ids = [self.run_one("x" * 1000) for _ in range(3)]
        self.assertEqual(ids[:0:-1], [execution.id for execution in executions(self.engine)])

    def test_a_report_for_an_execution_that_was_dropped_is_refused_as_unknown(self) -> None:
        self.keep("KEPT_EXECUTIONS", 0)
        self.engine.submit("a", {})
        task = self.take()
        self.engine.update(report(task))
        with self.assertRaises(ReportRefused) as caught:
            self.engine.update(report(task))
        self.assertEqual(404, caught.exception.http_status)

    def test_what_is_dropped_is_freed_at_once(self) -> None:
        """An execution and its attempts hold each other: their outputs stayed until Python looked for such circles."""
        self.keep("KEPT_EXECUTIONS", 1)
        self.run_one()
        first = weakref.ref(self.engine.view(lambda found, _: next(iter(found))))
        gc.disable()
        self.addCleanup(gc.enable)
        self.run_one()
        self.assertIsNone(first())

    def test_hour_long_leases_of_ended_tasks_do_not_pile_up(self) -> None:
        self.keep("KEPT_EXECUTIONS", 1)
        for _ in range(3000):
            self.run_one()
        self.assertEqual(0, len(self.engine._leased))
        self.assertEqual((1, 1), (len(self.engine._tasks), len(self.engine._executions)))

    def test_the_log_of_an_endless_task_is_cut_to_its_end(self) -> None:
        self.engine.submit("a", {})
        lines = [{"log": str(n), "createdTime": n} for n in range(engine_module.KEPT_LOG_LINES + 5)]
        self.engine.update(report(self.take(), "IN_PROGRESS", logs=lines))
        kept = executions(self.engine)[0].attempts[0].logs
        self.assertEqual((engine_module.KEPT_LOG_LINES, "5"), (len(kept), kept[0].log))


class Views(EngineCase):
    def test_a_snapshot_does_not_change(self) -> None:
        execution_id = self.engine.submit("a", {})
        task = self.take()
        before = self.engine.wait(execution_id, 0)
        self.engine.update(report(task, "FAILED", logs=[{"log": "x", "createdTime": 1}]))
        (attempt,) = before.attempts
        self.assertEqual(("RUNNING", "IN_PROGRESS", []), (before.status, attempt.status, attempt.logs))

    def test_executions_are_listed_newest_first(self) -> None:
        ids = [self.engine.submit("a", {}) for _ in range(3)]
        self.assertEqual(ids[:0:-1], [execution.id for execution in executions(self.engine)[:2]])

    def test_agents_show_what_waits_and_what_runs(self) -> None:
        with mock.patch.object(engine_module, "wall_ms", return_value=5):
            for _ in range(3):
                self.engine.submit("a", {})
            self.take()
            self.engine.poll("b", "w2", "red")
        self.assertEqual(
            [
                {"agentId": "a", "domain": None, "queued": 2, "running": 1, "polledTime": 5, "workerId": "w"},
                {"agentId": "b", "domain": "red", "queued": 0, "running": 0, "polledTime": 5, "workerId": "w2"},
            ],
            self.engine.agents(),
        )

    def test_any_order_of_calls_keeps_the_books_straight(self) -> None:
        """Random schedules: counts match the records, nothing is queued twice, the tries stay within the policy."""
        for seed in range(30):
            with self.subTest(seed=seed):
                self.setUp()
                self.shake(random.Random(seed))

    def shake(self, rng: random.Random) -> None:
        handed_out: list[Wire] = []
        statuses = ("COMPLETED", "FAILED", "FAILED_WITH_TERMINAL_ERROR", "CANCELED", "IN_PROGRESS")
        for _ in range(150):
            step = rng.random()
            if step < 0.2:
                self.engine.submit("a", {}, retries=rng.randrange(3), retry_delay_s=rng.choice((0, 2)),
                                   response_timeout_s=rng.choice((3, 10)))  # fmt: skip
            elif step < 0.5:
                handed_out += self.engine.poll("a", count=rng.randrange(1, 3))
            elif step < 0.9 and handed_out:  # any of them: late, repeated and out of order
                late = report(rng.choice(handed_out), rng.choice(statuses), extendLease=rng.random() < 0.2)
                self.engine.update({**late, "callbackAfterSeconds": rng.choice((0, 1))})
            else:
                self.time.now_s += rng.choice((0.5, 2, 4))
        (books,) = self.engine.agents()
        found = executions(self.engine)
        statuses_now = [attempt.status for execution in found for attempt in execution.attempts]
        self.assertEqual(statuses_now.count("SCHEDULED"), books["queued"])
        self.assertEqual(statuses_now.count("IN_PROGRESS"), books["running"])
        for execution in found:
            alive = [attempt.status in ("SCHEDULED", "IN_PROGRESS") for attempt in execution.attempts]
            self.assertEqual([False] * (len(alive) - 1) + [execution.status == "RUNNING"], alive)
            self.assertLessEqual(len(alive), execution.retries + 1)
        self.time.now_s += 10
        left = self.engine.poll("a", count=1000)
        self.assertEqual(len({task["taskId"] for task in left}), len(left))

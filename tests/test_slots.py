# SPDX-License-Identifier: Apache-2.0
"""The loop of a slot, against the platform in a box: whatever happens to a task, nothing of it stays
behind, and no work is done twice that need not be."""

from __future__ import annotations

import contextlib
import json
import logging
import re
import sys
import tempfile
import threading
import time
import unittest
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

from tests.support import entered
from user_agent_sdk.conductor import connection as connection_module
from user_agent_sdk.conductor.wire import TASKS_MAX, Task, TaskResult, TaskStatus
from user_agent_sdk.sandbox.exchange import Reply, Request
from user_agent_sdk.worker import slots as slots_module
from user_agent_sdk.worker.keeping import retries as retries_module
from user_agent_sdk.worker.keeping.held import Held, State
from user_agent_sdk.worker.keeping.journal_file import LATE, RESULT
from user_agent_sdk.worker.keeping.lease import Lease
from user_agent_sdk.worker.keeping.retries import Case

from .workerbox import AGENT, LONG_S, PACKAGE, PASS, Box, Worker, agent, hasten, working

SLOTS = "user_agent_sdk.worker.slots"
STEADY_CALLS, STEADY_MODULES = 62, 10  # of the loop and keeping, for one task
CUSTODY = "user_agent_sdk.worker.keeping.custody"


class _Case(unittest.TestCase):
    def setUp(self) -> None:
        self.box = entered(self, Box())

    def await_clean(self, worker: Worker) -> None:
        """Nothing is held, leased, journaled or undelivered."""
        services = worker.runner.services
        self.assertTrue(services.custody.delivery.flush(LONG_S))
        worker.runner._serve = lambda: None  # type: ignore[method-assign]
        worker.stop()
        self.assertEqual([entry for entry in services.custody.journal.live().values() if entry.is_pending], [])
        self.assertEqual((services.custody.register.pending(), services.custody.register.stuck), ([], 0))
        self.assertEqual(len(services.custody.leases._table), 0)

    @contextlib.contextmanager
    def patched(self, name: str, value: Any) -> Iterator[None]:
        before = getattr(slots_module, name)
        setattr(slots_module, name, value)
        try:
            yield
        finally:
            setattr(slots_module, name, before)

    def lapse(self, first: str) -> None:
        """Let the platform give up on the only attempt of ``first``, as in an outage longer than its lease."""
        execution = self.box.await_state(first, lambda it: len(it.attempts) > 1)
        self.assertEqual(execution.attempts[0].status, "TIMED_OUT")

    def folder(self) -> Path:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        return Path(folder.name)

    def held_report(self) -> tuple[threading.Event, threading.Event]:
        """Set when a report came; its reply waits for the other."""
        came, go = threading.Event(), threading.Event()
        self.addCleanup(go.set)

        def fault(kind: str, request: Request, proceed: Any) -> Any:
            if kind != "report" or came.is_set():
                return PASS
            came.set()
            reply = proceed(request)
            go.wait(LONG_S)
            return reply

        self.box.faults.append(fault)
        return came, go


class SlotsTest(_Case):
    def test_a_record_factory_that_raises_costs_neither_a_slot_nor_a_result(self) -> None:
        """The usual recipe gives each line the value of a context variable, which no thread but the main one has. Our
        line about a report that had failed raised, then the line about that, and the slot's thread ended: its result
        was never sent again, and its lease was kept for ever."""
        before = logging.getLogRecordFactory()

        def factory(*args: Any, **kwargs: Any) -> logging.LogRecord:
            if threading.current_thread() is not threading.main_thread():
                raise LookupError("request_id")
            return before(*args, **kwargs)

        logging.setLogRecordFactory(factory)
        self.addCleanup(logging.setLogRecordFactory, before)
        with working(self.box, agent(lambda: 1)) as worker:
            with self.box.down("report"), self.assertLogs("user_agent_sdk.worker.keeping", "WARNING"):
                one = self.box.put()
                self.box.await_calls("report", 2)
            ended = [self.box.wait(each, LONG_S).status for each in (one, self.box.put())]
            self.await_clean(worker)
        self.assertEqual(ended, ["COMPLETED"] * 2)

    def test_a_result_whose_task_was_rerun_while_it_was_written_down_is_not_reported(self) -> None:
        """The disk was slow, the task came again with another input, and the result of the run before completed it."""
        reports: list[Any] = []
        writing, go, runs_again, end = (threading.Event() for _ in range(4))
        wire = {"taskId": "t", "workflowInstanceId": "w", "taskDefName": AGENT, "responseTimeoutSeconds": 60}
        offers: list[Any] = []

        def fault(kind: str, request: Request, proceed: Any) -> Any:
            if kind == "poll":
                return Reply.of(offers.pop(0)) if offers else PASS
            if kind != "report":
                return PASS
            reports.append(json.loads(request.body)["outputData"])
            return Reply.of("t")

        def runs(n: int) -> int:
            if n == 2:
                runs_again.set()
                end.wait(LONG_S)
            return n

        self.box.faults.append(fault)
        with working(self.box, agent(runs), workers=2) as worker:
            self.addCleanup(end.set)
            self.addCleanup(go.set)
            journal = worker.runner._journal
            plain = journal.write

            def write(entry: Any, row: int = 0) -> int:
                if entry.state == RESULT and not writing.is_set():
                    writing.set()
                    go.wait(LONG_S)
                return plain(entry, row)

            with mock.patch.object(journal, "write", write), self.assertLogs(CUSTODY, "WARNING"):
                offers.append({**wire, "inputData": {"n": 1}})
                self.assertTrue(writing.wait(LONG_S))
                offers.append({**wire, "inputData": {"n": 2}})
                self.assertTrue(runs_again.wait(LONG_S))
                go.set()
                end.set()
                self.await_clean(worker)
        self.assertEqual(reports, [{"result": 2}])

    def test_a_slow_disk_keeps_no_lease_waiting(self) -> None:
        """A rewrite of the journal flushed it to a busy disk for two seconds. The tasks that had just come waited for
        their turn to be written, and only then for their leases to be kept: those of two seconds were over."""
        with tempfile.TemporaryDirectory() as folder, working(self.box, agent(lambda: 1), Path(folder)) as worker:
            journal = worker.runner._journal
            first = self.box.submit(AGENT, {})
            self.assertEqual(self.box.wait(first, LONG_S).status, "COMPLETED")
            with journal._lock:
                second = self.box.submit(AGENT, {}, response_timeout_s=0.9)
                self.box.await_calls("extend", self.box.calls["extend"] + 3)
                freed = threading.Thread(target=journal.free, args=(999,), daemon=True)
                freed.start()  # nor has whoever is done with a task to wait, since the next one is on its way
                freed.join(LONG_S)
                self.assertFalse(freed.is_alive())
            done = self.box.wait(second, LONG_S)
        self.assertEqual([one.status for one in done.attempts], ["COMPLETED"])


class RetriesTest(_Case):
    """Retries of what is here already."""

    def test_a_retry_of_what_still_runs_here_is_not_run_again_and_gets_its_result(self) -> None:
        runs: list[int] = []
        started, go = threading.Event(), threading.Event()

        def slow(n: int) -> int:
            runs.append(n)
            started.set()
            go.wait(LONG_S)
            return n + 1

        with working(self.box, agent(slow), workers=3) as worker, self.assertLogs(CUSTODY, "WARNING") as said:
            with self.box.down("extend"):
                first = self.box.submit(AGENT, {"n": 1}, response_timeout_s=0.5)
                self.assertTrue(started.wait(LONG_S))
                self.lapse(first)
            self.box.await_state(first, lambda it: it.attempts[-1].status == "IN_PROGRESS")
            retried = self.box.engine.wait(first, 0).attempts[-1].task_id
            calls = self.box.calls["extend"]
            self.box.await_calls("extend", calls + 4)  # the retry's lease is kept: it is polled by nobody else
            go.set()
            done = self.box.wait(first, LONG_S)
            self.await_clean(worker)
        self.assertEqual((done.status, done.output, runs), ("COMPLETED", {"result": 2}, [1]))
        self.assertEqual(len(done.attempts), 2)
        self.assertEqual({report["taskId"] for report in self.box.reports}, {retried})
        self.assertIn("still runs here", said.output[0])

    def test_a_task_whose_work_was_begun_anew_before_it_started_is_not_run(self) -> None:
        """Its slot waited for the disk. Meanwhile its workflow was restarted, and another slot had that task: both
        ran."""
        ran: list[int] = []
        real, came = retries_module.case_of, threading.Event()

        def case_of(register: Any, held: Any, *others: Any) -> Any:
            held.is_of_before = True
            came.set()
            return real(register, held, *others)

        patch = mock.patch.object(retries_module, "case_of", case_of)
        with patch, working(self.box, agent(ran.append)) as worker, self.assertLogs(CUSTODY, "INFO") as said:
            self.box.put(n=1)
            self.assertTrue(came.wait(LONG_S))
            self.await_clean(worker)
        self.assertEqual(ran, [])
        self.assertIn("its work was begun anew", said.output[0])

    def test_a_retry_of_what_is_undelivered_here_gets_that_result(self) -> None:
        runs: list[int] = []

        hasten(self, backoff_GAP_MAX_S=0.05)

        def quick(n: int) -> int:
            runs.append(n)
            return n + 1

        with working(self.box, agent(quick), workers=2) as worker, self.assertLogs(CUSTODY, "INFO") as said:
            with self.box.down("extend", "report"), self.assertLogs("user_agent_sdk.worker.keeping", "WARNING"):
                first = self.box.submit(AGENT, {"n": 1}, response_timeout_s=0.5, retries=100)
                self.lapse(first)
                self.box.await_state(first, lambda it: len(it.attempts) > 3)
            done = self.box.wait(first, LONG_S)
            self.await_clean(worker)
        self.assertEqual((done.status, done.output, runs), ("COMPLETED", {"result": 2}, [1]))
        self.assertIn("completed here too late", said.output[0])

    def test_a_late_result_answers_the_retry_that_comes_after_it(self) -> None:
        """The report got a 200 and was ignored: the platform's own word that all is well."""
        runs: list[int] = []
        go = threading.Event()
        journal = tempfile.TemporaryDirectory()
        self.addCleanup(journal.cleanup)

        def quick(n: int) -> int:
            runs.append(n)
            go.wait(LONG_S)
            return n + 1

        with working(self.box, agent(quick), Path(journal.name), workers=1) as worker, self.box.down("extend"):
            first = self.box.submit(AGENT, {"n": 1}, response_timeout_s=0.5)
            self.lapse(first)
            go.set()
            done = self.box.wait(first, LONG_S)
            self.await_clean(worker)
            self.assertEqual(worker.runner._journal.live(), {})
        self.assertEqual((done.status, done.output, runs), ("COMPLETED", {"result": 2}, [1]))
        self.assertEqual(len({report["taskId"] for report in self.box.reports}), 2)

    def test_a_late_result_answers_the_retry_of_an_attempt_whose_reply_was_lost(self) -> None:
        """That retry names an attempt which nobody ever had: the function ran again."""
        runs: list[int] = []
        go, lost = threading.Event(), threading.Event()

        def quick(n: int) -> int:
            runs.append(n)
            go.wait(LONG_S)
            return n + 1

        def loses(kind: str, request: Request, proceed: Any) -> Any:
            reply = proceed(request) if kind == "poll" and not lost.is_set() else None
            if reply is None or reply.status != 200:
                return reply or PASS
            lost.set()
            return Reply(503, b"")

        with working(self.box, agent(quick), self.folder(), workers=1) as worker, self.box.down("extend"):
            first = self.box.submit(AGENT, {"n": 1}, response_timeout_s=0.5)
            self.lapse(first)
            self.box.faults.append(loses)
            go.set()
            done = self.box.wait(first, LONG_S)
            self.await_clean(worker)
        self.assertTrue(lost.is_set())
        self.assertEqual((done.status, done.output, runs), ("COMPLETED", {"result": 2}, [1]))
        self.assertEqual([one.status for one in done.attempts], ["TIMED_OUT", "TIMED_OUT", "COMPLETED"])

    def test_a_result_is_forgotten_when_its_workflow_is_restarted(self) -> None:
        """Whoever restarts a workflow wants its work done anew: a retry of that must not get the old result."""

        def never(n: int) -> None:
            self.fail("nothing is to be run")

        with working(self.box, agent(never), self.folder(), workers=1) as worker:
            custody = worker.runner.services.custody
            for retried, case, left in (("old", Case.KNOWN, 1), (None, Case.NEW, 0)):
                names = {"workflow_instance_id": "w", "reference_task_name": "step"}
                task = Task(task_id=f"retries {retried}", retried_task_id=retried, **names)
                held = custody.hold(task, AGENT, "me", time.monotonic())
                assert held is not None
                body = b'{"outputData": {}}'
                entry = held.entry._replace(state=LATE, task_id="old", status="COMPLETED", body=body)
                custody.register.move(Held(entry, Lease(9.0)), State.LATE)
                self.assertIs(custody.accept(held, task)[0], case)
                self.assertEqual(len(custody.register.late()), left)
                for one in (held, *custody.register.late()):
                    custody.delivery.forget(one)
            self.await_clean(worker)

    def test_a_retry_with_another_input_is_run(self) -> None:
        runs: list[int] = []

        def quick(n: int) -> int:
            runs.append(n)
            return n + 1

        changed = iter((5, 6, 7))

        def other_input(kind: str, request: Request, proceed: Any) -> Any:
            reply = proceed(request) if kind == "poll" else PASS
            if reply is PASS or not reply.body or b"retriedTaskId" not in reply.body:
                return reply
            task = json.loads(reply.body)
            task["inputData"]["n"] = next(changed)
            return Reply.of(task)

        self.box.faults.append(other_input)
        with working(self.box, agent(quick)) as worker:
            with self.box.down("extend", "report"), self.assertLogs("user_agent_sdk.worker.keeping", "WARNING"):
                first = self.box.submit(AGENT, {"n": 1}, response_timeout_s=0.4, retries=1)
                self.lapse(first)
            done = self.box.wait(first, LONG_S)
            self.await_clean(worker)
        self.assertEqual((done.output, runs), ({"result": 6}, [1, 5]))

    def test_a_failure_is_never_reused(self) -> None:
        runs: list[int] = []

        def fails_first(n: int) -> int:
            runs.append(n)
            if len(runs) == 1:
                raise ValueError("no")
            return n + 1

        with working(self.box, agent(fails_first)) as worker:
            done = self.box.wait(self.box.put(n=1), LONG_S)
            self.await_clean(worker)
        self.assertEqual((done.status, runs), ("COMPLETED", [1, 1]))


class WayTest(_Case):
    """The way of every task."""

    def test_a_steady_task_takes_no_more_than_so_many_calls_and_modules(self) -> None:
        """From inside one function to inside the next, in the slot's thread: what the loop and keeping cost a task."""
        rooms = [str(PACKAGE / "worker" / name) for name in ("slots.py", "keeping")]
        calls: list[str] = []

        def profile(frame: Any, event: str, _: Any) -> None:
            if event == "call" and frame.f_code.co_filename.startswith(tuple(rooms)):
                calls.append(frame.f_code.co_filename)

        def steady(n: int) -> int:
            sys.setprofile({10: profile}.get(n))
            return n

        ids = [self.box.put(n=n) for n in range(12)]
        with working(self.box, agent(steady), self.folder()) as worker:
            self.assertEqual({self.box.wait(one, LONG_S).status for one in ids}, {"COMPLETED"})
            self.await_clean(worker)
        self.assertGreater(len(calls), 20, "nothing was counted")
        self.assertLessEqual(len(calls), STEADY_CALLS)
        self.assertLessEqual(len(set(calls)), STEADY_MODULES)


class BesideTest(_Case):
    """The next poll beside the report."""

    def test_a_slot_asks_for_its_next_task_while_its_report_is_on_the_way(self) -> None:
        """Over a network of 50 ms a slot waits for one reply a task, not for two."""
        came, go = self.held_report()
        ran: list[int] = []
        with working(self.box, agent(lambda n: ran.append(n))) as worker:
            first = self.box.put(n=1)
            self.assertTrue(came.wait(LONG_S))
            second = self.box.put(n=2)
            self.box.await_state(second, lambda it: it.attempts[0].status == "IN_PROGRESS")
            self.assertEqual(ran, [1], "it is the slot's only one, and not yet free")
            go.set()
            self.assertEqual([self.box.wait(one, LONG_S).status for one in (first, second)], ["COMPLETED"] * 2)
            self.await_clean(worker)
        self.assertEqual(ran, [1, 2])

    def test_a_report_that_hangs_costs_the_next_task_neither_its_lease_nor_a_second_run(self) -> None:
        """The task was there, unread and with its lease unkept, while the slot waited 30 s for its report."""
        came, _ = self.held_report()
        ran: list[int] = []
        with working(self.box, agent(lambda n: ran.append(n))) as worker:
            first = self.box.submit(AGENT, {"n": 1}, response_timeout_s=0.9)
            self.assertTrue(came.wait(LONG_S))
            second = self.box.submit(AGENT, {"n": 2}, response_timeout_s=0.9)
            with self.assertLogs("user_agent_sdk.worker.keeping.delivery", "INFO"):
                done = [self.box.wait(one, LONG_S) for one in (first, second)]
                self.await_clean(worker)
        self.assertEqual([(one.status, len(one.attempts)) for one in done], [("COMPLETED", 1)] * 2)
        self.assertEqual(ran, [1, 2])

    def test_a_large_report_goes_alone(self) -> None:
        """Over a slow line it took longer than the lease of the task that came beside it: a try of that was lost."""
        came, go = self.held_report()
        entered(self, mock.patch.object(slots_module, "ALONE_BYTES", 1000))
        with working(self.box, agent(lambda n: "x" * n)) as worker:
            first = self.box.put(n=2000)
            self.assertTrue(came.wait(LONG_S))
            polls, second = self.box.calls["poll"], self.box.put(n=2)
            self.assertEqual(self.box.wait(first, LONG_S).status, "COMPLETED")
            self.assertEqual((polls, self.box.calls["poll"]), (1, 1))
            go.set()
            self.assertEqual(self.box.wait(second, LONG_S).status, "COMPLETED")
            self.await_clean(worker)

    def test_what_that_poll_brings_after_a_stop_is_handed_back(self) -> None:
        came, go = self.held_report()
        ran: list[int] = []
        with working(self.box, agent(lambda n: ran.append(n))) as worker:
            self.box.put(n=1)
            self.assertTrue(came.wait(LONG_S))
            second = self.box.put(n=2)
            self.box.await_state(second, lambda it: it.attempts[0].status == "IN_PROGRESS")
            worker.runner.stop()
            worker.runner.services.stopping.wait(LONG_S)
            go.set()
            self.assertEqual(worker.ended(), 0)
        self.assertEqual((ran, self.box.calls["put-back"]), ([1], 1))
        self.assertEqual(self.box.engine.wait(second, 0).attempts[0].status, "SCHEDULED")

    def test_a_slot_that_breaks_at_a_stop_hands_it_back_too(self) -> None:
        """The slot ended there, and what the poll had brought was with nobody."""
        came, go = self.held_report()
        with working(self.box, agent(lambda n: n)) as worker:
            delivery = worker.runner.services.custody.delivery
            real = delivery.attempt_ended

            def breaks(*args: Any) -> None:
                real(*args)
                raise MemoryError("once")

            delivery.attempt_ended = breaks  # type: ignore[method-assign]
            self.box.put(n=1)
            self.assertTrue(came.wait(LONG_S))
            second = self.box.put(n=2)
            self.box.await_state(second, lambda it: it.attempts[0].status == "IN_PROGRESS")
            with self.assertLogs(SLOTS, "CRITICAL"):
                worker.runner.stop()
                worker.runner.services.stopping.wait(LONG_S)
                go.set()
                self.assertEqual(worker.ended(), 0)
        self.assertEqual(self.box.engine.wait(second, 0).attempts[0].status, "SCHEDULED")

    def test_a_slot_that_breaks_meanwhile_still_runs_what_it_brings(self) -> None:
        """Left unread, the task would be with nobody until its response timeout is over."""
        hasten(self, slots_RESTART_PAUSE_S=0.01)
        with working(self.box, agent(lambda n: n)) as worker:
            client = worker.runner.services.client
            real, second = client.send_report, []

            def breaks() -> Any:
                self.box.await_state(second[0], lambda it: it.attempts[0].status == "IN_PROGRESS")
                raise RuntimeError("bug")

            def send_report(*args: Any) -> Any:
                client.send_report = real  # type: ignore[method-assign]
                second.append(self.box.put(n=2))
                return SimpleNamespace(fetch=breaks)

            client.send_report = send_report  # type: ignore[method-assign]
            with self.assertLogs(SLOTS, "CRITICAL"):
                first = self.box.put(n=1)
                done = [self.box.wait(first, LONG_S), self.box.wait(second[0], LONG_S)]
            self.await_clean(worker)
        self.assertEqual([(one.status, len(one.attempts)) for one in done], [("COMPLETED", 1)] * 2)

    def test_the_last_of_max_tasks_asks_for_no_other(self) -> None:
        with working(self.box, agent(lambda n: n), max_tasks=2) as worker:
            ids = [self.box.put(n=n) for n in range(3)]
            self.assertEqual(worker.ended(), 0)
        states = [self.box.engine.wait(one, 0).attempts[0].status for one in ids]
        self.assertEqual(sorted(states), ["COMPLETED", "COMPLETED", "SCHEDULED"])

    def test_surplus_that_is_handed_back_is_none_of_max_tasks(self) -> None:
        """A platform gave two tasks where one was asked for. Both counted: a worker for four tasks ended after two."""
        runs: list[int] = []

        def generous(kind: str, request: Request, proceed: Any) -> Any:
            found = self.box.engine.poll(AGENT, count=2) if kind == "poll" else None
            return PASS if found is None else Reply.of(found) if found else Reply(204)

        for n in range(6):
            self.box.put(n=n)
        self.box.faults.append(generous)
        with working(self.box, agent(lambda n: runs.append(n)), max_tasks=4) as worker:
            self.assertEqual(worker.ended(), 0)
        self.assertEqual(len(runs), 4)


class CopiesTest(_Case):
    """Copies, surplus, hand-backs."""

    def test_two_running_tasks_that_come_again_are_not_run_again_and_keep_their_leases(self) -> None:
        """The second copy in a process's life was taken for proof that the platform does not know extendLease: no lease
        was extended from then on until a restart."""
        runs: list[int] = []
        go, copies = threading.Event(), threading.Semaphore(0)
        given: dict[str, bytes] = {}

        def hands_out_again(kind: str, request: Request, proceed: Any) -> Any:
            reply = proceed(request) if kind == "poll" else PASS
            if reply is PASS:
                return PASS
            if reply.body:
                given[json.loads(reply.body)["taskId"]] = reply.body
            elif len(given) == 2 and self.box.calls["extend"] >= 4 and len(runs) == 2 and copied:
                copies.release()
                return Reply(200, given[copied.pop()])
            return reply

        def slow(n: int) -> int:
            runs.append(n)
            if len(runs) == 2:
                copied.extend(given)
            go.wait(LONG_S)
            return n

        copied: list[str] = []
        self.box.faults.append(hands_out_again)
        with working(self.box, agent(slow), workers=3) as worker, self.assertLogs(CUSTODY, "WARNING") as said:
            both = [self.box.submit(AGENT, {"n": n}, response_timeout_s=2.0) for n in range(2)]
            for _ in both:
                self.assertTrue(copies.acquire(timeout=LONG_S))
            self.box.await_calls("extend", self.box.calls["extend"] + 8)  # more than a lease and a half of both
            go.set()
            done = [self.box.wait(one, LONG_S) for one in both]
            self.await_clean(worker)
        self.assertEqual([(one.status, len(one.attempts)) for one in done], [("COMPLETED", 1)] * 2)
        self.assertEqual((sorted(runs), len(self.box.reports), len(said.output)), ([0, 1], 2, 2))

    def test_of_a_reply_with_a_thousand_tasks_a_few_are_handed_back_and_a_stop_waits_for_no_more(self) -> None:
        """One reply of 330,000 tasks kept a slot at handing back, and the worker could not be stopped meanwhile."""
        flood = [{"taskId": f"t{n}", "workflowInstanceId": "w", "inputData": {}} for n in range(1000)]
        replies = [Reply.of(flood)]
        self.box.faults.append(lambda kind, *_: replies.pop() if kind == "poll" and replies else PASS)
        self.box.faults.append(lambda kind, *_: Reply(200, b"ok") if kind in ("report", "put-back") else PASS)
        ran: list[int] = []
        with working(self.box, agent(lambda: ran.append(1))) as worker:
            self.box.await_calls("report", 1)
            self.assertEqual(worker.stop(), 0)
        self.assertEqual((len(ran), self.box.calls["put-back"]), (1, TASKS_MAX - 1))


class RefusedTest(_Case):
    """A platform that takes no results."""

    def test_while_reports_are_refused_few_requests_are_made_and_few_tasks_taken(self) -> None:
        """All of 3,000 queued tasks were taken and run in 40 s, with 8,300 reports and 8,500 extensions in 5 s."""
        hasten(self, custody_WAITING_LEAST=20, custody_WAITING_PER_WORKER=1, backoff_BASE_S=0.02)
        ids = [self.box.submit(AGENT, {"n": n}, response_timeout_s=60.0) for n in range(60)]
        refused = Reply.of({"message": "who are you?"}, 401)
        self.box.faults.append(lambda kind, *_: refused if kind == "report" else PASS)
        logs = self.assertLogs("user_agent_sdk.worker", "WARNING")
        with logs, working(self.box, agent(lambda n: n), workers=4) as worker:
            self.box.await_calls("report", 7)
            taken = self.box.calls["poll"]
            self.assertLess(taken, 40)
            self.assertLess(len(worker.runner._custody.delivery), 40)
            self.box.faults.clear()
            self.assertEqual({self.box.wait(one, LONG_S).status for one in ids}, {"COMPLETED"})
            self.await_clean(worker)

    def test_no_more_is_taken_while_too_many_results_wait_and_that_is_said(self) -> None:
        hasten(self, custody_WAITING_LEAST=3, custody_WAITING_PER_WORKER=1, runner_SWEEP_S=0.02)
        hasten(self, backoff_GAP_S=0.001, backoff_GAP_MAX_S=0.002, backoff_BASE_S=0.01)
        logs = self.assertLogs(CUSTODY, "INFO")
        with logs as said, working(self.box, agent(lambda n: n), workers=2) as worker:
            with self.box.down("report"), self.assertLogs("user_agent_sdk.worker.keeping.delivery", "WARNING"):
                ids = [self.box.put(n=n) for n in range(12)]
                self.box.await_calls("report", 30)
                running = sum(row["running"] for row in self.box.engine.agents())
                self.assertLessEqual(running, 3 + 1 + 2 * 2, "the limit, and what each slot had in hand and on its way")
            self.assertEqual({self.box.wait(one, LONG_S).status for one in ids}, {"COMPLETED"})
            self.await_clean(worker)
        actions = [record.action for record in said.records]
        self.assertEqual(actions, ["intake_stopped", "intake_resumed"])

    def test_surplus_is_handed_back_once_and_the_same_id_twice_is_one_task(self) -> None:
        """The copy in the same reply was once handed back as surplus while the first ran: two workers had it."""
        runs: list[int] = []

        def generous(kind: str, request: Request, proceed: Any) -> Any:
            if kind != "poll":
                return PASS
            found = self.box.engine.poll(AGENT, count=3)
            if len(found) > 1:
                self.box.faults.clear()
                return Reply.of([found[0], found[0], *found[1:], found[1]])
            return Reply.of(found[0]) if found else Reply(204)

        ids = [self.box.put(n=n) for n in range(3)]
        self.box.faults.append(generous)
        with working(self.box, agent(lambda n: runs.append(n))) as worker:
            for one in ids:
                self.assertEqual(self.box.wait(one, LONG_S).status, "COMPLETED")
            self.await_clean(worker)
        self.assertEqual(sorted(runs), [0, 1, 2])
        self.assertEqual(self.box.calls["put-back"], 2)

    def test_a_task_keeps_its_lease_while_the_surplus_beside_it_is_handed_back(self) -> None:
        """A hand-back that nobody answered took 30 s, and the first task of that reply was held only after it: its
        lease was over, a retry was handed out, and both ran."""
        runs: list[int] = []

        def generous(kind: str, request: Request, proceed: Any) -> Any:
            if kind != "poll":
                return PASS
            found = self.box.engine.poll(AGENT, count=2)
            return Reply.of(found) if found else Reply(204)

        first = self.box.submit(AGENT, {"n": 1}, response_timeout_s=2.0, retries=2)
        second = self.box.put(n=2)
        self.box.faults.append(generous)
        with self.box.hanging("put-back") as (asked, go), working(self.box, agent(lambda n: runs.append(n))) as worker:
            self.assertTrue(asked.wait(LONG_S))
            self.box.await_calls("extend", 2)
            go.set()
            self.assertEqual(len(self.box.wait(first, LONG_S).attempts), 1)
            self.assertEqual(self.box.wait(second, LONG_S).status, "COMPLETED")
            self.await_clean(worker)
        self.assertEqual(sorted(runs), [1, 2])

    def test_a_task_does_not_wait_for_surplus_that_is_refused_unread(self) -> None:
        """The hand-back was sent again for as long as a gateway said 429, and the task in hand did not start."""

        def generous(kind: str, request: Request, proceed: Any) -> Any:
            if kind == "put-back":
                return Reply.of({"message": "too many requests"}, 429)
            found = self.box.engine.poll(AGENT, count=2) if kind == "poll" else None
            return PASS if found is None else Reply.of(found) if found else Reply(204)

        first, _ = self.box.put(n=1), self.box.put(n=2)
        self.box.faults.append(generous)
        with working(self.box, agent(lambda n: n)), self.assertLogs(CUSTODY, "WARNING"):
            self.assertEqual(self.box.wait(first, LONG_S).status, "COMPLETED")
        self.assertEqual(self.box.calls["put-back"], 1)

    def test_a_task_that_puts_itself_back_may_come_at_once_to_another_slot(self) -> None:
        """Its id was once held until the reply: the other slot took it for a copy, and it stuck."""
        go = threading.Event()

        def reply_waits(kind: str, request: Request, proceed: Any) -> Any:
            if kind != "put-back":
                return PASS
            reply = proceed(request)
            go.wait(LONG_S)
            return reply

        def twice(task: Any) -> Any:
            if task.poll_count == 1:
                return TaskResult(status="IN_PROGRESS", output_data={"step": 1}, callback_after_seconds=0)
            go.set()
            return task.output_data

        self.box.faults.append(reply_waits)
        with working(self.box, agent(twice), workers=2) as worker:
            done = self.box.wait(self.box.put(), LONG_S)
            self.await_clean(worker)
        self.assertEqual((done.status, done.output), ("COMPLETED", {"step": 1}))

    def test_an_in_progress_is_sent_once_whatever_becomes_of_it(self) -> None:
        marks: list[list[str]] = []

        def lost(kind: str, request: Request, proceed: Any) -> Any:
            if kind == "put-back":
                marks.append([entry.state for entry in worker.runner._journal.live().values()])
                return None
            return PASS

        def puts_back() -> Any:
            return TaskResult(status="IN_PROGRESS", callback_after_seconds=0)

        self.box.faults.append(lost)
        with working(self.box, agent(puts_back)) as worker, self.assertLogs(CUSTODY, "WARNING") as said:
            self.box.put()
            self.box.await_calls("put-back", 1)
            self.box.await_calls("poll", self.box.calls["poll"] + 3)
            self.await_clean(worker)
        self.assertEqual((self.box.calls["put-back"], marks), (1, [["once"]]))
        self.assertIn("could not be put back", said.output[0])

    def test_an_in_progress_that_could_not_be_sent_is_sent_later(self) -> None:
        """What it had to say was dropped because a connection was refused for a moment."""
        hasten(self, backoff_BASE_S=0.01)
        started, go, refused = threading.Event(), threading.Event(), threading.Semaphore(0)
        real = connection_module._connect

        def refuses(*args: Any) -> Any:
            refused.release()
            raise ConnectionRefusedError(111, "Connection refused")

        def puts_back() -> Any:
            started.set()
            go.wait(LONG_S)
            return TaskResult(status="IN_PROGRESS", output_data={"cursor": 17}, callback_after_seconds=1)

        with working(self.box, agent(puts_back)) as worker:
            self.box.put()
            self.assertTrue(started.wait(LONG_S))
            self.addCleanup(setattr, connection_module, "_connect", real)
            connection_module._connect = refuses
            worker.runner.client.transport.close()
            go.set()
            for _ in range(2):
                self.assertTrue(refused.acquire(timeout=LONG_S))
            connection_module._connect = real
            self.box.await_calls("put-back", 1)

    def test_an_in_progress_that_was_refused_unread_is_sent_again(self) -> None:
        """Of a gateway's 429 too: one of them, and what the task had to say was gone until its timeout."""
        hasten(self, backoff_BASE_S=0.01)
        refusals = [Reply.of({"message": "who are you?"}, 401), Reply.of({"message": "too many requests"}, 429)]

        def puts_back() -> Any:
            return TaskResult(status="IN_PROGRESS", output_data={"cursor": 17}, callback_after_seconds=1)

        self.box.faults.append(lambda kind, *_: refusals.pop() if kind == "put-back" and refusals else PASS)
        with working(self.box, agent(puts_back)):
            self.box.put()
            self.box.await_calls("put-back", 3)
        self.assertEqual([report["outputData"] for report in self.box.reports[:3]], [{"cursor": 17}] * 3)
        self.assertEqual(refusals, [])

    def test_a_drain_awaits_an_in_progress_that_is_refused_unread(self) -> None:
        """It was given up at the first refusal after a stop, and the worker ended with 0."""
        hasten(self, backoff_BASE_S=0.01)
        refuses, came = [True], threading.Semaphore(0)

        def busy(kind: str, request: Request, proceed: Any) -> Any:
            if kind != "put-back" or not refuses:
                return PASS
            came.release()
            return Reply.of({"message": "too many requests"}, 429)

        def puts_back() -> Any:
            return TaskResult(status="IN_PROGRESS", output_data={"cursor": 17}, callback_after_seconds=60)

        self.box.faults.append(busy)
        with working(self.box, agent(puts_back)) as worker:
            task = self.box.put()
            self.assertTrue(came.acquire(timeout=LONG_S))
            worker.runner.stop()
            for _ in range(8):  # some of them after the stop
                self.assertTrue(came.acquire(timeout=LONG_S))
            refuses.clear()
            self.assertEqual(worker.stop(), 0)
        self.assertEqual(self.box.wait(task, 0).attempts[-1].output, {"cursor": 17})

    def test_a_drain_that_is_over_tells_of_an_in_progress_that_was_never_taken(self) -> None:
        hasten(self, backoff_BASE_S=0.01)
        self.box.faults.append(lambda kind, *_: Reply.of({}, 429) if kind == "put-back" else PASS)

        def puts_back() -> Any:
            return TaskResult(status="IN_PROGRESS", callback_after_seconds=60)

        with working(self.box, agent(puts_back), drain_timeout_s=0.2) as worker:
            self.box.put()
            self.box.await_calls("put-back", 1)
            with self.assertLogs("user_agent_sdk.worker", "WARNING") as said:
                self.assertEqual(worker.stop(), 7)
                self.assertTrue(worker.runner._crew.wait(0, LONG_S), "nobody sends it when the worker is gone")
        actions = {record.action for record in said.records}
        self.assertLessEqual({"cut_off", "put_back_failed"}, actions)


class BreaksTest(_Case):
    """What breaks."""

    def test_a_result_that_cannot_be_encoded_is_a_failure_for_good_that_says_so(self) -> None:
        def bad(*args: Any, **kwargs: Any) -> TaskResult:
            return TaskResult(output_data={"a": object()})

        with self.patched("execute", bad), working(self.box, agent(lambda: 1)) as worker:
            done = self.box.wait(self.box.put(), LONG_S)
            self.await_clean(worker)
        self.assertEqual(done.attempts[0].status, "FAILED_WITH_TERMINAL_ERROR")
        self.assertIn("can't be sent: TypeError", done.reason or "")

    def test_a_slot_that_breaks_says_so_fails_its_task_and_goes_on(self) -> None:
        """The history had the retry alone."""
        hasten(self, slots_RESTART_PAUSE_S=0.01)
        real = slots_module.execute
        for error in (RuntimeError("bug"), SystemExit(1), MemoryError()):
            broken, runs = [error], list[Any]()

            def breaks(*args: Any, broken: list[BaseException] = broken, **kwargs: Any) -> TaskResult:
                if broken:
                    raise broken.pop()
                return real(*args, **kwargs)

            with (
                self.subTest(error=error),
                self.patched("execute", breaks),
                working(self.box, agent(lambda: 1), on_execution=runs.append) as worker,
            ):
                with self.assertLogs(SLOTS, "CRITICAL") as said:
                    done = self.box.wait(self.box.put(), LONG_S)
                    self.await_clean(worker)
                self.assertEqual([one.status for one in done.attempts], ["FAILED", "COMPLETED"])
                self.assertIn(f"the worker failed: {type(error).__name__}", done.attempts[0].reason or "")
                self.assertEqual(len(said.output), 1)
                self.assertEqual([run.result.status for run in runs], ["FAILED", "COMPLETED"])

    def test_a_slot_that_breaks_while_it_reports_loses_no_result_and_records_it_once(self) -> None:
        """The platform had the result, and the history did not."""
        hasten(self, slots_RESTART_PAUSE_S=0.01)
        for where in ("send_report", "write", "encode", "attempt_starts"):
            runs: list[Any] = []
            works = working(self.box, agent(lambda: 7), on_execution=runs.append)
            with self.subTest(where), works as worker:
                services = worker.runner.services
                owners: dict[str, Any] = {"send_report": services.client, "encode": Held}
                owners.update({"write": services.custody.journal, "attempt_starts": services.custody.delivery})
                owner = owners[where]
                real, broken = getattr(owner, where), [RuntimeError("bug")]

                def breaks(*args: Any, real: Any = real, broken: list[Any] = broken, where: str = where) -> Any:
                    if broken and (where != "write" or args[0].state == RESULT):
                        raise broken.pop()
                    return real(*args)

                setattr(owner, where, breaks)
                try:
                    with self.assertLogs(SLOTS, "CRITICAL"):
                        done = self.box.wait(self.box.put(), LONG_S)
                        self.assertEqual(self.box.wait(self.box.put(), LONG_S).status, "COMPLETED", "it goes on")
                        self.await_clean(worker)
                finally:
                    setattr(owner, where, real)
                self.assertEqual([one.status for one in done.attempts], ["COMPLETED"])
                self.assertEqual(done.output, {"result": 7})
                self.assertEqual([run.result.output_data for run in runs], [{"result": 7}] * 2)

    def test_a_task_whose_input_is_no_json_proper_runs_or_fails_but_is_not_stranded(self) -> None:
        given = b'{"taskId":"%s","workflowInstanceId":"%s","inputData":{"x":NaN,"y":"\\ud800"}}'

        def odd(kind: str, request: Request, proceed: Any) -> Any:
            reply = proceed(request) if kind == "poll" else PASS
            if reply is PASS or not reply.body:
                return reply
            task = json.loads(reply.body)
            return Reply(200, given % (task["taskId"].encode(), task["workflowInstanceId"].encode()))

        self.box.faults.append(odd)
        ran: list[Any] = []
        with working(self.box, agent(lambda x: 1), on_execution=ran.append) as worker:
            self.assertEqual(self.box.wait(self.box.put(), LONG_S).status, "COMPLETED")
            self.await_clean(worker)
        self.assertEqual(len(ran), 1)

    def test_a_malformed_task_with_ids_fails_for_good(self) -> None:
        def malformed(kind: str, request: Request, proceed: Any) -> Any:
            reply = proceed(request) if kind == "poll" else PASS
            if reply is PASS or not reply.body:
                return reply
            return Reply.of({**json.loads(reply.body), "inputData": [1]})

        self.box.faults.append(malformed)
        with working(self.box, agent(lambda: 1)) as worker:
            done = self.box.wait(self.box.put(), LONG_S)
            self.await_clean(worker)
        self.assertEqual(done.attempts[0].status, "FAILED_WITH_TERMINAL_ERROR")
        self.assertIn("inputData is not an object", done.reason or "")

    def test_a_history_that_fails_stops_no_report(self) -> None:
        def breaks(execution: Any) -> None:
            raise OSError("disk full")

        with working(self.box, agent(lambda: 1), on_execution=breaks) as worker, self.assertLogs(CUSTODY, "ERROR"):
            for _ in range(2):
                self.assertEqual(self.box.wait(self.box.put(), LONG_S).status, "COMPLETED")
            self.await_clean(worker)

    def test_a_function_that_holds_the_interpreter_is_named_once(self) -> None:
        """Two processes ran such a task again and again, and nothing said why their leases lapsed."""
        hasten(self, timetable_OVERSLEPT_S=0.15)

        def holds(n: int) -> int:
            until = time.monotonic() + LONG_S / 2
            while not said.records and time.monotonic() < until:
                threading.Event().wait(0.2)  # the lease is extended, and its thread waits for the next time
                sum(range(3 * 10**7))  # one call of some 600 ms in C
            return n

        with working(self.box, agent(holds)) as worker, self.assertLogs(CUSTODY, "WARNING") as said:
            one = self.box.submit(AGENT, {"n": 1}, response_timeout_s=0.9)
            self.box.wait(one, LONG_S)
            self.await_clean(worker)
        held_up = [record for record in said.records if record.action == "interpreter_held"]
        told = rf"Task (\S+) of {AGENT} may have held .* at .*\.py:\d+"
        ids = {found[1] for found in (re.match(told, one.getMessage()) for one in held_up) if found}
        self.assertEqual(len(ids), len(held_up))
        self.assertIn(len(ids), (1, 2))  # on a busy machine the first try's lease lapses: a second may be named


class TimeOutTest(_Case):
    """Functions that run out of their time."""

    def test_a_function_past_its_timeout_fails_its_slot_is_stuck_and_comes_back(self) -> None:
        go, ran = threading.Event(), []

        def slow(n: int) -> int:
            ran.append(n)
            if len(ran) == 1:
                go.wait(LONG_S)
            return n

        runs: list[Any] = []
        works = working(self.box, agent(slow, timeout_s=0.1), workers=2, on_execution=runs.append)
        with works as worker, self.assertLogs(SLOTS, "ERROR"):
            first = self.box.put(n=1)
            done = self.box.wait(first, LONG_S)
            self.assertEqual([one.status for one in done.attempts], ["FAILED", "COMPLETED"])
            self.assertIn("longer than its timeout of 0.1 s", done.attempts[0].reason or "")
            self.assertEqual(worker.runner.services.custody.register.stuck, 1)
            go.set()
            self.box.await_calls("poll", self.box.calls["poll"] + 3)
            self.assertEqual(self.box.wait(self.box.put(n=2), LONG_S).status, "COMPLETED")
            self.await_clean(worker)
        self.assertEqual(len(self.box.reports), 3)
        self.assertEqual([run.result.status for run in runs], ["FAILED", "COMPLETED", "COMPLETED"])

    def test_when_every_slot_is_stuck_the_worker_ends_with_7(self) -> None:
        go = threading.Event()
        self.addCleanup(go.set)
        with working(self.box, agent(lambda: go.wait(LONG_S), timeout_s=0.05), workers=2) as worker:
            with self.assertLogs("user_agent_sdk.worker", "ERROR") as said:
                for _ in range(2):
                    self.box.submit(AGENT, {}, retries=0)
                self.assertEqual(worker.ended(), 7)
            self.assertTrue(worker.runner.has_stragglers)
        self.assertTrue(any("Every slot is stuck" in line for line in said.output))
        self.assertEqual([report["status"] for report in self.box.reports], [TaskStatus.FAILED.value] * 2)


if __name__ == "__main__":
    unittest.main()

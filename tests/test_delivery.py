# SPDX-License-Identifier: Apache-2.0
"""Every retry of a report, on a clock that the test moves."""

from __future__ import annotations

import json
import threading
import time
import unittest
from typing import Any
from unittest import mock

from user_agent_sdk.conductor.client import Outcome
from user_agent_sdk.conductor.wire import LogLine, TaskResult, TaskStatus, Verdict
from user_agent_sdk.worker.keeping.delivery import Delivery
from user_agent_sdk.worker.keeping.held import REPORTING, Held, Register
from user_agent_sdk.worker.keeping.journal import Journal
from user_agent_sdk.worker.keeping.journal_file import LATE, REJECTED, RESULT, Entry
from user_agent_sdk.worker.keeping.lease import Lease, LeaseKeeper
from user_agent_sdk.worker.polling.backoff import Pace
from user_agent_sdk.worker.watched import Counts

from .workerbox import hasten

LOG = "user_agent_sdk.worker.keeping.delivery"
LONG_S = 20.0
APPLIED = Outcome(Verdict.APPLIED)
DOWN = Outcome(Verdict.LATER, "HTTP 503")
REFUSED = Outcome(Verdict.REFUSED, "HTTP 400: no", status=400)


class Platform:
    """A client that answers reports from a list, then with 200; ``sent`` are their task ids."""

    def __init__(self, *outcomes: Outcome) -> None:
        self.outcomes = list(outcomes)
        self.sent: list[str] = []

    def report(self, body: bytes, ids: tuple[str, ...], timeout_s: float = 30.0) -> Outcome:
        self.sent.append(ids[0])
        return self.outcomes.pop(0) if self.outcomes else APPLIED


class DeliveryTest(unittest.TestCase):
    def setUp(self) -> None:
        self.now = 1000.0
        self.journal = Journal(None)
        self.contacts = 0
        chance = mock.patch("user_agent_sdk.worker.keeping.delivery.chance", lambda: 1.0)
        chance.start()
        self.addCleanup(chance.stop)

    def delivery(self, platform: Any = None, clock: Any = None) -> Delivery:
        client = platform or Platform()
        clock = clock or (lambda: self.now)
        self.register, self.clock = Register(), clock
        self.leases = LeaseKeeper(client, Pace(clock), wall=lambda: clock() + 1.7e9)
        return Delivery(client, self.register, self.journal, self.leases, Counts(), self.contact)

    def contact(self) -> None:
        self.contacts += 1

    def held(self, task_id: str = "t", status: str = "COMPLETED", lease_s: float = 60.0) -> Held:
        """A task whose result is about to be reported."""
        one = Held(Entry(RESULT, task_id, "w", "agent", "me", work_hash="h"), Lease(lease_s))
        one.lease.renewed(self.clock(), self.clock(), self.clock() + 1.7e9)
        self.register.hold(one)
        self.register.finish(one, TaskResult(status=status))
        one.encode(TaskResult(status=status, output_data={"a": 1}, logs=[LogLine("line", 0)]))
        one.result = None
        one.row = self.journal.write(one.entry)
        self.leases.track(one)
        self.register.move(one, REPORTING)
        return one

    def left(self) -> list[str]:
        return [one.entry.task_id for one in self.register.pending()]

    def test_what_is_delivered_leaves_nothing(self) -> None:
        delivery = self.delivery()
        delivery.attempt_ended(self.held(), APPLIED)
        self.assertEqual((self.left(), len(delivery), len(self.leases._table)), ([], 0, 0))
        self.assertEqual(self.journal.live(), {})
        self.assertEqual(self.contacts, 1)

    def test_what_is_not_is_tried_for_ever_each_on_its_own_backoff(self) -> None:
        delivery = self.delivery()
        with self.assertLogs(LOG, "WARNING"):
            first, second = self.held("1"), self.held("2")
            delays = [delivery._settled(first, DOWN) for _ in range(10)]
            self.assertEqual(delays[:4] + delays[-2:], [0.25, 0.5, 1, 2, 30, 30])
            self.assertEqual(delivery._settled(second, DOWN), 0.25)
        self.assertEqual((self.left(), len(self.journal.live()), len(self.leases._table)), (["1", "2"], 2, 2))

    def test_retry_after_is_a_floor(self) -> None:
        delivery = self.delivery()
        with self.assertLogs(LOG, "WARNING"):
            self.assertEqual(delivery._settled(self.held(), DOWN._replace(retry_after_s=40.0)), 40.0)

    def test_maybe_and_auth_are_tried_again_too(self) -> None:
        delivery = self.delivery()
        with self.assertLogs(LOG, "WARNING"):
            for verdict in (Verdict.MAYBE, Verdict.AUTH, Verdict.LATER):
                self.assertIsNotNone(delivery._settled(self.held(verdict.name), Outcome(verdict, "why")))

    def test_refused_for_good_is_three_times_over_at_least_a_minute(self) -> None:
        delivery = self.delivery()
        held = self.held()
        with self.assertLogs(LOG, "WARNING") as said:
            self.assertEqual(delivery._settled(held, REFUSED), 30.0)
            for _ in range(5):  # hurried by others: three times, but not yet for a minute
                self.assertEqual(delivery._settled(held, REFUSED), 30.0)
            self.now += 59
            self.assertEqual(delivery._settled(held, REFUSED), 30.0)
            self.now += 1
            self.assertIsNone(delivery._settled(held, REFUSED))
        self.assertIn("refuses the result of task t for good: HTTP 400: no", said.output[-1])
        (row,) = self.journal.live().values()
        self.assertEqual((row.state, row.reason, row.status), (REJECTED, "HTTP 400: no", "COMPLETED"))
        self.assertIn(b'"a":1', row.body)
        self.assertEqual((self.left(), len(self.leases._table)), ([], 0))

    def test_a_result_whose_task_the_platform_knows_no_longer_is_settled_at_once(self) -> None:
        """A stop waited its whole 30 s for it, and ended with 7, though the platform had given its last word."""
        gone = Outcome(Verdict.REFUSED, "HTTP 404: no such task: t", status=404)
        for status, kept in (("COMPLETED", ["t"]), ("FAILED", [])):
            with self.subTest(status):
                self.setUp()
                delivery, held = self.delivery(), self.held(status=status)
                with self.assertLogs(LOG, "WARNING") as said:
                    delivery.attempt_ended(held, gone)
                self.assertEqual((self.left(), len(delivery), len(self.leases._table)), ([], 0, 0))
                self.assertEqual([one.entry.task_id for one in self.register.late()], kept)
                self.assertEqual([one.state for one in self.journal.live().values()], [LATE] * len(kept))
                self.assertEqual(len(said.output), 1)

    def test_while_reports_are_refused_few_are_sent_however_many_wait(self) -> None:
        """Each was on a backoff of its own: 8,300 reports went out in 5 s."""
        platform = Platform(*[Outcome(Verdict.AUTH, "HTTP 401")] * 10_000)
        delivery = self.delivery(platform)
        with self.assertLogs(LOG, "WARNING"):
            waiting = [self.held(str(number)) for number in range(300)]
            for _ in range(400):  # 40 s, in which each of them is tried whenever that is allowed
                for held in waiting:
                    if delivery._table._clock() >= held.again_at:
                        delivery._send(held)
                self.now += 0.1
        self.assertLess(len(platform.sent), 60)
        self.assertGreater(len(platform.sent), 30, "one a second goes on asking")
        platform.outcomes.clear()
        self.now += 1.0
        self.assertEqual([delivery._send(held) for held in waiting[:5]], [None] * 5, "the first success ends it")

    def test_twice_over_an_hour_is_not_enough(self) -> None:
        delivery = self.delivery()
        held = self.held()
        with self.assertLogs(LOG, "WARNING"):
            delivery._settled(held, REFUSED)
            self.now += 3600
            self.assertEqual(delivery._settled(held, REFUSED), 30.0)

    def test_one_too_large_becomes_a_small_failure_for_good_that_says_so(self) -> None:
        delivery = self.delivery()
        held = self.held()
        too_large = Outcome(Verdict.REFUSED, "HTTP 413: too large", status=413)
        with self.assertLogs(LOG, "WARNING"):
            delivery._settled(held, too_large)
            self.now += 30
            delivery._settled(held, too_large)
            self.now += 30
            self.assertEqual(delivery._settled(held, too_large), 0.0)
            report = json.loads(held.entry.body)
            self.assertEqual((report["status"], report.get("outputData")), ("FAILED_WITH_TERMINAL_ERROR", None))
            self.assertIn("too large", report["reasonForIncompletion"])
            self.assertNotIn("logs", report)
            self.assertEqual(self.journal.live()[held.row].body, held.entry.body)
            for _ in range(3):  # even that is refused: then it is rejected, not tried for ever
                self.now += 30
                last = delivery._settled(held, too_large)
        self.assertIsNone(last)
        self.assertEqual(self.journal.live()[held.row].state, REJECTED)

    def test_one_that_a_server_without_a_store_never_takes_becomes_that_failure_too(self) -> None:
        """Conductor 3.13 answered 4 MB with a 500 as in trouble: they were sent again for ever, and their workflow
        waited as long. In a trouble indeed nothing else is taken either. And where there is a store, it may be in
        trouble alone, for minutes, which must cost no result."""
        trouble = Outcome(Verdict.LATER, "HTTP 500: Error updating task", status=500)
        for takes_extensions, is_large in ((True, True), (False, True), (True, False)):
            with self.subTest(takes_extensions=takes_extensions, is_large=is_large):
                self.setUp()
                delivery, held = self.delivery(), self.held()
                output = {"text": "x" * ((4 << 20) if is_large else 1)}
                held.encode(TaskResult(status="COMPLETED", output_data=output))
                with self.assertLogs(LOG, "WARNING"):
                    for tries in range(22):
                        if tries == 20:
                            self.assertEqual(json.loads(held.entry.body)["status"], "COMPLETED")
                        delivery._settled(held, trouble)
                        self.now += 30
                        if takes_extensions:
                            held.lease.renewed(self.now, self.now, self.now + 1.7e9)
                self.assertEqual(held.state, REPORTING)
                ends_as = TaskStatus.FAILED_WITH_TERMINAL_ERROR if takes_extensions and is_large else "COMPLETED"
                self.assertEqual(json.loads(held.entry.body)["status"], ends_as)

    def test_a_completed_result_whose_lease_may_have_lapsed_is_kept_as_late(self) -> None:
        for status, waits_s, late in (("COMPLETED", 61.0, ["t"]), ("COMPLETED", 59.0, []), ("FAILED", 61.0, [])):
            with self.subTest(status=status, waits_s=waits_s):
                self.setUp()
                delivery = self.delivery()
                held = self.held(status=status)
                self.now += waits_s
                delivery.attempt_ended(held, APPLIED)
                kept = [entry.task_id for entry in self.journal.live().values() if entry.state == LATE]
                self.assertEqual(kept, late)
                self.assertEqual(len(self.journal.live()), len(late))

    def test_the_first_delivery_after_trouble_hurries_the_others_and_says_so_at_the_last(self) -> None:
        platform = Platform()
        delivery = self.delivery(platform, clock=time.monotonic)
        with self.assertLogs(LOG, "INFO") as said:
            for number in range(20):
                held = self.held(str(number))
                for _ in range(9):
                    delivery._settled(held, DOWN)
                delivery.attempt_ended(held, DOWN)  # due in 30 s
            delivery.start()
            self.addCleanup(delivery.close)
            self.assertEqual(platform.sent, [])
            delivery.post(self.held("new"))
            deadline = threading.Event()
            self.assertFalse(deadline.wait(0))
            delivery.hurry()
            self.assertTrue(delivery.flush(LONG_S))
        self.assertEqual((len(platform.sent), self.left()), (21, []))
        self.assertEqual([record.action for record in said.records], ["outage_started", "outage_over"])

    def test_one_result_that_cannot_be_delivered_does_not_fill_the_log(self) -> None:
        """Each delivery of another's was once taken for the end of the outage, and the next failure for
        the start of a new one: two lines a task."""
        delivery = self.delivery()
        bad = self.held("bad")
        with self.assertLogs(LOG, "INFO") as said:
            delivery.attempt_ended(bad, DOWN)
            for number in range(30):
                other = self.held(str(number))
                delivery.attempt_ended(other, DOWN)
                delivery._settled(other, APPLIED)
                delivery._table.drop(str(number))
                self.now += 1
                delivery._settled(bad, DOWN)
        self.assertEqual(len(said.output), 1)

    def test_a_result_that_an_extension_may_have_undone_is_sent_once_more(self) -> None:
        """Both were sent at the same moment, Conductor said 200 to both, and the extension's copy of the task
        was the one that stayed: in progress, though COMPLETED had been taken. It timed out and ran again."""
        delivery = self.delivery()
        held = self.held()
        held.lease.quiet_at = float("inf")  # it is on its way
        self.assertEqual(delivery._settled(held, APPLIED), 0.5)
        self.assertEqual((self.left(), len(self.journal.live()), len(self.leases._table)), (["t"], 1, 0))
        held.lease.quiet_at = self.now + 3.0  # it was not answered
        self.assertEqual(delivery._settled(held, APPLIED), 3.5)
        self.assertEqual(delivery._send(held), 3.5, "others may hurry it: it waits all the same")
        self.now += 3.5
        self.assertIsNone(delivery._send(held))
        self.assertEqual((self.left(), self.journal.live()), ([], {}))

    def test_one_of_a_short_lease_is_sent_again_before_that_is_over(self) -> None:
        """The extension that was not answered undid the report a second later. The lease of 6 s was not kept any more,
        and the next report came after 10 s: the task had timed out by then, and its work was given out again."""
        delivery = self.delivery()
        held = self.held(lease_s=6.0)
        held.lease.quiet_at = self.now + 10.0
        self.assertEqual(delivery._settled(held, APPLIED), 2.0)
        for _ in range(5):
            self.now += 2.0
            self.assertEqual(delivery._send(held), 2.0 if self.now < 1010.0 else None)
        self.assertEqual(self.left(), [])

    def test_a_superseded_result_is_still_sent_but_neither_leased_nor_kept(self) -> None:
        """An extension that met Conductor's timeout brought the ended attempt back to life. Its result had
        been dropped, since the retry was answered with it, and the workflow hung for three minutes."""
        platform = Platform()
        delivery = self.delivery(platform)
        held = self.held()
        with self.assertLogs(LOG, "WARNING"):
            delivery.attempt_ended(held, DOWN)
        self.now += 61  # the lease has lapsed
        delivery.supersede(held)
        delivery.supersede(held)
        self.assertEqual((len(delivery), len(self.leases._table), platform.sent), (1, 0, []))
        delivery.start()
        self.addCleanup(delivery.close)
        self.assertTrue(delivery.flush(LONG_S))
        self.assertEqual((platform.sent, self.left()), (["t"], []))
        self.assertEqual(self.journal.live(), {})

    def test_superseded_while_it_is_sent_it_is_neither_sent_again_nor_freed_twice(self) -> None:
        """The row may be another task's by that time: a second free would lose that task's result."""
        started, go = threading.Semaphore(0), threading.Semaphore(0)

        class Slow(Platform):
            def report(self, body: bytes, ids: tuple[str, ...], timeout_s: float = 30.0) -> Outcome:
                started.release()
                go.acquire(timeout=LONG_S)
                return super().report(body, ids, timeout_s)

        platform = Slow()
        delivery = self.delivery(platform, clock=time.monotonic)
        delivery.start()
        self.addCleanup(delivery.close)
        held = self.held()
        delivery.post(held)
        self.assertTrue(started.acquire(timeout=LONG_S))
        delivery.supersede(held)
        go.release()
        self.assertTrue(delivery.flush(LONG_S))
        row = self.journal.write(held.entry._replace(task_id="another"))
        self.assertEqual(row, held.row)
        delivery.forget(held)
        self.assertEqual([one.task_id for one in self.journal.live().values()], ["another"])
        self.assertEqual((platform.sent, self.left()), (["t"], []))

    def test_superseded_while_its_slot_sends_it_it_is_not_kept_as_late(self) -> None:
        delivery, held = self.delivery(), self.held()
        delivery.attempt_starts(held)
        self.now += 61
        delivery.supersede(held)
        delivery.attempt_ended(held, APPLIED)
        self.assertEqual((self.left(), self.register.late(), self.journal.live()), ([], [], {}))

    def test_a_late_result_is_forgotten_when_its_retry_has_it_or_a_day_has_gone(self) -> None:
        for by_its_retry in (True, False):
            delivery, held = self.delivery(), self.held()
            self.now += 61
            delivery.attempt_ended(held, APPLIED)
            self.assertEqual((self.register.late(), len(self.journal.live())), ([held], 1))
            self.now += 86401
            if by_its_retry:
                delivery.supersede(held)
            else:
                delivery.watch()
            self.assertEqual((self.register.late(), self.journal.live()), ([], {}))

    def test_a_sender_that_breaks_is_said_and_the_result_is_delivered_all_the_same(self) -> None:
        class Breaks(Platform):
            def report(self, body: bytes, ids: tuple[str, ...], timeout_s: float = 30.0) -> Outcome:
                if not self.sent:
                    self.sent.append("broke")
                    raise MemoryError
                return super().report(body, ids, timeout_s)

        hasten(self, timetable_FAILED_AGAIN_S=0.05, timetable_RESTART_PAUSE_S=0.01)
        delivery = self.delivery(Breaks(), clock=time.monotonic)
        with self.assertLogs("user_agent_sdk.worker.keeping.timetable", "CRITICAL"):
            delivery.start()
            self.addCleanup(delivery.close)
            delivery.post(self.held(status=TaskStatus.FAILED.value))
            self.assertTrue(delivery.flush(LONG_S))
            delivery.close()
            delivery.join(LONG_S)  # what broke has said so
        self.assertEqual(self.left(), [])


if __name__ == "__main__":
    unittest.main()

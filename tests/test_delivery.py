# SPDX-License-Identifier: Apache-2.0
"""Every retry of a report, on a clock that the test moves."""

from __future__ import annotations

import json
import threading
import time
import unittest
from typing import Any

from user_agent_sdk.conductor.client import Outcome
from user_agent_sdk.conductor.wire import TaskStatus, Verdict, encode
from user_agent_sdk.worker.keeping.delivery import Delivery, Parcel
from user_agent_sdk.worker.keeping.journal import Journal
from user_agent_sdk.worker.keeping.journal_file import LATE, REJECTED, RESULT, Entry
from user_agent_sdk.worker.keeping.lease import Lease, LeaseKeeper

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
        self.delivered: list[str] = []
        self.contacts = 0

    def delivery(self, platform: Any = None, clock: Any = None) -> Delivery:
        client = platform or Platform()
        clock = clock or (lambda: self.now)
        self.leases = LeaseKeeper(client, clock=clock, wall=lambda: clock() + 1.7e9)
        return Delivery(
            client, self.journal, self.leases, self.delivered.append,
            on_contact=self.contact, clock=clock, rand=lambda: 1.0,
        )  # fmt: skip

    def contact(self) -> None:
        self.contacts += 1

    def parcel(
        self, delivery: Delivery, task_id: str = "t", status: str = "COMPLETED", lease_s: float = 60.0
    ) -> Parcel:
        body = encode(
            {"taskId": task_id, "workflowInstanceId": "w", "status": status, "outputData": {"a": 1}, "logs": []}
        )
        entry = Entry(RESULT, task_id, "w", "agent", "me", status=status, body=body, input_hash="h")
        lease = Lease(task_id, "w", "me", lease_s)
        self.leases.begin(lease, self.leases._clock())
        self.leases.track(lease)
        return delivery.parcel(self.journal.add(entry), entry, lease)

    def test_what_is_delivered_leaves_nothing(self) -> None:
        delivery = self.delivery()
        delivery.settle(self.parcel(delivery), APPLIED)
        self.assertEqual((self.delivered, len(delivery), len(self.leases)), (["t"], 0, 0))
        self.assertEqual(self.journal.live(), {})
        self.assertEqual(self.contacts, 1)

    def test_what_is_not_is_tried_for_ever_each_on_its_own_backoff(self) -> None:
        delivery = self.delivery()
        with self.assertLogs(LOG, "WARNING"):
            first, second = self.parcel(delivery, "1"), self.parcel(delivery, "2")
            delays = [delivery._settled(first, DOWN) for _ in range(10)]
            self.assertEqual(delays[:4] + delays[-2:], [0.25, 0.5, 1, 2, 30, 30])
            self.assertEqual(delivery._settled(second, DOWN), 0.25)
        self.assertEqual((self.delivered, len(self.journal.live()), len(self.leases)), ([], 2, 2))

    def test_retry_after_is_a_floor(self) -> None:
        delivery = self.delivery()
        with self.assertLogs(LOG, "WARNING"):
            self.assertEqual(delivery._settled(self.parcel(delivery), DOWN._replace(retry_after_s=40.0)), 40.0)

    def test_maybe_and_auth_are_tried_again_too(self) -> None:
        delivery = self.delivery()
        with self.assertLogs(LOG, "WARNING"):
            for verdict in (Verdict.MAYBE, Verdict.AUTH, Verdict.LATER):
                self.assertIsNotNone(delivery._settled(self.parcel(delivery, verdict.name), Outcome(verdict, "why")))

    def test_refused_for_good_is_three_times_over_at_least_a_minute(self) -> None:
        delivery = self.delivery()
        parcel = self.parcel(delivery)
        with self.assertLogs(LOG, "WARNING") as said:
            self.assertEqual(delivery._settled(parcel, REFUSED), 30.0)
            for _ in range(5):  # hurried by others: three times, but not yet for a minute
                self.assertEqual(delivery._settled(parcel, REFUSED), 30.0)
            self.now += 59
            self.assertEqual(delivery._settled(parcel, REFUSED), 30.0)
            self.now += 1
            self.assertIsNone(delivery._settled(parcel, REFUSED))
        self.assertIn("refuses the result of task t for good: HTTP 400: no", said.output[-1])
        (row,) = self.journal.live().values()
        self.assertEqual((row.state, row.reason, row.status), (REJECTED, "HTTP 400: no", "COMPLETED"))
        self.assertIn(b'"a":1', row.body)
        self.assertEqual((self.delivered, len(self.leases)), (["t"], 0))

    def test_twice_over_an_hour_is_not_enough(self) -> None:
        delivery = self.delivery()
        parcel = self.parcel(delivery)
        with self.assertLogs(LOG, "WARNING"):
            delivery._settled(parcel, REFUSED)
            self.now += 3600
            self.assertEqual(delivery._settled(parcel, REFUSED), 30.0)

    def test_one_too_large_becomes_a_small_failure_for_good_that_says_so(self) -> None:
        delivery = self.delivery()
        parcel = self.parcel(delivery)
        too_large = Outcome(Verdict.REFUSED, "HTTP 413: too large", status=413)
        with self.assertLogs(LOG, "WARNING"):
            delivery._settled(parcel, too_large)
            self.now += 30
            delivery._settled(parcel, too_large)
            self.now += 30
            self.assertEqual(delivery._settled(parcel, too_large), 0.0)
            report = json.loads(parcel.entry.body)
            self.assertEqual((report["status"], report["outputData"]), ("FAILED_WITH_TERMINAL_ERROR", {}))
            self.assertIn("too large", report["reasonForIncompletion"])
            self.assertNotIn("logs", report)
            self.assertEqual(self.journal.live()[parcel.row].body, parcel.entry.body)
            for _ in range(3):  # even that is refused: then it is rejected, not tried for ever
                self.now += 30
                last = delivery._settled(parcel, too_large)
        self.assertIsNone(last)
        self.assertEqual(self.journal.live()[parcel.row].state, REJECTED)

    def test_a_completed_result_whose_lease_may_have_lapsed_is_kept_as_late(self) -> None:
        for status, waits_s, late in (("COMPLETED", 61.0, ["t"]), ("COMPLETED", 59.0, []), ("FAILED", 61.0, [])):
            with self.subTest(status=status, waits_s=waits_s):
                self.setUp()
                delivery = self.delivery()
                parcel = self.parcel(delivery, status=status)
                self.now += waits_s
                delivery.settle(parcel, APPLIED)
                kept = [entry.task_id for entry in self.journal.live().values() if entry.state == LATE]
                self.assertEqual(kept, late)
                self.assertEqual(len(self.journal.live()), len(late))

    def test_the_first_delivery_after_trouble_hurries_the_others_and_says_so_at_the_last(self) -> None:
        platform = Platform()
        delivery = self.delivery(platform, clock=time.monotonic)
        with self.assertLogs(LOG, "INFO") as said:
            for number in range(20):
                parcel = self.parcel(delivery, str(number))
                for _ in range(9):
                    delivery._settled(parcel, DOWN)
                delivery.settle(parcel, DOWN)  # due in 30 s
            delivery.start()
            self.addCleanup(delivery.close)
            self.assertEqual(platform.sent, [])
            delivery.post(self.parcel(delivery, "new"))
            deadline = threading.Event()
            self.assertFalse(deadline.wait(0))
            delivery.hurry()
            self.assertTrue(delivery.flush(LONG_S))
        self.assertEqual(len(self.delivered), 21)
        self.assertEqual([record.action for record in said.records], ["outage_started", "outage_over"])

    def test_one_result_that_cannot_be_delivered_does_not_fill_the_log(self) -> None:
        """Each delivery of another's was once taken for the end of the outage, and the next failure for
        the start of a new one: two lines a task."""
        delivery = self.delivery()
        bad = self.parcel(delivery, "bad")
        with self.assertLogs(LOG, "INFO") as said:
            delivery.settle(bad, DOWN)
            for number in range(30):
                other = self.parcel(delivery, str(number))
                delivery.settle(other, DOWN)
                delivery._settled(other, APPLIED)
                delivery._table.drop(str(number))
                self.now += 1
                delivery._settled(bad, DOWN)
        self.assertEqual(len(said.output), 1)

    def test_a_result_that_an_extension_may_have_undone_is_sent_once_more(self) -> None:
        """Both were sent at the same moment, Conductor said 200 to both, and the extension's copy of the task
        was the one that stayed: in progress, though COMPLETED had been taken. It timed out and ran again."""
        delivery = self.delivery()
        parcel = self.parcel(delivery)
        parcel.lease.quiet_at = float("inf")  # it is on its way
        self.assertEqual(delivery._settled(parcel, APPLIED), 0.5)
        self.assertEqual((self.delivered, len(self.journal.live()), len(self.leases)), ([], 1, 0))
        parcel.lease.quiet_at = self.now + 3.0  # it was not answered
        self.assertEqual(delivery._settled(parcel, APPLIED), 3.5)
        self.assertEqual(delivery._send(parcel), 3.5, "others may hurry it: it waits all the same")
        self.now += 3.5
        self.assertIsNone(delivery._send(parcel))
        self.assertEqual((self.delivered, self.journal.live()), (["t"], {}))

    def test_a_superseded_result_is_still_sent_but_neither_leased_nor_kept(self) -> None:
        """An extension that met Conductor's timeout brought the ended attempt back to life. Its result had
        been dropped, since the retry was answered with it, and the workflow hung for three minutes."""
        platform = Platform()
        delivery = self.delivery(platform)
        parcel = self.parcel(delivery)
        with self.assertLogs(LOG, "WARNING"):
            delivery.settle(parcel, DOWN)
        self.now += 61  # the lease has lapsed
        delivery.supersede("t")
        delivery.supersede("t")
        delivery.supersede("never held")
        self.assertEqual((len(delivery), len(self.leases), platform.sent), (1, 0, []))
        delivery.start()
        self.addCleanup(delivery.close)
        self.assertTrue(delivery.flush(LONG_S))
        self.assertEqual((platform.sent, self.delivered), (["t"], ["t"]))
        self.assertEqual(self.journal.live(), {})

    def test_superseded_while_it_is_sent_frees_its_row_once(self) -> None:
        """It is sent a second time then. The row may be another task's by that time: a second free would
        lose that task's result."""
        started, go = threading.Semaphore(0), threading.Semaphore(0)

        class Slow(Platform):
            def report(self, body: bytes, ids: tuple[str, ...], timeout_s: float = 30.0) -> Outcome:
                started.release()
                go.acquire(timeout=LONG_S)
                return APPLIED

        delivery = self.delivery(Slow(), clock=time.monotonic)
        delivery.start()
        self.addCleanup(delivery.close)
        parcel = self.parcel(delivery)
        delivery.post(parcel)
        self.assertTrue(started.acquire(timeout=LONG_S))
        delivery.supersede("t")
        go.release()
        self.assertTrue(started.acquire(timeout=LONG_S))
        row = self.journal.add(parcel.entry._replace(task_id="another"))
        self.assertEqual(row, parcel.row)
        go.release()
        self.assertTrue(delivery.flush(LONG_S))
        self.assertEqual([one.task_id for one in self.journal.live().values()], ["another"])
        self.assertEqual(self.delivered, ["t"])

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
            delivery.post(self.parcel(delivery, status=TaskStatus.FAILED.value))
            self.assertTrue(delivery.flush(LONG_S))
            delivery.close()
            delivery.join(LONG_S)  # what broke has said so
        self.assertEqual(self.delivered, ["t"])


if __name__ == "__main__":
    unittest.main()

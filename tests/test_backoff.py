# SPDX-License-Identifier: Apache-2.0
"""Waiting after failures, and speaking of an outage."""

from __future__ import annotations

import logging
import random
import unittest

from user_agent_sdk.worker.polling.backoff import (
    EXTENSION,
    POLL,
    REASONS_MAX,
    REFUSING_S,
    REPORT,
    Backoff,
    Outage,
    Pace,
)

log = logging.getLogger("test.backoff")


class BackoffTest(unittest.TestCase):
    def test_the_ceiling_doubles_from_a_quarter_second_to_thirty(self) -> None:
        backoff = Backoff(lambda: 1.0)
        self.assertEqual([backoff.failed() for _ in range(9)], [0.25, 0.5, 1, 2, 4, 8, 16, 30, 30])

    def test_the_wait_is_any_share_of_the_ceiling(self) -> None:
        rand = random.Random(1).random
        waits = []
        for _ in range(500):
            backoff = Backoff(rand)
            backoff.failed()
            waits.append(backoff.failed())
        self.assertTrue(all(0 <= wait <= 0.5 for wait in waits))
        self.assertLess(min(waits), 0.05)
        self.assertGreater(max(waits), 0.45)

    def test_a_success_starts_anew_and_says_whether_there_was_trouble(self) -> None:
        backoff = Backoff(lambda: 1.0)
        self.assertFalse(backoff.succeeded())
        backoff.failed()
        backoff.failed()
        self.assertTrue(backoff.succeeded())
        self.assertEqual(backoff.failed(), 0.25)

    def test_ten_thousand_failures_do_not_overflow(self) -> None:
        backoff = Backoff(lambda: 1.0)
        for _ in range(10_000):
            last_s = backoff.failed()
        self.assertEqual(last_s, 30.0)


class PaceTest(unittest.TestCase):
    def setUp(self) -> None:
        self.now = 100.0
        self.pace = Pace(lambda: self.now)

    def begun_in(self, seconds: float, kind: str = REPORT) -> int:
        """How many of those that ask every 10 ms may begin an exchange; each report is refused."""
        begun, until = 0, self.now + seconds
        while self.now < until:
            if not self.pace.wait_s(kind):
                begun += 1
                self.pace.failed(REPORT)
            self.now += 0.01
        return begun

    def test_nobody_waits_while_nothing_is_refused(self) -> None:
        self.assertEqual([self.pace.wait_s(kind) for kind in (REPORT, EXTENSION, POLL)] * 9, [0.0] * 27)

    def test_under_refusals_one_a_second_begins_after_a_few_quick_ones(self) -> None:
        self.pace.failed(REPORT)
        self.assertLess(self.begun_in(5.0), 12)
        self.assertIn(self.begun_in(20.0), (19, 20, 21))
        self.assertIn(self.begun_in(20.0, POLL), (19, 20, 21), "polls keep it too")

    def test_what_is_not_refused_goes_on(self) -> None:
        """Extensions are taken while reports are refused: at one a second leases would lapse for nothing."""
        self.pace.failed(REPORT)
        self.assertEqual([self.pace.wait_s(EXTENSION) for _ in range(9)], [0.0] * 9)
        self.pace.succeeded(EXTENSION)
        self.assertGreater(self.pace.wait_s(REPORT), 0)
        self.pace.failed(EXTENSION)
        self.assertGreater(self.pace.wait_s(EXTENSION), 0)

    def test_a_short_lease_waits_no_longer_than_for_its_own_next_try(self) -> None:
        """Where one extension a second began for the whole process, two leases of 2 s did not outlive a refusal of one
        of them; nor did what waited so long hear of the end of the refusals."""
        for _ in range(9):
            self.pace.failed(EXTENSION)
            self.now += 1.0
        self.assertEqual(self.pace.wait_s(EXTENSION), 0)
        self.assertAlmostEqual(self.pace.wait_s(EXTENSION), 1.0)
        self.assertAlmostEqual(self.pace.wait_s(EXTENSION, 0.2), 0.2)
        self.now += 0.3
        self.assertEqual(self.pace.wait_s(EXTENSION, 0.2), 0)

    def test_whoever_may_go_sooner_takes_no_turn_of_the_others(self) -> None:
        """A short lease whose extensions failed for good began one each 0.3 s, and each put the others off: those were
        never extended, though theirs would have been taken."""
        for _ in range(9):
            self.pace.failed(EXTENSION)
            self.now += 1.0
        begun = {0.3: 0, 3.0: 0}
        for _ in range(1000):
            for retry_s in begun:
                if not self.pace.wait_s(EXTENSION, retry_s):
                    begun[retry_s] += 1
                    self.pace.failed(EXTENSION)
            self.now += 0.01
        self.assertIn(begun[3.0], (9, 10, 11))
        self.assertIn(begun[0.3], range(30, 35))

    def test_refusals_of_what_was_under_way_together_count_once(self) -> None:
        for _ in range(64):
            self.pace.failed(REPORT)
        self.assertLessEqual(self.pace.wait_s(REPORT), 0.05)

    def test_a_success_ends_it_and_so_does_silence(self) -> None:
        self.pace.failed(REPORT)
        self.assertGreater(self.pace.wait_s(REPORT), 0)
        self.pace.succeeded(REPORT)
        self.assertEqual(self.pace.wait_s(REPORT), 0)
        self.pace.failed(REPORT)
        self.now += REFUSING_S + 1
        self.assertEqual([self.pace.wait_s(REPORT) for _ in range(3)], [0.0] * 3)
        self.assertFalse(self.pace.refused_at)


class OutageTest(unittest.TestCase):
    def test_ten_minutes_are_a_line_at_the_start_one_a_minute_and_one_at_the_end(self) -> None:
        outage = Outage(log, "Polling fails")
        with self.assertLogs(log, "INFO") as said:
            for second in range(601):
                outage.failed("HTTP 503", float(second))
            outage.succeeded(601.0)
            outage.succeeded(602.0)
        self.assertEqual(len(said.output), 12)
        self.assertEqual(said.records[0].action, "outage_started")
        self.assertIn("for 60 s, 61 tries", said.output[1])
        self.assertIn("over after 601.0 s and 601 tries", said.output[-1])

    def test_another_kind_of_failure_is_said_at_once_and_refused_credentials_as_an_error(self) -> None:
        """A sandbox came back from an outage with a new secret: for 78 s the worker went on saying that the platform
        does not answer, which 401s had contradicted from the first second."""
        outage = Outage(log, "Polling fails", agent_id="a")
        with self.assertLogs(log, "INFO") as said:
            for second, reason in enumerate(["refused", "refused", "HTTP 503", "HTTP 503", "refused", "HTTP 503"]):
                outage.failed(reason, float(second))
            for second in (6.0, 7.0):
                outage.failed("HTTP 401 invalid_client", second, is_refusal=True)
            outage.succeeded(8.0)
        found = [(record.levelname, record.action, record.tries) for record in said.records]
        self.assertEqual(found, [("WARNING", "outage_started", 1), ("WARNING", "outage_goes_on", 3),
                                 ("ERROR", "credentials_refused", 7), ("INFO", "outage_over", 8)])  # fmt: skip
        refused = said.records[2].__dict__
        self.assertEqual((refused["agent_id"], refused["outage_s"], refused["reason"]),
                         ("a", 6.0, "HTTP 401 invalid_client"))  # fmt: skip

    def test_the_next_outage_counts_from_its_own_start(self) -> None:
        outage = Outage(log, "x")
        with self.assertLogs(log, "INFO") as said:
            for start in (0.0, 1000.0):
                outage.failed("why", start)
                outage.succeeded(start + 2)
        self.assertIn("over after 2.0 s and 1 tries", said.output[-1])

    def test_a_new_reason_is_said_at_once(self) -> None:
        """The secret was revoked during an outage: the log went on about the outage for 70 s."""
        outage = Outage(log, "x")
        with self.assertLogs(log, "INFO") as said:
            for second, reason in enumerate(["HTTP 503", "HTTP 503", "HTTP 401", "HTTP 503", "HTTP 401"]):
                outage.failed(reason, float(second))
        self.assertEqual([line.rpartition("HTTP ")[2][:3] for line in said.output], ["503", "401"])

    def test_reasons_that_are_always_new_do_not_fill_a_log(self) -> None:
        outage = Outage(log, "x")
        with self.assertLogs(log, "INFO") as said:
            for second in range(120):
                outage.failed(f"cut after {second} bytes", float(second))
        self.assertLessEqual(len(said.output), 2 * (REASONS_MAX + 1))

    def test_no_trouble_no_words(self) -> None:
        with self.assertRaises(AssertionError), self.assertLogs(log):  # assertNoLogs is newer than 3.9
            Outage(log, "x").succeeded(1.0)


if __name__ == "__main__":
    unittest.main()

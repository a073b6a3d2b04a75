"""Who may poll, and when: the polling of an agent, played on a clock that costs no time."""

from __future__ import annotations

import heapq
import random
import unittest
from typing import Callable

from user_agent_sdk.worker.intake import Intake, Poll


class Play:
    """``slots`` slots of one agent against a platform that answers after ``trip_s`` with hit, empty or
    fail; a hit keeps its slot for ``work_s``. Records when polls were sent and what hit."""

    def __init__(
        self, intake: Intake, slots: int, answer: Callable[[float], str], trip_s: float, work_s: float
    ) -> None:
        self.intake, self.free, self.answer, self.trip_s, self.work_s = intake, slots, answer, trip_s, work_s
        self.now = 0.0
        self.holders = 0
        self.sent: list[float] = []
        self.open = 0
        self.hits: list[float] = []
        self._events: list[tuple[float, int, Poll | None]] = []

    def run(self, until_s: float) -> Play:
        while self.now < until_s:
            while self.free and self.intake.admits():
                self.intake.admit()
                self.free, self.holders = self.free - 1, self.holders + 1
            while self.holders and self.intake.wait_s(self.now) <= 0:
                self.holders, self.open = self.holders - 1, self.open + 1
                self.sent.append(self.now)
                poll = self.intake.begin(self.now)
                heapq.heappush(self._events, (self.now + self.trip_s, len(self.sent), poll))
            due = self._events[0][0] if self._events else until_s
            if self.holders:
                due = min(due, self.now + max(self.intake.wait_s(self.now), 1e-6))
            self.now = due
            while self._events and self._events[0][0] <= self.now:
                self._reply(heapq.heappop(self._events)[2])
        return self

    def _reply(self, poll: Poll | None) -> None:
        if poll is None:
            self.free += 1
            return
        self.open -= 1
        what = self.answer(self.now)
        if what == "hit":
            self.intake.hit(poll, self.now)
            self.hits.append(self.now)
            heapq.heappush(self._events, (self.now + self.work_s, -len(self.hits), None))
            return
        if what == "empty":
            self.intake.empty(poll, self.now)
        else:
            self.intake.failed(poll, self.now, None)
        self.free += 1


def play(answer: Callable[[float], str], slots: int = 8, trip_s: float = 0.005, work_s: float = 0.1) -> Play:
    return Play(Intake(slots, 1.0, random.Random(7).random), slots, answer, trip_s, work_s)


class IntakeTest(unittest.TestCase):
    def test_an_idle_agent_costs_one_poll_an_interval_whatever_its_workers(self) -> None:
        for slots in (1, 8, 200):
            with self.subTest(workers=slots):
                sent = play(lambda now: "empty", slots).run(600.0).sent
                self.assertLessEqual(len(sent), 610)
                self.assertGreater(len(sent), 500)
                late = [b - a for a, b in zip(sent[10:], sent[11:])]
                self.assertGreaterEqual(min(late), 1.0)
                self.assertLessEqual(max(late), 1.11)

    def test_the_first_pauses_are_short_and_grow(self) -> None:
        sent = play(lambda now: "empty").run(2.0).sent
        gaps = [b - a for a, b in zip(sent, sent[1:])]
        for gap, pause in zip(gaps, (0.05, 0.1, 0.2, 0.4)):
            self.assertTrue(pause <= gap <= pause * 1.1 + 0.006, gaps)

    def test_time_that_the_server_held_a_poll_counts_as_pause(self) -> None:
        sent = play(lambda now: "empty", trip_s=5.0).run(60.0).sent
        self.assertTrue(all(b - a < 5.001 for a, b in zip(sent, sent[1:])), sent)

    def test_a_deep_queue_is_taken_at_full_width_over_a_slow_network(self) -> None:
        played = play(lambda now: "hit", slots=20, trip_s=0.05, work_s=0.2).run(10.0)
        in_last_second = sum(at > 9.0 for at in played.hits)
        self.assertGreaterEqual(in_last_second, 76)  # 20 slots / (50 ms poll + 200 ms work) = 80
        self.assertLess(next(at for at in played.hits if sum(b <= at for b in played.hits) >= 20), 0.5)

    def test_one_empty_poll_brings_it_back_to_one_slot(self) -> None:
        played = play(lambda now: "hit" if now < 2 else "empty").run(12.0)
        self.assertLessEqual(sum(at > 3.0 for at in played.sent), 10)

    def test_a_row_of_empty_polls_counts_once(self) -> None:
        """Eight polls were open when the queue ran dry: their eight empty replies once doubled the
        pause eight times, and the next task waited a whole interval."""
        intake = Intake(8, 1.0, lambda: 0.0)
        for _ in range(3):
            intake.admit()
            intake.hit(intake.begin(0.0), 0.0)
        polls = []
        for _ in range(8):
            intake.admit()
            polls.append(intake.begin(0.0))
        for poll in polls:
            intake.empty(poll, 0.01)
        self.assertAlmostEqual(intake.wait_s(0.01), 0.04)

    def test_it_is_open_while_replies_bring_tasks_and_every_slot_may_poll(self) -> None:
        for end in ("empty", "failed", "unchained"):
            with self.subTest(end):
                intake = Intake(4, 1.0, lambda: 1.0)
                seen = []
                for _ in range(2):
                    intake.admit()
                    intake.hit(intake.begin(0.0), 0.0)
                    seen.append(intake.is_open)
                self.assertEqual(seen, [False, True])
                free = intake.begin_free(1.0)
                if end == "empty":
                    intake.empty(free, 1.0)
                elif end == "failed":
                    intake.failed(free, 1.0, None)
                else:
                    intake.unchained()
                self.assertFalse(intake.is_open)
                self.assertTrue(intake.admits())
                self.assertEqual(intake._permits, 0, "it had none to give back")
                self.assertEqual(intake.wait_s(1.0) > 0, end != "unchained")
                late = intake.begin_free(1.0)  # of a slot that had looked just before
                intake.hit(late, 1.0)
                self.assertEqual(intake._permits, 0)

    def test_a_platform_that_is_down_is_probed_by_one_slot_at_most_every_backoff(self) -> None:
        played = play(lambda now: "hit" if now < 1 else "fail", slots=50).run(601.0)
        probes = [at for at in played.sent if at > 2.0]
        self.assertLess(len(probes), 90)  # mean pause 15 s once at the cap; full jitter
        after = play(lambda now: "fail" if now < 600 else "hit", slots=8).run(640.0)
        self.assertLess(after.hits[0], 630.1)

    def test_the_first_reply_of_any_kind_ends_the_backoff(self) -> None:
        for reply in ("hit", "empty"):
            intake = Intake(4, 1.0, lambda: 1.0)
            for _ in range(6):
                intake.admit()
                intake.failed(intake.begin(0.0), 0.0, None)
            self.assertTrue(intake.is_failing)
            intake.admit()
            poll = intake.begin(8.0)
            self.assertTrue(intake.hit(poll, 8.0) if reply == "hit" else intake.empty(poll, 8.0))
            self.assertFalse(intake.is_failing)

    def test_retry_after_is_a_floor(self) -> None:
        intake = Intake(1, 1.0, lambda: 0.5)
        intake.admit()
        self.assertEqual(intake.failed(intake.begin(0.0), 0.0, 17.0), 17.0)
        self.assertEqual(intake.wait_s(0.0), 17.0)

    def test_another_calls_success_ends_the_wait(self) -> None:
        intake = Intake(1, 1.0, lambda: 1.0)
        self.assertFalse(intake.recovered(0.0))
        intake.admit()
        intake.failed(intake.begin(0.0), 0.0, 60.0)
        self.assertTrue(intake.recovered(1.0))
        self.assertLessEqual(intake.wait_s(1.0), 0)

    def test_a_chained_task_counts_as_a_hit_and_an_empty_chain_as_the_end(self) -> None:
        intake = Intake(8, 1.0, lambda: 0.0)
        intake.chained(0.0)
        intake.admit()
        self.assertTrue(intake.admits())
        intake.unchained()
        self.assertFalse(intake.admits())

    def test_only_the_first_open_poll_may_wait_in_the_server(self) -> None:
        intake = Intake(8, 1.0, lambda: 0.0)
        intake.chained(0.0)
        intake.admit()
        intake.admit()
        self.assertEqual([intake.begin(0.0).lead, intake.begin(0.0).lead], [True, False])

    def test_an_interval_of_zero_is_no_busy_loop(self) -> None:
        played = Play(Intake(8, 0.0, random.Random(1).random), 8, lambda now: "empty", 0.0, 0.0).run(1.0)
        self.assertLessEqual(len(played.sent), 101)


if __name__ == "__main__":
    unittest.main()

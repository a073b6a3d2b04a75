# SPDX-License-Identifier: Apache-2.0
"""Who may poll, and when: the polling of an agent, played on a clock that costs no time."""

from __future__ import annotations

import heapq
import random
import unittest
import unittest.mock
from typing import Callable

from user_agent_sdk.worker.polling.intake import (
    CROWD_S,
    JOIN_S,
    LIKELY_S,
    LOOK_MOST_S,
    SHORT_S,
    SILENT_S,
    TURNS,
    WIDE_S,
    Intake,
    Poll,
)


def intake_of(workers: int, rand: Callable[[], float] = lambda: 0.0) -> Intake:
    return Intake(workers, 1.0, rand)


class Play:
    """``slots`` slots of one agent against a platform that answers after ``trip_s`` with hit, empty or
    fail; a hit keeps its slot for ``work_s``, and its next poll is sent beside its report. ``asks``: the platform is
    asked to keep the leading polls. Records when polls were sent and what hit."""

    def __init__(
        self, intake: Intake, slots: int, answer: Callable[[float], str], trip_s: float, work_s: float,
        asks: bool = False,
    ) -> None:  # fmt: skip
        self.asks = asks
        self.intake, self.free, self.answer, self.trip_s, self.work_s = intake, slots, answer, trip_s, work_s
        self.now = 0.0
        self.open = self.widest = 0
        self.sent: list[float] = []
        self.hits: list[float] = []
        self._events: list[tuple[float, int, Poll | None]] = []

    def run(self, until_s: float) -> Play:
        while self.now < until_s:
            wait_s = self.intake.wait_s(self.now) if self.free else None
            if wait_s is None and self.free:
                wait_s = self.intake.joins_in_s(self.now)
            if wait_s == 0:
                self.free -= 1
                self._send(rides=False)
                continue
            due = self._events[0][0] if self._events else until_s
            self.now = due if wait_s is None else min(due, self.now + wait_s)
            while self._events and self._events[0][0] <= self.now:
                self._reply(heapq.heappop(self._events)[2])
        return self

    def _send(self, rides: bool) -> None:
        self.open += 1
        self.widest = max(self.widest, self.open)
        self.sent.append(self.now)
        poll = self.intake.begin(self.now, rides)
        if self.asks and poll.lead:
            self.intake.waits(LIKELY_S)
        heapq.heappush(self._events, (self.now + self.trip_s, len(self.sent), poll))

    def _reply(self, poll: Poll | None) -> None:
        if poll is None:  # a function has ended
            if self.intake.goes_on(self.now, self.trip_s + self.work_s):
                self._send(rides=True)
            else:
                self.free += 1
            return
        self.open -= 1
        what = self.answer(self.now)
        if what == "hit":
            self.intake.hit(self.now, poll.rides)
            self.hits.append(self.now)
            heapq.heappush(self._events, (self.now + self.work_s, -len(self.hits), None))
            return
        if what == "empty":
            self.intake.empty(poll, self.now, self.asks and poll.lead)
        else:
            self.intake.failed(poll, self.now, None)
        self.free += 1


def play(
    answer: Callable[[float], str], slots: int = 8, trip_s: float = 0.005, work_s: float = 0.1
) -> Play:
    return Play(intake_of(slots, random.Random(7).random), slots, answer, trip_s, work_s)


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
        intake = intake_of(8)
        for _ in range(3):
            intake.begin(0.0)
            intake.hit(0.0)
        polls = [intake.begin(0.0) for _ in range(8)]
        for poll in polls:
            intake.empty(poll, 0.01)
        self.assertAlmostEqual(intake.wait_s(0.01) or 0.0, 0.04)

    def test_a_platform_that_is_down_is_probed_by_one_slot_at_most_every_backoff(self) -> None:
        played = play(lambda now: "hit" if now < 1 else "fail", slots=50).run(601.0)
        probes = [at for at in played.sent if at > 2.0]
        self.assertLess(len(probes), 90)  # mean pause 15 s once at the cap; full jitter
        after = play(lambda now: "fail" if now < 600 else "hit", slots=8).run(640.0)
        self.assertLess(after.hits[0], 630.1)

    def test_the_first_reply_of_any_kind_ends_the_backoff(self) -> None:
        for reply in ("hit", "empty"):
            intake = intake_of(4, rand=lambda: 1.0)
            for _ in range(6):
                intake.failed(intake.begin(0.0), 0.0, None)
            self.assertTrue(intake.is_failing)
            poll = intake.begin(8.0)
            self.assertTrue(intake.hit(8.0) if reply == "hit" else intake.empty(poll, 8.0))
            self.assertFalse(intake.is_failing)

    def test_retry_after_is_a_floor(self) -> None:
        intake = intake_of(1, rand=lambda: 0.5)
        intake.failed(intake.begin(0.0), 0.0, 17.0)
        self.assertEqual(intake.wait_s(0.0), 17.0)
        self.assertEqual(intake.wait_s(0.0), 17.0)

    def test_another_calls_success_ends_the_wait(self) -> None:
        intake = intake_of(1, rand=lambda: 1.0)
        intake.failed(intake.begin(0.0), 0.0, 60.0)
        intake.recovered(1.0)
        self.assertEqual(intake.wait_s(1.0), 0.0)

    def test_other_calls_successes_have_it_poll_once_an_interval_at_most(self) -> None:
        """An agent without the right to poll was polled once for each report of any other agent."""
        intake, now, polls, sooner = intake_of(1), 0.0, 0, 0
        for _ in range(1000):
            if intake.wait_s(now) == 0:
                polls += 1
                intake.failed(intake.begin(now), now, 30.0)
            sooner += intake.recovered(now)
            now += 0.01
        self.assertEqual((polls, sooner), (10, 10), "each time all waiting slots are woken")

    def test_a_report_that_asked_and_got_nothing_is_the_end_of_the_queue(self) -> None:
        intake = intake_of(8)
        intake.begin(0.0)
        intake.hit(0.0)
        intake.begin(0.0)
        self.assertEqual(intake.wait_s(0.0), 0.0)
        intake.begin(0.0, rides=True)
        intake.unchained()
        self.assertIsNone(intake.wait_s(0.0))

    def test_a_poll_that_rides_with_a_report_takes_no_other_slots_room(self) -> None:
        intake = intake_of(8)
        intake.begin(0.0)
        intake.hit(0.0)
        rides = [intake.begin(0.1, rides=True)]
        intake._changes_at = 1.0
        self.assertTrue(intake.goes_on(0.1, 0.0), "wide, and there is room")
        rides.append(intake.begin(0.1, rides=True))
        self.assertFalse(intake.goes_on(0.1, 0.0), "wide, and two ride already")
        for at, is_room_left in ((0.2, True), (1.2, False)):
            self.assertEqual(intake.wait_s(at), 0.0)
            poll = intake.begin(at)
            self.assertEqual((poll.lead, poll.joins, intake.wait_s(at) is not None), (True, False, is_room_left))
            intake.empty(poll, at)
        intake.failed(rides[0], 1.3, None)
        intake.empty(rides[1], 1.3)
        self.assertEqual((intake.polling, intake.riding), (0, 0))

    def test_where_turns_are_short_a_slot_joins_a_poll_that_rides_after_a_silence_alone(self) -> None:
        intake = intake_of(8)
        intake.goes_on(0.0, 0.0)
        self.assertTrue(intake._is_narrow)
        rides = intake.begin(1.0, rides=True)
        self.assertFalse(intake.goes_on(1.0, 0.0))
        self.assertEqual(intake.wait_s(1.0), SILENT_S)
        self.assertEqual(intake.wait_s(1.0 + SILENT_S), 0.0)
        intake.hit(1.1, rides.rides)
        self.assertTrue(intake.goes_on(1.1, 0.0))

    def test_only_the_first_open_poll_may_wait_in_the_server(self) -> None:
        intake = intake_of(8)
        intake.begin(0.0)
        intake.hit(0.0)
        self.assertEqual([intake.begin(0.0).lead, intake.begin(0.0).lead], [True, False])

    def test_an_interval_of_zero_is_no_busy_loop(self) -> None:
        intake = Intake(8, 0.0, random.Random(1).random)
        played = Play(intake, 8, lambda now: "empty", 0.0, 0.0).run(1.0)
        self.assertLessEqual(len(played.sent), 101)


class Joining(unittest.TestCase):
    """Two polls that wait in the server find a task sooner than one."""

    def played(
        self, slots: int = 8, interval_s: float = 1.0, trip_s: float = 5.0, hits: tuple[float, ...] = ()
    ) -> Play:
        """100 s with a server that keeps polls for ``trip_s``, and has a task after each of ``hits``."""
        due = list(hits)

        def answer(now: float) -> str:
            if not due or now < due[0]:
                return "empty"
            due.pop(0)
            return "hit"

        intake = Intake(slots, interval_s, lambda: 0.0)
        return Play(intake, slots, answer, trip_s, work_s=0.1, asks=True).run(100.0)

    def test_only_after_a_task_are_there_two(self) -> None:
        self.assertEqual(self.played().widest, 1)
        played = self.played(hits=(40.0,))
        self.assertEqual(played.widest, 2)
        at_rest = [at for at in played.sent if at > 50.0]
        self.assertGreaterEqual(min(b - a for a, b in zip(at_rest, at_rest[1:])), 5.0)

    def test_one_slot_alone_joins_nobody(self) -> None:
        played = self.played(slots=1, hits=(40.0,))
        self.assertEqual((played.widest, len(played.sent)), (1, 20))

    def test_a_long_interval_is_kept(self) -> None:
        """The second poll was once sent whatever the interval, and one after it, for ever."""
        for interval_s in (5.0, 60.0, 3600.0):
            without, with_one = self.played(interval_s=interval_s), self.played(interval_s=interval_s, hits=(5.0,))
            self.assertLessEqual(len(with_one.sent), len(without.sent) + 4, interval_s)

    def test_a_server_that_does_not_keep_polls_is_asked_no_more_often(self) -> None:
        """A gateway that answered each poll after 60 ms got 20 polls/s for 5 s after each task."""
        for trip_s in (0.001, 0.06, 0.3, 3.9):
            hits = tuple(4.0 * number for number in range(25))
            polls = len(self.played(trip_s=trip_s, hits=hits).sent)
            with unittest.mock.patch("user_agent_sdk.worker.polling.intake.LIKELY_S", 0.0):
                self.assertLessEqual(polls, len(self.played(trip_s=trip_s, hits=hits).sent) + 1, trip_s)

    def test_a_probe_of_a_platform_that_is_down_is_not_joined(self) -> None:
        intake = Intake(8, 1.0, lambda: 1.0)
        intake.begin(0.0)
        intake.hit(0.0)
        poll = intake.begin(0.0)
        intake.waits(LIKELY_S)
        intake.begin(0.0, rides=True)
        intake.unchained()
        self.assertIsNotNone(intake.joins_in_s(0.0))
        intake.failed(poll, 0.0, None)
        intake.begin(1.0)
        self.assertIsNone(intake.joins_in_s(1.0))

    def test_the_second_waits_in_the_server_too_between_two_looks_of_it(self) -> None:
        intake = Intake(8, 1.0, lambda: 0.0)
        intake.begin(5.0)
        intake.hit(10.0)
        intake.begin(10.0, rides=True)
        intake.unchained()
        self.assertIsNone(intake.joins_in_s(10.0))  # there is room
        first = intake.begin(10.0)
        intake.waits(LIKELY_S)
        self.assertIsNone(intake.wait_s(10.0))
        self.assertAlmostEqual(intake.joins_in_s(10.0) or 0.0, JOIN_S)
        second = intake.begin(10.0 + JOIN_S)
        self.assertTrue(first.lead and second.lead)
        self.assertIsNone(intake.joins_in_s(11.0))  # two are enough
        intake.empty(first, 10.0 + LIKELY_S, was_to_wait=True)
        self.assertIsNone(intake.joins_in_s(10.0 + LIKELY_S))

    def test_while_a_server_sits_one_poll_out_another_slot_goes_on_asking(self) -> None:
        """Conductor 3.13 keeps a poll without looking at its queue. The worker's first poll, a plain one, was answered
        at once; so the server was taken for one that keeps none, and while one slot's poll was kept, no other asked:
        twenty-eight tasks, ten seconds' work, once took 15.1 s."""
        intake = intake_of(8)
        intake.empty(intake.begin(0.0), 0.01)
        intake.begin(0.1)
        intake.hit(0.1)
        kept = intake.begin(0.2)
        intake.waits(LIKELY_S)
        intake.begin(0.2, rides=True)
        intake.unchained()
        at = 0.3
        for pause_s in (0.05, 0.1, 0.2, 0.4, 0.8, 1.0):
            self.assertEqual(intake.joins_in_s(at), 0.0)
            intake.empty(intake.begin(at), at + 0.01)
            self.assertAlmostEqual(intake.joins_in_s(at) or 0.0, pause_s, msg="as long as one slot's alone would be")
            at += pause_s
        intake.empty(kept, 5.2, was_to_wait=True)
        intake.begin(5.0)
        self.assertIsNone(intake.joins_in_s(5.1), "no poll is kept any more")

    def test_the_slot_that_joined_puts_the_next_kept_poll_off_no_further(self) -> None:
        """Its empty polls lengthen the pause: after the kept one nobody asked for nearly a second."""
        intake = intake_of(8)
        intake.begin(0.0)
        intake.hit(0.1)
        kept = intake.begin(0.2)
        intake.waits(LIKELY_S)
        intake.begin(0.2, rides=True)
        intake.unchained()
        for at in (0.3, 1.0, 2.0, 3.0, 5.0):
            intake.empty(intake.begin(at), at + 0.01)
        intake.empty(kept, 5.3, was_to_wait=True)
        self.assertEqual(intake.wait_s(5.3), 0.0)

    def test_after_a_poll_that_was_to_be_kept_has_brought_a_task_plain_ones_are_not_joined(self) -> None:
        """They were, for 5 s: twenty polls a second."""
        intake = intake_of(8)
        intake.begin(0.0)
        intake.waits(LIKELY_S)
        intake.hit(0.1)
        intake.empty(intake.begin(0.2), 0.21)
        intake.begin(1.0)
        self.assertIsNone(intake.joins_in_s(1.1))

    def test_where_polls_can_not_wait_nobody_joins_one_that_is_slow(self) -> None:
        intake = intake_of(8)
        intake.empty(intake.begin(0.0), 6.0)
        intake.begin(6.0)
        intake.hit(7.0)
        intake.begin(7.0, rides=True)
        intake.unchained()
        intake.begin(7.0)
        self.assertIsNone(intake.joins_in_s(8.0))


class Crowds(unittest.TestCase):
    """Threads share one interpreter. Eight slots with small tasks once spent half of their time on handing it to
    each other: 2,000 tasks/s where one of them alone made 2,800."""

    def test_where_turns_are_short_no_other_slot_joins_the_one_that_takes_all(self) -> None:
        played = play(lambda now: "hit", trip_s=0.0003, work_s=0.00001).run(1.0)
        self.assertGreater(len(played.hits), 3000)
        self.assertLessEqual(sum(at > 0.1 for at in played.hits), 0.9 / 0.00031 + 2, "two of them polled")

    def test_where_somebody_waits_all_join(self) -> None:
        """The platform is far, or functions take their time. A rule of three milliseconds without a poll kept all but
        two slots from tasks of five: those two polled more often than that."""
        for trip_s, work_s in ((0.003, 0.00001), (0.05, 0.00001), (0.0003, 0.002), (0.0003, 0.005), (0.0003, 0.02)):
            with self.subTest(trip_s=trip_s, work_s=work_s):
                played = play(lambda now: "hit", slots=8, trip_s=trip_s, work_s=work_s).run(2.0)
                in_the_last_second = sum(at > 1.0 for at in played.hits)
                self.assertGreater(in_the_last_second, 0.9 * 8 / (trip_s + work_s))

    def test_after_many_short_turns_long_functions_are_joined_when_nobody_polls(self) -> None:
        played = play(lambda now: "hit", trip_s=0.0003, work_s=0.00001).run(0.1)
        played.work_s, played.hits = 5.0, []
        played.run(0.4)
        self.assertEqual(len(played.hits), 8)
        self.assertLess(played.hits[-1] - 0.1, 4 * LOOK_MOST_S)

    def test_who_looks_while_one_slot_is_at_it_looks_ever_more_rarely(self) -> None:
        """Two hundred looks a second took a sixth of the throughput from the slot that was at work."""
        intake = intake_of(8)
        intake.begin(0.0)
        intake.hit(0.0)
        intake.goes_on(1.0, 0.0003)
        intake.begin(2.0)
        looks = [intake.wait_s(2.0) for _ in range(6)]
        self.assertEqual(looks, [SILENT_S, 2 * SILENT_S, 4 * SILENT_S, 8 * SILENT_S, LOOK_MOST_S, LOOK_MOST_S])
        self.assertEqual(intake.wait_s(2.0 + SILENT_S), 0.0)
        self.assertEqual(intake.wait_s(2.0), SILENT_S)

    def after(self, turn_s: float, at: float = 1.0) -> tuple[Intake, float]:
        """An agent with one poll under way, and room for more, after some turns that were measured; and the time."""
        intake = intake_of(8)
        intake.begin(0.0)
        intake.hit(0.0)
        intake.goes_on(at, turn_s)
        for _ in range(TURNS):
            at = max(at, 1.0 + CROWD_S) + turn_s
            self.assertTrue(intake.goes_on(at, turn_s), "there is no other")
        intake.begin(at)
        return intake, at

    def test_of_two_whose_turns_are_short_one_stops(self) -> None:
        for turn_s, goes_on in ((SHORT_S / 3, False), (SHORT_S * 2, True)):
            intake, at = self.after(turn_s)
            self.assertEqual(intake.goes_on(at + turn_s, turn_s), goes_on)

    def test_a_crowd_does_not_keep_itself_alive(self) -> None:
        """Of a crowd every turn is long, since each waits for the others. Eight slots once found their turns long for
        that reason alone, and went on in each other's way for as long as there were tasks: 870 tasks/s, where one slot
        made 1,600."""
        intake, at = self.after(SHORT_S * 2)
        narrow_at = at + WIDE_S
        self.assertTrue(intake.goes_on(narrow_at - 0.001, 0.02), "it is believed for a while")
        self.assertFalse(intake.goes_on(narrow_at, 0.02))
        for _ in range(3 * TURNS):  # begun before, or beside such a one
            self.assertFalse(intake.goes_on(narrow_at + CROWD_S, 0.02))
        for number in range(TURNS):
            self.assertFalse(intake.goes_on(narrow_at + CROWD_S + 0.0003 * (number + 1), 0.0003))
        self.assertFalse(intake.goes_on(narrow_at + 1.0, 0.0003))

    def test_where_turns_are_long_again_and_again_they_are_measured_ever_more_rarely(self) -> None:
        """While that lasts few slots are at work, for nothing."""
        played = play(lambda now: "hit", slots=8, trip_s=0.05, work_s=0.00001).run(30.0)
        per_s = [sum(int(at) == second for at in played.hits) for second in range(1, 29)]
        self.assertLessEqual(sum(count < 0.95 * 8 / 0.05 for count in per_s), 6)

    def test_one_turn_that_was_long_by_chance_tells_nothing(self) -> None:
        """On a loaded machine somebody else had the processor meanwhile."""
        intake = intake_of(8)
        intake.goes_on(0.0, 0.0)
        for number in range(4 * TURNS):
            intake.goes_on(1.0 + number, 0.1 if number % 4 == 0 else 0.0003)
        intake.begin(0.0)
        intake.hit(0.0)
        intake.begin(0.0)
        self.assertFalse(intake.goes_on(100.0, 0.0003))

    def test_a_clock_that_steps_by_15_ms_tells_long_turns_from_short_ones(self) -> None:
        """That of Windows: most turns of five milliseconds take no time there, some take 15.6."""
        for turn_s, goes_on in ((0.005, True), (0.0003, False)):
            intake, ended, wide = intake_of(8), 0.0, 0
            intake.goes_on(0.0, 0.0)
            for number in range(1, 20 * TURNS):
                begun, ended = ended, 0.015625 * (number * turn_s // 0.015625)
                intake.goes_on(ended, ended - begun)
                wide += not intake._is_narrow
            self.assertEqual(wide > 10 * TURNS, goes_on)

    def test_a_slot_goes_on_at_once_only_while_polls_are_due(self) -> None:
        intake = intake_of(2)
        intake.begin(0.0)
        intake.hit(0.0)
        intake.empty(intake.begin(0.0), 0.0)
        self.assertFalse(intake.goes_on(0.0, 1.0))
        self.assertTrue(intake.goes_on(1.0, 1.0))
        intake.begin(1.0)
        self.assertFalse(intake.goes_on(1.0, 1.0), "an empty poll leaves one slot")


if __name__ == "__main__":
    unittest.main()

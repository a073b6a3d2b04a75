# SPDX-License-Identifier: Apache-2.0
"""Leases: extended in time, whatever hangs, fails or jumps."""

from __future__ import annotations

import threading
import time
import unittest
from typing import Any, Callable
from unittest import mock

from user_agent_sdk.conductor.client import Outcome
from user_agent_sdk.conductor.wire import Verdict
from user_agent_sdk.worker.keeping.held import Held
from user_agent_sdk.worker.keeping.journal_file import TAKEN, Entry
from user_agent_sdk.worker.keeping.lease import Lease, LeaseKeeper
from user_agent_sdk.worker.polling.backoff import EXTENSION, Pace

from .workerbox import hasten

LONG_S = 20.0
DAY_S = 86400.0
APPLIED = Outcome(Verdict.APPLIED)


def after(event: threading.Event, wait_s: float) -> Outcome:
    """200, once the event is set or the time is over."""
    event.wait(wait_s)
    return APPLIED


def held_for(task_id: str = "t", lease_s: float | None = 30.0) -> Held:
    return Held(Entry(TAKEN, task_id, "w", "a", "worker"), Lease(lease_s))


class LeaseTest(unittest.TestCase):
    def test_it_counts_from_when_the_exchange_was_sent(self) -> None:
        held = Lease(30.0)
        held.renewed(sent_at=100.0, now=104.0, wall_s=1000.0)
        self.assertFalse(held.has_lapsed(129.9, 1025.9))
        self.assertTrue(held.has_lapsed(130.0, 1000.0))  # the wall clock stood still
        self.assertTrue(held.has_lapsed(100.0, 1026.0))  # the machine slept

    def test_the_plan_is_a_third_a_tenth_and_a_sixth(self) -> None:
        for lease_s, plan in ((30.0, (10.0, 3.0, 5.0)), (6.0, (2.0, 0.6, 1.0)), (None, (30.0, 9.0, 5.0))):
            held = Lease(lease_s)
            for value, wanted in zip((held.period_s, held.retry_s, held.send_timeout_s), plan):
                self.assertAlmostEqual(value, wanted)

    def test_one_that_may_have_lapsed_stays_so_though_the_platform_answers_200(self) -> None:
        """After an outage the first call through is often an extension. The platform says 200 to it for a
        task that it has long given to somebody else; believing it, the worker once threw the result away."""
        held = Lease(5.0)
        held.renewed(0.0, 0.0, 1000.0)
        held.renewed(16.0, 16.1, 1016.1)
        self.assertTrue(held.has_lapsed(16.2, 1016.2))
        self.assertEqual(held.until_ms, 1_005_000, "so the next process knows, after a kill, that its result is late")

    def test_one_of_an_ended_process_lapses_though_the_wall_clock_is_set_back(self) -> None:
        """A worker took a result over, and the computer's clock was then set back by an hour. The lease, known by that
        clock alone, seemed to have an hour left: the late result was believed to count, and the work was run again."""
        held = Lease(3.0)
        held.adopted(1_003_000, now=50.0, wall_s=1000.0)
        self.assertFalse(held.has_lapsed(52.9, 1002.9))
        self.assertTrue(held.has_lapsed(53.0, 1000.0 - 3600.0))
        self.assertTrue(held.has_lapsed(50.0, 1003.0))

    def test_an_adopted_lease_that_is_longer_than_it_can_be_may_have_lapsed(self) -> None:
        """A machine without a clock of its own came back ten minutes in the past: a late result was believed to be in
        time, and its function ran once more."""
        held = Lease(3.0)
        held.adopted(1_003_000, now=50.0, wall_s=1000.0 - 600.0)
        self.assertTrue(held.has_lapsed(50.0, 400.0))

    def test_a_task_without_a_response_timeout_has_the_definitions_default(self) -> None:
        held = Lease(None)
        held.renewed(0.0, 0.0, 1000.0)
        self.assertFalse(held.has_lapsed(3599.0, 4599.0))
        self.assertTrue(held.has_lapsed(3601.0, 4601.0))


class Platform:
    """A client whose extensions are answered by a function; when each was sent is recorded."""

    def __init__(self, answer: Callable[[str], Outcome] = lambda task_id: APPLIED) -> None:
        self.answer = answer
        self.sent: dict[str, list[float]] = {}
        self.timeouts: set[float] = set()
        self._changed = threading.Condition()  # guards both

    def extend(self, task_id: str, workflow_id: str, worker_id: str, timeout_s: float) -> Outcome:
        with self._changed:
            self.sent.setdefault(task_id, []).append(time.monotonic())
            self.timeouts.add(timeout_s)
            self._changed.notify_all()
        return self.answer(task_id)

    def await_sent(self, task_id: str, count: int) -> None:
        with self._changed:
            if not self._changed.wait_for(lambda: len(self.sent.get(task_id, ())) >= count, LONG_S):
                raise AssertionError(f"{task_id} was extended {len(self.sent.get(task_id, ()))} times only")


class LeaseKeeperTest(unittest.TestCase):
    def keeper(self, platform: Any, **options: Any) -> LeaseKeeper:
        keeper = LeaseKeeper(platform, Pace(time.monotonic), **options)
        keeper.start()
        self.addCleanup(keeper.join, LONG_S)
        self.addCleanup(keeper.close)
        return keeper

    def hold(self, keeper: LeaseKeeper, *held: Held) -> None:
        for one in held:
            one.lease.renewed(keeper.clock(), keeper.clock(), keeper.wall())
            keeper.track(one)

    def test_leases_of_a_second_outlive_an_outage_that_is_just_over(self) -> None:
        platform = Platform()
        keeper = self.keeper(platform)
        for ago_s in range(9, 0, -1):  # of other leases, which are gone
            at = keeper.clock() - ago_s
            with mock.patch.object(keeper.pace, "clock", lambda at=at: at):
                keeper.pace.failed(EXTENSION)
        self.assertGreater(keeper.pace._gap_s, 0.9)
        keeper.pace.failed(EXTENSION)
        self.assertEqual(keeper.pace.wait_s(EXTENSION), 0, "the second's one extension has begun")
        began, both = keeper.clock(), (held_for("a", 0.9), held_for("b", 0.9))
        for one in both:
            one.lease.has_failed = True
        self.hold(keeper, *both)
        for one in both:
            platform.await_sent(one.ids[0], 3)
            self.assertLess(platform.sent[one.ids[0]][0] - began, 0.9)
            self.assertFalse(one.lease._is_void)

    def test_64_leases_lose_none_though_a_request_takes_a_fiftieth_of_the_lease(self) -> None:
        """64 tasks with 10-s leases and 200 ms a request, ten times as fast."""
        platform = Platform(lambda task_id: after(threading.Event(), 0.02))
        keeper = self.keeper(platform)
        began = time.monotonic()
        held = [held_for(str(number), 1.0) for number in range(64)]
        self.hold(keeper, *held)
        for one in held:
            platform.await_sent(one.ids[0], 2)
        for times in platform.sent.values():
            points = [began, *times]
            self.assertLess(max(b - a for a, b in zip(points, points[1:])), 0.95)
        self.assertFalse(any(one.lease.has_lapsed(keeper.clock(), keeper.wall()) for one in held))

    def test_sixty_extensions_are_under_way_at_once_when_each_takes_long(self) -> None:
        """1,000 tasks of 15 s at 300 ms a request need that many; four senders let 517 leases of 600 lapse."""
        hasten(self, timetable_OVERDUE_S=0.0)
        arrived, go = threading.Semaphore(0), threading.Event()

        def answer(task_id: str) -> Outcome:
            arrived.release()
            return after(go, LONG_S)

        keeper = self.keeper(Platform(answer))
        self.addCleanup(go.set)
        for number in range(300):
            keeper.track(held_for(str(number), 15.0))  # of unknown age: due at once
        for _ in range(4):
            self.assertTrue(arrived.acquire(timeout=LONG_S))
        keeper.watch()
        for _ in range(56):
            self.assertTrue(arrived.acquire(timeout=LONG_S))
        self.assertLessEqual(len(keeper._table._threads), 64)

    def test_leases_that_will_not_be_kept_are_told_before_and_no_more_is_taken(self) -> None:
        now = [100.0]
        keeper, _ = self.stopped_clock(now)
        held = [held_for(str(number), 10.0) for number in range(3)]
        self.hold(keeper, *held)
        now[0] += 7.0
        keeper.watch()
        self.assertFalse(keeper.is_behind)
        now[0] += 2.0
        with self.assertLogs("user_agent_sdk.worker.keeping.lease", "INFO") as said:
            for _ in range(3):
                keeper.watch()
            self.assertTrue(keeper.is_behind)
            self.assertFalse(any(one.lease.has_lapsed(keeper.clock(), keeper.wall()) for one in held))
            for one in held:
                keeper._extend(one)
            keeper.watch()
        self.assertFalse(keeper.is_behind)
        self.assertEqual([record.action for record in said.records], ["leases_behind", "leases_kept"])
        self.assertIn("3 leases will not be kept in time", said.output[0])

    def test_leases_that_the_platform_does_not_extend_are_told_but_keep_no_task_away(self) -> None:
        """A gateway without that route would be the end of all polling."""
        now = [100.0]
        keeper, platform = self.stopped_clock(now)
        platform.answer = lambda task_id: Outcome(Verdict.LATER, "HTTP 503")
        held = held_for("a", 10.0)
        self.hold(keeper, held)
        now[0] += 8.5
        keeper._extend(held)
        with self.assertLogs("user_agent_sdk.worker.keeping.lease", "WARNING") as said:
            for _ in range(3):
                keeper.watch()
        self.assertFalse(keeper.is_behind)
        self.assertEqual([record.action for record in said.records], ["leases_ending"])

    def test_the_next_extension_counts_from_when_the_last_was_sent(self) -> None:
        platform = Platform(lambda task_id: after(threading.Event(), 0.05))
        keeper = self.keeper(platform)
        self.hold(keeper, held_for("a", 0.3))
        platform.await_sent("a", 6)
        times = platform.sent["a"]
        self.assertLess((times[5] - times[0]) / 5, 0.14)  # 0.1 and not 0.15

    def test_a_request_that_hangs_delays_no_other(self) -> None:
        go = threading.Event()
        platform = Platform(lambda task_id: after(go, LONG_S) if task_id < "d" else APPLIED)
        keeper = self.keeper(platform)
        self.addCleanup(go.set)
        self.hold(keeper, *(held_for(name, 0.15) for name in "abc"))  # three of four senders hang
        for name in "abc":
            platform.await_sent(name, 1)
        self.hold(keeper, held_for("x", 0.15))
        platform.await_sent("x", 5)
        self.assertEqual(len(platform.sent["a"]), 1)
        self.assertEqual(platform.timeouts, {0.15 / 6})

    def test_an_odd_400_costs_no_lease_and_a_404_ends_it(self) -> None:
        """One from a gateway was taken for the platform's word: never extended again, the task ran twice."""
        answers = {"a": [Outcome(Verdict.REFUSED, status=400), APPLIED], "b": [Outcome(Verdict.REFUSED, status=404)]}
        platform = Platform(lambda task_id: answers[task_id].pop(0) if answers[task_id] else APPLIED)
        keeper = self.keeper(platform)
        with self.assertLogs("user_agent_sdk.worker.keeping.lease", "WARNING") as said:
            self.hold(keeper, held_for("b", 0.1), held_for("a", 0.1))
            platform.await_sent("a", 6)
        self.assertEqual(len(said.output), 2)
        self.assertEqual(len(platform.sent["b"]), 1)

    def test_a_failed_extension_is_sent_again_after_a_tenth_of_the_lease(self) -> None:
        contacts: list[int] = []
        answers = [Outcome(Verdict.LATER, "HTTP 503"), Outcome(Verdict.MAYBE, "lost"), APPLIED]
        platform = Platform(lambda task_id: answers.pop(0) if answers else APPLIED)
        keeper = self.keeper(platform, on_contact=lambda: contacts.append(1))
        self.hold(keeper, held_for("a", 0.6))
        platform.await_sent("a", 4)
        gaps = [b - a for a, b in zip(platform.sent["a"], platform.sent["a"][1:])]
        self.assertLess(gaps[0], 0.15)
        self.assertLess(gaps[1], 0.15)
        self.assertGreater(gaps[2], 0.19)
        self.assertEqual(contacts, [1])  # the first success wakes whoever waits out the outage

    def test_a_task_that_the_platform_does_not_know_is_left(self) -> None:
        platform = Platform(lambda task_id: Outcome(Verdict.REFUSED, "No such task found by id: a", status=404))
        keeper = self.keeper(platform)
        with self.assertLogs("user_agent_sdk.worker.keeping.lease", "WARNING"):
            self.hold(keeper, held_for("a", 0.03))
            platform.await_sent("a", 1)
            self.assertTrue(keeper._table.wait_empty(LONG_S))

    def test_it_is_quiet_again_when_no_extension_can_be_at_work_in_the_platform(self) -> None:
        """Whoever reports a result asks: an extension worked on at the same time may undo the report."""
        during: list[float] = []

        class Client:
            def extend(self, *_: object) -> Outcome:
                during.append(held.lease.quiet_at)
                return outcomes.pop(0)

        now = [100.0]
        keeper = LeaseKeeper(Client(), Pace(lambda: now[0]), wall=lambda: 1000.0)  # type: ignore[arg-type]
        outcomes, held = [Outcome(Verdict.MAYBE), APPLIED, Outcome(Verdict.LATER)], held_for()
        keeper._extend(held)
        self.assertEqual(held.lease.quiet_at, 110.0)
        now[0] = 101.0
        keeper._extend(held)
        self.assertEqual(held.lease.quiet_at, 110.0, "the one before may still be")
        now[0] = 120.0
        keeper._extend(held)
        self.assertEqual((held.lease.quiet_at, during), (120.0, [float("inf")] * 3))

    def test_of_a_task_that_was_put_back_the_next_run_knows_of_an_unanswered_extension(self) -> None:
        """The platform took six seconds for an extension: meanwhile the task was put back, came again under its id, and
        completed. The extension then brought it back to life, its lease ran out, and a retry ran the work once more:
        found by a simulation."""

        class Client:
            def extend(self, *_: object) -> Outcome:
                return Outcome(Verdict.MAYBE)

        now = [100.0]
        keeper = LeaseKeeper(Client(), Pace(lambda: now[0]), wall=lambda: 1000.0)  # type: ignore[arg-type]
        held = held_for("called again")
        keeper._extend(held)
        self.assertEqual(keeper.quiet_at("called again"), 0.0, "it was not put back")
        keeper.put_back(held)
        self.assertEqual((keeper.quiet_at("called again"), keeper.quiet_at("another")), (110.0, 0.0))
        held.lease.quiet_at = float("inf")
        self.assertEqual(keeper.quiet_at("called again"), 110.0, "the next run's report would be repeated for ever")
        held.lease.quiet_at = now[0] = 110.0
        keeper.watch()
        self.assertEqual(keeper._put_back, {}, "memory must not grow with the tasks that are called again")

    def test_a_platform_that_stalls_is_not_heaped_with_extensions_of_leases_that_are_over(self) -> None:
        """Conductor, just started on a busy machine, took 9 s for each. 111 for 8 tasks waited there by then, all of
        them given up here, and each could bring an ended attempt back to life."""
        now, held, outcomes = [100.0], held_for(lease_s=2.0), [Outcome(Verdict.MAYBE)] * 2 + [Outcome(Verdict.LATER)]
        client = Platform(lambda task_id: outcomes.pop(0))
        keeper = LeaseKeeper(client, Pace(lambda: now[0]))  # type: ignore[arg-type]
        held.lease.renewed(100.0, 100.0, time.time())
        self.assertEqual(keeper._extend(held), 0.2, "it may still be saved")
        now[0] = 102.0
        self.assertEqual(keeper._extend(held), 3.0)
        now[0] = 105.0
        self.assertEqual(keeper._extend(held), 0.2, "nobody works on that one")

    def test_no_extension_is_sent_beside_a_report_unless_that_takes_a_third_of_the_lease(self) -> None:
        """Conductor kept the extension's copy of the task, in progress, of the two that it worked on at once."""
        platform = Platform(lambda task_id: APPLIED)
        keeper = self.keeper(platform)
        held = held_for("a", 0.6)
        self.hold(keeper, held)
        platform.await_sent("a", 1)
        keeper.pause(held)
        began = time.monotonic()
        platform.await_sent("a", 2)  # the report hangs
        self.assertGreaterEqual(platform.sent["a"][1] - began, 0.19)
        self.assertFalse(held.lease.has_lapsed(keeper.clock(), keeper.wall()))

    def put_off(self, now: list[float]) -> tuple[LeaseKeeper, Held]:
        """A keeper by that clock, and a lease whose extension was put off beside a report."""
        keeper = LeaseKeeper(Platform(lambda task_id: APPLIED), Pace(lambda: now[0]))  # type: ignore[arg-type]
        held = held_for()
        self.hold(keeper, held)
        keeper.pause(held)
        self.assertEqual(keeper._extend(held), 10.0)
        return keeper, held

    def test_a_report_that_was_not_taken_holds_no_extension_back(self) -> None:
        keeper, held = self.put_off([100.0])
        keeper.resume(held)
        self.assertEqual(keeper._extend(held), 10.0)
        self.assertEqual(held.lease.renewed_at, 100.0)

    def test_a_report_that_was_not_taken_asks_for_no_extension_before_its_time(self) -> None:
        """The one that was put off was sent meanwhile: in an outage each report that hung brought one more."""
        now = [100.0]
        keeper, held = self.put_off(now)
        now[0] = 110.0
        keeper._table.put(held, keeper._extend(held) or 0.0)
        now[0] = 111.0
        keeper.resume(held)
        self.assertEqual(keeper._table.next_due(), 120.0)

    def test_a_report_that_fails_just_as_an_extension_is_put_off_holds_it_back_no_longer(self) -> None:
        now = [100.0]
        keeper = LeaseKeeper(Platform(lambda task_id: APPLIED), Pace(lambda: now[0]))  # type: ignore[arg-type]
        held = held_for()
        self.hold(keeper, held)
        now[0] = 110.0
        keeper.pause(held)

        def extend(held: Held) -> float | None:
            delay_s = keeper._extend(held)
            keeper.resume(held)
            return delay_s

        keeper._table._act = extend
        keeper._table._turn()
        self.assertEqual(keeper._table.next_due(), 110.0)

    def test_a_report_waits_for_an_extension_that_is_on_its_way_but_not_for_long(self) -> None:
        go, held = threading.Event(), held_for("a", 0.6)
        platform = Platform(lambda task_id: after(go, LONG_S))
        keeper = self.keeper(platform)
        self.addCleanup(go.set)
        self.hold(keeper, held)
        platform.await_sent("a", 1)
        began = time.monotonic()
        keeper.pause(held)
        self.assertGreaterEqual(time.monotonic() - began, 0.09)
        go.set()
        keeper.pause(held)
        assert held.lease.flight is not None
        self.assertTrue(held.lease.flight.is_set())

    def test_a_dropped_lease_is_not_extended_again(self) -> None:
        platform = Platform()
        keeper = self.keeper(platform)
        kept, dropped = held_for("kept", 0.03), held_for("dropped", 0.03)
        self.hold(keeper, kept, dropped)
        platform.await_sent("dropped", 1)
        keeper.drop(dropped)
        seen = len(platform.sent["dropped"])
        platform.await_sent("kept", len(platform.sent["kept"]) + 4)
        self.assertLessEqual(len(platform.sent["dropped"]), seen + 1)

    def test_one_that_lives_on_is_extended_in_its_time(self) -> None:
        platform = Platform()
        keeper = self.keeper(platform)
        self.hold(keeper, *(held_for(name, 1.6) for name in "ab"))
        began = time.monotonic()
        for name in "ab":
            platform.await_sent(name, 1)
            self.assertGreater(platform.sent[name][0] - began, 0.5)
            self.assertLess(platform.sent[name][0] - began, 1.4)

    def test_one_of_unknown_age_is_extended_at_once(self) -> None:
        platform = Platform()
        self.keeper(platform).track(held_for("adopted", 3600.0))
        platform.await_sent("adopted", 1)

    def stopped_clock(self, now: list[float]) -> tuple[LeaseKeeper, Platform]:
        platform = Platform()
        keeper = LeaseKeeper(platform, Pace(lambda: now[0]))  # type: ignore[arg-type]
        keeper._table._most = 0  # no thread comes
        return keeper, platform

    def test_one_that_the_platform_extends_has_its_turn_whatever_it_refuses_of_others(self) -> None:
        """The extensions of a few tasks of one broken workflow failed, each time. All leases then drew lots for one
        extension a second, and healthy ones were over before they had their turn."""
        now = [100.0]
        keeper, platform = self.stopped_clock(now)
        platform.answer = lambda task_id: APPLIED if task_id == "good" else Outcome(Verdict.LATER, "HTTP 500")
        others = [held_for(str(number)) for number in range(9)]
        for one in others[:8]:
            keeper._extend(one)
            now[0] += 1.0
        keeper._extend(others[0])
        self.assertGreater(keeper._extend(others[1]), 0.9, "it waits for its turn")
        keeper.pace.refused_at[EXTENSION] = now[0]
        self.assertEqual(keeper._extend(held_for("good")), 10.0)
        self.assertEqual((len(platform.sent["1"]), len(platform.sent["good"])), (1, 1))

    def test_all_are_extended_at_once_after_the_machine_has_slept(self) -> None:
        """Linux's monotonic clock stood still meanwhile: a lease that was not over yet waited out its third."""
        now, wall = [100.0], [1.7e9]
        keeper = LeaseKeeper(Platform(), Pace(lambda: now[0]), wall=lambda: wall[0])  # type: ignore[arg-type]
        keeper._table._most = 0  # no thread comes
        self.hold(keeper, held_for(lease_s=60.0))
        for awake_s, asleep_s, due in ((0.5, 0.0, 120.0), (0.5, 0.9, 120.0), (0.5, 44.0, 101.5), (0.5, -44.0, 101.5)):
            now[0] += awake_s
            wall[0] += awake_s + asleep_s
            keeper.watch()
            self.assertEqual(keeper._table.next_due(), due)

    def test_copies_of_two_tasks_or_of_one_between_extensions_stop_none(self) -> None:
        """The second copy in the life of a process was the end of all extensions: its leases lapsed until a restart."""
        now = [100.0]
        keeper, platform = self.stopped_clock(now)
        tasks = [held_for(name) for name in "abc"]
        for one in tasks:
            keeper._extend(one)
            keeper.copy_came(one)
        keeper.copy_came(tasks[0])  # without an extension in between: the queue gave it twice
        for _ in range(2):
            keeper._extend(tasks[0])
        keeper.copy_came(tasks[0])  # the extension before went well
        self.assertGreater(keeper._extend(tasks[0]), 0)
        self.assertEqual(len(platform.sent["a"]), 4)

    def test_a_copy_after_each_of_two_extensions_stops_them_for_a_minute_then_for_two(self) -> None:
        """A platform that does not know extendLease puts the task back at each one; another worker may run it."""
        now = [100.0]
        keeper, platform = self.stopped_clock(now)
        one, other = held_for("a"), held_for("b")
        with self.assertLogs("user_agent_sdk.worker.keeping.lease", "WARNING") as said:
            for _ in range(2):
                keeper._extend(one)
                keeper.copy_came(one)
            self.assertEqual(keeper._extend(other), 60.0)
            now[0] += 60.0
            keeper._extend(one)
            keeper.copy_came(one)
            self.assertEqual(keeper._extend(other), 120.0)
            now[0] += 1000.0
            self.assertEqual(keeper._extend(other), 10.0, "it is sent again")
            for _ in range(2):
                keeper._extend(one)
                keeper.copy_came(one)
            self.assertEqual(keeper._extend(other), 60.0)
        self.assertEqual((len(said.output), len(platform.sent["b"])), (3, 1))

    def test_while_no_extension_is_sent_none_is_behind_and_tasks_are_taken(self) -> None:
        """Leases were behind since the computer had slept, when a second copy of a task turned all extensions off. For
        as long as they were off, an hour at worst, the worker took no task: it went on to believe that they were."""
        now = [100.0]
        keeper, _ = self.stopped_clock(now)
        held = held_for("a", 10.0)
        self.hold(keeper, held)
        keeper._extend(held)
        keeper.copy_came(held)
        now[0] += 9.0
        with self.assertLogs("user_agent_sdk.worker.keeping.lease", "WARNING") as said:
            keeper.watch()
            self.assertTrue(keeper.is_behind)
            keeper._extend(held)
            keeper.copy_came(held)
            keeper.watch()
        self.assertFalse(keeper.is_behind)
        self.assertEqual([record.action for record in said.records], ["leases_behind", "lease"])

    def test_a_wall_clock_that_jumps_a_day_either_way_changes_no_plan(self) -> None:
        jump_s = [0.0]
        platform = Platform()
        keeper = self.keeper(platform, wall=lambda: time.time() + jump_s[0])
        held = held_for("a", 0.3)
        self.hold(keeper, held)
        for jump in (DAY_S, -DAY_S, 0.0):
            sent = len(platform.sent.get("a", ()))
            jump_s[0] = jump
            platform.await_sent("a", sent + 2)
            gaps = [b - a for a, b in zip(platform.sent["a"][sent:], platform.sent["a"][sent + 1 :])]
            self.assertTrue(all(0.09 < gap < 0.25 for gap in gaps), gaps)
        self.assertLess(held.lease.until - time.monotonic(), 0.31)


if __name__ == "__main__":
    unittest.main()

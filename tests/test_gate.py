# SPDX-License-Identifier: Apache-2.0
"""Slots that wait for their turn to poll: no lost wake-up, the last task exact, a poll never cut short."""

from __future__ import annotations

import logging
import random
import threading
import time
import unittest
from types import SimpleNamespace
from typing import Any, Callable
from unittest import mock

from user_agent_sdk.conductor.client import PollError
from user_agent_sdk.conductor.wire import LONG_POLL_MAX_MS, Task
from user_agent_sdk.worker.polling.gate import Budget, Gate, Sent
from user_agent_sdk.worker.polling.intake import TURNS, Intake, Poll
from user_agent_sdk.worker.watched import Counts

LONG_S = 20.0


def tasks(count: int = 1) -> list[Task]:
    return [Task({"taskId": f"t{number}", "workflowInstanceId": "w"}) for number in range(count)]


def turns(gate: Gate, turn_s: float) -> None:
    """As many as tell how long they are."""
    for number in range(TURNS + 1):
        gate.intake.goes_on(1.0 + number, turn_s)


def wake_all(gates: list[Gate]) -> None:
    for gate in gates:
        gate.wake()


class Platform:
    """A client whose polls are answered by a function."""

    def __init__(self, answer: Callable[[], list[Task]], can_wait: bool = False) -> None:
        self.answer, self.can_wait = answer, can_wait
        self.waits: list[int] = []
        self.age_s = 0.0

    def send_poll(self, agent_id: str, worker_id: str, domain: str | None, wait_ms: int) -> SimpleNamespace:
        self.waits.append(wait_ms)
        return SimpleNamespace(fetch=self.answer, age_s=self.age_s)


class GateTest(unittest.TestCase):
    def setUp(self) -> None:
        self.stopping = threading.Event()
        self.contacts: list[int] = []

    def gate(self, platform: Any, workers: int = 8, budget: Budget | None = None, interval_s: float = 0.01) -> Gate:
        intake = Intake(workers, interval_s, random.Random(5).random)
        budget = budget or Budget(None)
        return Gate(platform, "a", "w", None, intake, self.stopping, budget, lambda: self.contacts.append(1), Counts())

    def slots(self, gate: Gate, count: int, work: Callable[[list[Task]], None]) -> list[threading.Thread]:
        def run() -> None:
            sent = None
            while True:
                try:
                    taken = gate.take() if sent is None else gate.fetch(sent)
                except ZeroDivisionError:
                    sent = None
                    continue
                if taken is None:
                    return
                work(taken[0])
                poll = gate.go_on(taken[1]) if taken[0] else None
                sent = gate.send(poll) if poll is not None else None

        threads = [threading.Thread(target=run, daemon=True) for _ in range(count)]
        for thread in threads:
            thread.start()
        return threads

    def assert_idle(self, gate: Gate) -> None:
        self.assertEqual((gate.intake.polling, gate.intake.riding), (0, 0))

    def join(self, threads: list[threading.Thread]) -> None:
        for thread in threads:
            thread.join(LONG_S)
            self.assertFalse(thread.is_alive(), "a slot waits for ever")

    def test_no_slot_waits_for_ever_whatever_polls_bring(self) -> None:
        for seed in range(3):
            with self.subTest(seed=seed):
                self.stopping = threading.Event()
                rand = random.Random(seed)
                hits = threading.Semaphore(0)

                def answer(rand: random.Random = rand) -> list[Task]:
                    dice = rand.random()
                    if dice < 0.1:
                        raise PollError("no", retry_after_s=0.0)
                    if dice < 0.12:
                        raise ZeroDivisionError
                    return tasks() if dice < 0.9 else []

                def work(found: list[Task], hits: threading.Semaphore = hits) -> None:
                    if found:
                        hits.release()

                gate = self.gate(Platform(answer))
                gate.intake._backoff._rand = lambda: 0.001  # failures cost 30 ms at most
                with self.assertLogs("user_agent_sdk.worker.polling.gate", "INFO"):
                    threads = self.slots(gate, 8, work)
                    for _ in range(150):
                        self.assertTrue(hits.acquire(timeout=LONG_S), "polling stopped")
                    self.stopping.set()
                    gate.wake()
                    self.join(threads)
                self.assert_idle(gate)

    def test_a_running_function_keeps_no_other_slot_from_polling_however_short_turns_were(self) -> None:
        for turn_s in (1.0, 0.0):
            with self.subTest(turn_s=turn_s):
                self.stopping = threading.Event()
                working, go = threading.Semaphore(0), threading.Event()
                platform = Platform(tasks)
                gate = self.gate(platform, workers=6)
                turns(gate, turn_s)

                def work(found: list[Task], working: threading.Semaphore = working, go: threading.Event = go) -> None:
                    working.release()
                    go.wait(LONG_S)

                threads = self.slots(gate, 6, work)
                for _ in range(6):
                    self.assertTrue(working.acquire(timeout=LONG_S))
                self.assertEqual(len(platform.waits), 6)
                self.stopping.set()
                go.set()
                self.join(threads)

    def test_a_poll_beside_a_report_is_not_kept_by_the_server(self) -> None:
        """Its slot reads the report's reply first, and has a result to deliver: five seconds in the server would be
        taken from the lease of the task that the poll brings."""
        platform = Platform(tasks)
        platform.can_wait = True
        gate = self.gate(platform)
        gate.polled_at = 0.0  # no first poll any more, which is a plain one
        self.assertIsNotNone(gate.take())
        poll = gate.go_on(0.0)
        assert poll is not None
        self.assertTrue(poll.rides)
        self.assertFalse(poll.lead)
        gate.fetch(gate.send(poll))
        self.assertEqual(platform.waits, [LONG_POLL_MAX_MS, 0])

    def test_a_report_that_hangs_keeps_no_other_slot_from_polling(self) -> None:
        """The poll that was a part of it counted as the agent's one: the other slots asked for nothing for 30 s."""
        asked = threading.Semaphore(0)

        def answer() -> list[Task]:
            asked.release()
            return []

        gate = self.gate(Platform(answer))
        gate.intake.begin(0.0)
        gate.intake.hit(0.0)
        self.assertIsNotNone(gate.go_on(0.0))
        threads = self.slots(gate, 3, lambda found: None)
        for _ in range(4):
            self.assertTrue(asked.acquire(timeout=LONG_S))
        gate.chained(0)
        self.stopping.set()
        gate.wake()
        self.join(threads)
        self.assert_idle(gate)

    def test_a_slot_that_goes_on_wakes_nobody_where_turns_are_short(self) -> None:
        """What it costs is not the poll but the hand-over: with each hit all others were woken, to look."""
        platform = Platform(tasks)
        gate = self.gate(platform)
        patience = mock.patch("user_agent_sdk.worker.polling.intake.SILENT_S", 60.0)
        patience.start()
        self.addCleanup(patience.stop)
        turns(gate, 0.0)
        self.assertIsNotNone(gate.take())
        looked: list[float | None] = []
        real = gate.intake.wait_s
        gate.intake.wait_s = lambda now: looked.append(now) or real(now)  # type: ignore[method-assign,func-returns-value]
        threads = self.slots(gate, 7, lambda found: None)
        for _ in range(2000):
            poll = gate.go_on(time.monotonic())
            assert poll is not None
            self.assertEqual(len(gate.fetch(gate.send(poll))[0]), 1)
        self.assertGreaterEqual(len(platform.waits), 2001)
        self.assertLess(len(looked), 500)
        self.stopping.set()
        gate.wake()
        self.join(threads)
        self.assert_idle(gate)

    def test_a_waiting_slot_looks_soon_when_a_reply_brings_a_task(self) -> None:
        """All of them once slept on to the end of the pause that the poll before had set."""
        came = threading.Semaphore(0)
        answers = [[], tasks(), tasks()]
        gate = self.gate(Platform(lambda: answers.pop(0) if answers else []), interval_s=3600.0)
        gate.intake._pause_s = 3600.0
        gate.take()
        threads = self.slots(gate, 2, lambda found: came.release() if found else None)
        gate.intake.next_at = 0.0
        poll = gate.go_on(0.0)
        assert poll is not None
        gate.fetch(gate.send(poll))
        self.assertTrue(came.acquire(timeout=LONG_S))
        self.stopping.set()
        gate.wake()
        self.join(threads)

    def test_the_budget_is_exact_over_several_agents(self) -> None:
        for seed in range(3):
            with self.subTest(seed=seed):
                rand = random.Random(seed)
                gates: list[Gate] = []
                budget = Budget(37, lambda gates=gates: wake_all(gates))  # type: ignore[misc]
                taken: list[Task] = []

                def answer(rand: random.Random = rand) -> list[Task]:
                    return tasks() if rand.random() < 0.5 else []

                for _ in range(3):
                    gates.append(self.gate(Platform(answer), workers=4, budget=budget, interval_s=60.0))
                    gates[-1].intake._interval_s = 0.005
                threads = [thread for gate in gates for thread in self.slots(gate, 4, taken.extend)]
                self.join(threads)
                self.assertEqual(len(taken), 37)

    def test_slots_of_an_idle_agent_leave_when_another_agent_took_the_last_task(self) -> None:
        """They once slept on to the end of their poll interval, which may be an hour."""
        gates: list[Gate] = []
        budget = Budget(1, lambda: wake_all(gates))
        polled, go = threading.Event(), threading.Event()

        def nothing() -> list[Task]:
            polled.set()
            return []

        gates.append(self.gate(Platform(nothing), budget=budget, interval_s=3600.0))
        gates[0].intake._pause_s = 3600.0
        idle = self.slots(gates[0], 4, lambda found: None)
        self.assertTrue(polled.wait(LONG_S))
        gates.append(self.gate(Platform(tasks), budget=budget))
        busy = self.slots(gates[1], 4, lambda found: None)
        go.set()
        self.join(idle + busy)

    def test_a_slot_at_its_report_stands_before_no_agent_that_asks(self) -> None:
        """It was put into the queue for the last task, its report hung, and the other agent, whose task was there, had
        to wait for that."""
        budget = Budget(1, is_shared=True)
        reporting, asking = (self.gate(Platform(tasks), budget=budget) for _ in range(2))
        reporting.intake.begin(0.0)
        reporting.intake.hit(0.0)
        self.assertTrue(budget.reserve(asking))
        self.assertIsNone(reporting.go_on(0.0))
        budget.settle(0)
        self.assertTrue(budget.reserve(asking))
        third = object()
        self.assertFalse(budget.reserve(third))
        budget.settle(0)
        self.assertIsNone(reporting.go_on(0.0), "the one that waits comes first")
        self.assertTrue(budget.reserve(third))

    def test_a_reservation_for_a_report_that_brought_nothing_is_given_back(self) -> None:
        budget = Budget(2)
        gate = self.gate(Platform(tasks), budget=budget)
        gate.intake._changes_at = float("inf")  # somebody waits in each turn: slots stand in nobody's way
        for _ in range(2):
            gate.intake.begin(0.0)
            gate.intake.hit(0.0)
        self.assertIsNotNone(gate.go_on(0.0))
        self.assertIsNotNone(gate.go_on(0.0))
        self.assertIsNone(gate.go_on(0.0))
        gate.chained(1)
        gate.chained(0)
        self.assertIsNotNone(gate.go_on(0.0))
        gate.chained(1)
        self.assertTrue(budget.is_spent)
        self.assertIsNone(gate.go_on(0.0))
        self.assert_idle(gate)

    def test_a_task_that_comes_with_a_reports_reply_is_a_contact_and_the_end_of_an_outage(self) -> None:
        """A worker that took each task in the reply to a report, for hours, seemed to have had no contact for hours: an
        alert fired, one failed poll made it not ready, and the log spoke of an outage that had lasted all the time."""
        gate = self.gate(Platform(tasks))
        poll = gate.intake.begin(0.0)
        with self.assertLogs("user_agent_sdk.worker.polling.gate", "INFO") as logged:
            gate._failed(poll, PollError("HTTP 503"))
            gate.intake.next_at = 0.0
            self.assertIsNotNone(gate.go_on(0.0))
            gate.chained(1)
        self.assertEqual([record.action for record in logged.records], ["outage_started", "outage_over"])
        self.assertIsNotNone(gate.polled_at)

    def test_while_draining_nothing_is_asked_for(self) -> None:
        platform = Platform(tasks)
        gate = self.gate(platform)
        self.stopping.set()
        self.assertIsNone(gate.go_on(0.0))
        self.assertIsNone(gate.take())
        self.assertEqual(platform.waits, [])

    def test_a_stop_awaits_the_open_poll_and_returns_its_task(self) -> None:
        opened, go = threading.Event(), threading.Event()

        def answer() -> list[Task]:
            opened.set()
            go.wait(LONG_S)
            return tasks()

        gate = self.gate(Platform(answer))
        found: list[Task] = []
        threads = self.slots(gate, 3, found.extend)
        self.assertTrue(opened.wait(LONG_S))
        self.stopping.set()
        gate.wake()
        go.set()
        self.join(threads)
        self.assertEqual(len(found), 1)

    def test_one_idle_slot_waits_in_the_server_and_the_lease_counts_from_its_reply(self) -> None:
        clock = [100.0]

        def answer() -> list[Task]:
            clock[0] += 4.0
            return tasks()

        platform = Platform(answer, can_wait=True)
        platform.age_s = 1.0
        gate = self.gate(platform)
        gate._clock = lambda: clock[0]
        gate.take()  # the first is a plain one: its answer, at once, shows that the platform is there
        taken = gate.take()
        assert taken is not None
        self.assertEqual(platform.waits, [0, LONG_POLL_MAX_MS])
        self.assertEqual(taken[1], 107.0)
        platform.can_wait, platform.age_s = False, 4.0
        taken = gate.take()
        assert taken is not None
        self.assertEqual(taken[1], 108.0)  # as when nobody has looked since it was sent

    def test_a_poll_beside_a_report_never_waits_in_the_server(self) -> None:
        """The slot reads its report's reply first: the poll's reply, and the task in it, would wait for 5 s unread."""
        platform = Platform(tasks, can_wait=True)
        gate = self.gate(platform)
        for _ in range(2):  # the first poll asks whether anybody answers
            gate.take()
        poll = gate.go_on(0.0)
        assert poll is not None
        self.assertTrue(poll.rides)
        gate.fetch(gate.send(poll))
        self.assertEqual(platform.waits, [0, LONG_POLL_MAX_MS, 0])

    def test_while_the_worker_is_held_up_nothing_is_asked_for(self) -> None:
        held_up = [0.01, 0.01, 0.0]
        platform = Platform(tasks)
        gate = self.gate(platform)
        gate._held_up_s = lambda: held_up[0] if len(held_up) == 1 else held_up.pop(0)
        self.assertIsNone(gate.go_on(0.0))
        self.assertIsNotNone(gate.take())
        self.assertEqual((len(platform.waits), held_up), (1, [0.0]))

    def test_a_poll_that_waits_in_the_server_is_joined_by_one_other_where_tasks_are_not_counted(self) -> None:
        """An agent that asked for one of the last tasks for a second poll, too, kept another agent from it."""
        for budget, polls in ((Budget(None), 2), (Budget(5), 1)):
            with self.subTest(polls=polls):
                self.stopping = threading.Event()
                opened, go = threading.Semaphore(0), threading.Event()

                def answer(opened: threading.Semaphore = opened, go: threading.Event = go) -> list[Task]:
                    opened.release()
                    go.wait(LONG_S)
                    return []

                platform = Platform(answer, can_wait=True)
                gate = self.gate(platform, budget=budget)
                gate.intake._hit_at = float("inf")  # a task came just now
                gate.polled_at, gate._sight.is_clear = 0.0, True
                threads = self.slots(gate, 4, lambda found: None)
                for _ in range(polls):
                    self.assertTrue(opened.acquire(timeout=LONG_S))
                self.assertFalse(opened.acquire(timeout=0.1))
                self.assertEqual(platform.waits, [LONG_POLL_MAX_MS] * polls)
                self.stopping.set()
                gate.wake()
                go.set()
                self.join(threads)

    def test_a_slot_that_waits_already_joins_the_first_poll_that_is_kept(self) -> None:
        """It looks when that poll's turn begins, a moment before the poll is known to be one that is kept."""
        opened, go = threading.Semaphore(0), threading.Event()

        def answer() -> list[Task]:
            opened.release()
            if gate.polled_at is not None:  # the first poll is a plain one
                go.wait(2 * LONG_S)
            return []

        platform = Platform(answer, can_wait=True)
        gate = self.gate(platform)
        gate.intake._hit_at, gate._sight.is_clear = float("inf"), True
        send = gate.send

        def send_when_the_other_has_looked(poll: Poll) -> Sent:
            with gate._lock:
                while len(platform.waits) < 2 and not gate._changed._waiters:  # type: ignore[attr-defined]
                    gate._changed.wait(0.01)
            return send(poll)

        gate.send = send_when_the_other_has_looked  # type: ignore[method-assign]
        threads = self.slots(gate, 2, lambda found: None)
        for _ in range(3):
            self.assertTrue(opened.acquire(timeout=LONG_S))
        self.assertEqual(platform.waits, [0, LONG_POLL_MAX_MS, LONG_POLL_MAX_MS])
        self.stopping.set()
        gate.wake()
        go.set()
        self.join(threads)

    def test_until_a_task_has_come_to_a_poll_that_was_kept_the_second_slot_asks_plainly(self) -> None:
        """Conductor 3.13 sits a kept poll out. Between a worker's first task and its first report, which shows that
        server, two slots had one kept each: 28 tasks lay there for 5 s, and ten seconds' work took 15.2."""
        go, asked = threading.Event(), threading.Semaphore(0)

        def answer() -> list[Task]:
            if platform.waits[-1]:
                go.wait(2 * LONG_S)
            asked.release()
            return []

        platform = Platform(answer, can_wait=True)
        gate = self.gate(platform)
        gate.intake._hit_at, gate.polled_at = float("inf"), 0.0
        threads = self.slots(gate, 3, lambda found: None)
        for _ in range(2):
            self.assertTrue(asked.acquire(timeout=LONG_S))
        self.assertEqual((platform.waits[:3], sum(map(bool, platform.waits))), ([LONG_POLL_MAX_MS, 0, 0], 1))
        self.stopping.set()
        gate.wake()
        go.set()
        self.join(threads)

    def test_failures_are_said_once_and_the_end_wakes_the_others(self) -> None:
        answers: list[Any] = [PollError("HTTP 503"), PollError("HTTP 503"), []]

        def answer() -> list[Task]:
            said = answers.pop(0)
            if isinstance(said, Exception):
                raise said
            return list(said)

        gate = self.gate(Platform(answer))
        gate.intake._backoff._rand = lambda: 0.0
        with self.assertLogs("user_agent_sdk.worker.polling.gate", "INFO") as logged:
            for _ in range(3):
                gate.take()
        self.assertEqual([record.action for record in logged.records], ["outage_started", "outage_over"])
        self.assertEqual(self.contacts, [1])
        self.assertIsNotNone(gate.polled_at)

    def test_a_console_that_stands_still_holds_up_nobody_who_wakes_the_gate(self) -> None:
        """Somebody pressed Ctrl+S in the terminal. The slot whose poll failed stood still in its log line, with the
        gate's lock; the lease keeper, whose extension had just been taken, waited for that, and its lease was over."""
        came, go = threading.Event(), threading.Event()
        self.addCleanup(go.set)

        class Console(logging.Handler):
            def emit(self, record: logging.LogRecord) -> None:
                came.set()
                go.wait(LONG_S)

        def answer() -> list[Task]:
            raise PollError("HTTP 503")

        logger, console = logging.getLogger("user_agent_sdk.worker.polling.gate"), Console()
        logger.addHandler(console)
        self.addCleanup(logger.removeHandler, console)
        gate = self.gate(Platform(answer))
        slot = threading.Thread(target=gate.take, daemon=True)
        slot.start()
        self.assertTrue(came.wait(LONG_S))
        waking = threading.Thread(target=gate.wake, daemon=True)
        waking.start()
        waking.join(LONG_S / 4)
        self.assertFalse(waking.is_alive())
        go.set()
        self.join([slot])

    def test_after_a_wait_that_broke_off_somebody_looks_at_the_clock_again(self) -> None:
        """Memory was short for a moment, or a script's time limit raised in the wrong thread. The slot went on, and
        took for granted that another one would look: its agent polled no more."""
        gate = self.gate(Platform(tasks))
        gate.intake.next_at = time.monotonic() + 0.5
        with mock.patch.object(gate._changed, "wait", side_effect=MemoryError), self.assertRaises(MemoryError):
            gate.take()
        gate.intake.next_at += 0.05
        self.join(self.slots(gate, 1, lambda taken: self.stopping.set()))

    def test_while_polls_fail_one_slot_probes(self) -> None:
        def answer() -> list[Task]:
            raise PollError("no")

        gate = self.gate(Platform(answer), workers=8)
        for _ in range(4):
            gate.intake.begin(0.0)
            gate.intake.hit(0.0)  # it was at full width
        with self.assertLogs("user_agent_sdk.worker.polling.gate", "WARNING"):
            gate.take()
        self.assertTrue(gate.intake.is_failing)
        gate.intake.begin(0.0)
        self.assertIsNone(gate.intake.wait_s(0.0))
        self.assertIsNone(gate.go_on(0.0))

    def test_a_poll_that_can_not_even_be_sent_counts_as_one_that_failed(self) -> None:
        platform = Platform(tasks)
        for error in (PollError("no token"), ZeroDivisionError()):
            budget = Budget(1)
            gate = self.gate(platform, budget=budget)

            def send_poll(*ids: Any, error: Exception = error) -> Any:
                raise error

            platform.send_poll = send_poll  # type: ignore[method-assign]
            with self.subTest(error=error), self.assertLogs("user_agent_sdk.worker.polling.gate", "WARNING"):
                poll = gate.go_on(0.0)
                assert poll is not None
                self.assertRaises(type(error), gate.send, poll)
                self.assertTrue(gate.intake.is_failing)
                self.assert_idle(gate)
                self.assertTrue(budget.reserve(self))

    def test_a_server_that_misses_what_comes_while_it_keeps_a_poll_is_not_asked_to_keep_one(self) -> None:
        """Conductor on Redis: each task that came to an idle worker was picked up to 5 s late."""
        clock = [100.0]
        came: list[list[Task]] = []

        def answer() -> list[Task]:
            clock[0] += 0.0 if came and came[0] else 5.0
            return came.pop(0) if came else []

        platform = Platform(answer, can_wait=True)
        gate = self.gate(platform, interval_s=0.01)
        gate._clock = lambda: clock[0]
        gate.polled_at = 0.0  # no first poll any more, which is a plain one
        missed = [Task({"taskId": "t", "workflowInstanceId": "w", "scheduledTime": 1000, "startTime": 5000})]
        came[:] = [[], missed, [], missed]
        with self.assertLogs("user_agent_sdk.worker.polling.gate", "INFO") as said:
            for _ in range(4):
                gate.take()
        self.assertIn("looks at its queue only when a poll comes", said.output[0])
        self.assertFalse(platform.can_wait)
        gate.take()
        self.assertEqual(platform.waits, [LONG_POLL_MAX_MS] * 4 + [0])


if __name__ == "__main__":
    unittest.main()

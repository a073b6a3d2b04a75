# SPDX-License-Identifier: Apache-2.0
"""Things due at times, acted on by a few threads."""

from __future__ import annotations

import queue
import random
import threading
import time
import unittest
from typing import Callable
from unittest import mock

from user_agent_sdk.worker.keeping.timetable import Timetable

from .workerbox import hasten

LONG_S = 20.0


class TimetableTest(unittest.TestCase):
    def table(self, act: Callable[[str], float | None], threads: int = 4) -> Timetable[str]:
        table: Timetable[str] = Timetable("test", act, threads)
        table.start()
        self.addCleanup(table.join, LONG_S)
        self.addCleanup(table.close)
        return table

    def test_every_item_is_acted_on_though_many_threads_put_at_once(self) -> None:
        done: list[str] = []
        table = self.table(lambda item: done.append(item))

        def put(seed: int) -> None:
            rand = random.Random(seed)
            for number in range(200):
                table.put(f"{seed}.{number}", rand.random() * 0.05)

        putters = [threading.Thread(target=put, args=(seed,)) for seed in range(6)]
        for thread in putters:
            thread.start()
        for thread in putters:
            thread.join()
        self.assertTrue(table.wait_empty(LONG_S))
        self.assertEqual(len(done), 1200)
        self.assertEqual(len(set(done)), 1200)

    def test_what_is_being_acted_on_is_not_hurried_into_a_second_time(self) -> None:
        """A result that was being sent when another got through would be sent twice."""
        started, go, acts = threading.Event(), threading.Event(), []

        def act(item: str) -> None:
            acts.append(item)
            started.set()
            go.wait(LONG_S)

        table = self.table(act)
        table.put("a", 0.0)
        self.assertTrue(started.wait(LONG_S))
        table.put("later", 3600.0)
        table.hurry("a")
        table.hurry("unknown")
        self.assertEqual(len(acts), 1)
        table.hurry()
        go.set()
        self.assertTrue(table.wait_empty(LONG_S))
        self.assertEqual(sorted(acts), ["a", "later"])

    def test_threads_come_while_items_are_overdue_and_go_when_there_is_nothing_to_do(self) -> None:
        hasten(self, timetable_OVERDUE_S=0.01, timetable_IDLE_S=0.05)
        arrived, go = threading.Semaphore(0), threading.Event()

        def act(item: str) -> None:
            arrived.release()
            go.wait(LONG_S)

        table: Timetable[str] = Timetable("test", act, 2, most=9)
        table.start()
        self.addCleanup(table.join, LONG_S)
        self.addCleanup(table.close)
        self.addCleanup(go.set)
        for number in range(20):
            table.put(str(number), -1.0)
        for _ in range(2):
            self.assertTrue(arrived.acquire(timeout=LONG_S))
        table.watch()  # all are at work
        for _ in range(7):
            self.assertTrue(arrived.acquire(timeout=LONG_S))
        self.assertEqual(len(table._threads), 9)
        helpers = table._threads[2:]
        go.set()
        self.assertTrue(table.wait_empty(LONG_S))
        for thread in helpers:
            thread.join(LONG_S)
        self.assertEqual(len(table._threads), 2)

    def test_a_helping_thread_that_leaves_hands_its_watch_over(self) -> None:
        """It was the one that was woken for the next item, and left before that was due: all others slept on, and a
        lease of two minutes was not extended."""
        acts: queue.SimpleQueue[str] = queue.SimpleQueue()
        table: Timetable[str] = Timetable("test", acts.put, 1)
        asleep, real = threading.Semaphore(0), table._changed.wait

        def wait(timeout: float | None = None) -> bool:
            asleep.release()
            return real(timeout)

        table._changed.wait = wait  # type: ignore[method-assign]
        helper = threading.Thread(target=table._take, args=(0.1,))
        helper.start()
        self.assertTrue(asleep.acquire(timeout=LONG_S))  # it waits first, so it is woken first
        table.start()
        self.addCleanup(table.join, LONG_S)
        self.addCleanup(table.close)
        self.assertTrue(asleep.acquire(timeout=LONG_S))
        table.put("a", 0.2)
        helper.join(LONG_S)
        self.assertEqual(acts.get(timeout=LONG_S), "a")

    def test_where_no_thread_can_be_started_those_that_are_there_do_it_all(self) -> None:
        hasten(self, timetable_OVERDUE_S=0.0)
        table = Timetable("test", lambda item: None, 1, most=9)
        table.start()
        self.addCleanup(table.join, LONG_S)
        self.addCleanup(table.close)
        none_left = mock.patch.object(threading.Thread, "start", side_effect=RuntimeError("can't start new thread"))
        with none_left, self.assertLogs("user_agent_sdk.worker.keeping.timetable", "WARNING") as said:
            for number in range(20):
                table.put(str(number), -1.0)
            self.assertTrue(table.wait_empty(LONG_S))
        self.assertEqual(len(said.output), 1)

    def test_a_thread_that_wakes_late_says_by_how_much_and_what_the_process_used(self) -> None:
        now, told = [100.0], []
        table: Timetable[str] = Timetable(
            "test", lambda item: None, 1, lambda: now[0], on_overslept=lambda *seconds: told.append(seconds)
        )
        table.put("a", 0.01)
        real = table._changed.wait

        def overslept(timeout: float | None = None) -> bool:
            now[0] += 5.0
            return real(0.001)

        table._changed.wait = overslept  # type: ignore[method-assign]
        self.assertTrue(table._turn())
        [(late_s, used_s)] = told
        self.assertAlmostEqual(late_s, 4.99)
        self.assertLess(used_s, 1.0)

    def test_whoever_waits_past_its_time_is_woken_by_the_upkeep(self) -> None:
        """Windows counts no sleep of the machine in a wait, though its clock runs on: the thread waited out the rest,
        and leases that were not over yet were by then."""
        now, waits, done = [100.0], threading.Event(), threading.Event()
        table: Timetable[str] = Timetable("test", lambda item: done.set(), 1, lambda: now[0])
        real = table._changed.wait

        def wait(timeout: float | None = None) -> bool:
            waits.set()  # with the lock, which the upkeep needs
            return real(timeout)

        table._changed.wait = wait  # type: ignore[method-assign]
        table.put("a", 3600.0)
        table.start()
        self.addCleanup(table.join, LONG_S)
        self.addCleanup(table.close)
        self.assertTrue(waits.wait(LONG_S))
        now[0] += 3601.0
        looks = iter(range(500))
        while not done.wait(0.01) and next(looks, None) is not None:
            table.watch()
        self.assertTrue(done.is_set())

    def test_a_wait_that_breaks_off_leaves_nobody_counted_as_idle(self) -> None:
        """Then no further thread came ever after, however late the items were."""
        table: Timetable[str] = Timetable("test", lambda item: None, 1, most=2)
        with mock.patch.object(table._changed, "wait", side_effect=MemoryError), self.assertRaises(MemoryError):
            table._turn()
        self.assertEqual(table._idle, 0)

    def test_an_item_is_never_acted_on_by_two_threads_at_once(self) -> None:
        """Whatever hurry(), put() and drop() do meanwhile: a result sent twice at once would be reported
        twice. put() of an item that was being acted on once made a second thread take it."""
        busy: set[str] = set()
        twice: list[str] = []
        acts = threading.Semaphore(0)
        guard = threading.Lock()
        rand = random.Random(3)

        def act(item: str) -> float | None:
            with guard:
                if item in busy:
                    twice.append(item)
                busy.add(item)
                pause_s = rand.random() * 0.0005
            threading.Event().wait(pause_s)
            with guard:
                busy.discard(item)
            acts.release()
            return rand.choice((0.0, 0.001, 60.0))

        table = self.table(act)
        items = [str(number) for number in range(6)]
        for item in items:
            table.put(item, 0.0)
        over = threading.Event()

        def disturb(seed: int) -> None:
            mine = random.Random(seed)
            while not over.is_set():
                kind, item = mine.randrange(8), mine.choice(items)
                if kind == 0:
                    table.drop(item)
                elif kind < 4:
                    table.put(item, mine.random() * 0.001)
                else:
                    table.hurry()
                over.wait(0.0002)

        disturbers = [threading.Thread(target=disturb, args=(seed,)) for seed in range(3)]
        for thread in disturbers:
            thread.start()
        for _ in range(1200):
            self.assertTrue(acts.acquire(timeout=LONG_S), "a wake-up was lost")
        over.set()
        for thread in disturbers:
            thread.join()
        self.assertEqual(twice, [])

    def test_an_item_comes_again_after_the_seconds_that_act_returns(self) -> None:
        times: list[float] = []
        table = self.table(lambda item: times.append(time.monotonic()) or (0.02 if len(times) < 4 else None))
        table.put("a", 0.0)
        self.assertTrue(table.wait_empty(LONG_S))
        self.assertEqual(len(times), 4)
        step_s = time.get_clock_info("monotonic").resolution  # 16 ms on Windows
        self.assertGreaterEqual(min(b - a for a, b in zip(times, times[1:])), 0.02 - step_s)

    def test_the_sooner_goes_first(self) -> None:
        done: list[str] = []
        table: Timetable[str] = Timetable("test", lambda item: done.append(item), 1)
        for key, delay_s in (("late", 0.03), ("soon", 0.01), ("now", 0.0)):
            table.put(key, delay_s)
        table.start()
        table.wait_empty(LONG_S)
        table.close()
        table.join(LONG_S)
        self.assertEqual(done, ["now", "soon", "late"])

    def test_what_raises_is_said_tried_again_and_stops_no_thread(self) -> None:
        for error in (ValueError("no"), SystemExit(3), KeyboardInterrupt()):
            with self.subTest(error=error), self.assertLogs("user_agent_sdk.worker.keeping", "CRITICAL") as said:
                acted = threading.Semaphore(0)

                def act(item: str, error: BaseException = error, acted: threading.Semaphore = acted) -> None:
                    acted.release()
                    if item == "bad":
                        raise error

                table = self.table(act, threads=1)
                table.put("bad", 0.0)
                self.assertTrue(acted.acquire(timeout=LONG_S))
                table.put("good", 0.0)
                self.assertTrue(acted.acquire(timeout=LONG_S))
                self.assertEqual(len(table), 1)  # the bad one is due again in a second
                table.hurry()
                self.assertTrue(acted.acquire(timeout=LONG_S))
                self.assertIn("it goes on", said.output[0])

    def test_one_that_hangs_delays_no_other(self) -> None:
        go, done = threading.Event(), threading.Semaphore(0)
        table = self.table(lambda item: go.wait(LONG_S) and None if item == "hangs" else done.release())
        self.addCleanup(go.set)
        table.put("hangs", 0.0)
        for number in range(50):
            table.put(str(number), 0.0)
        for _ in range(50):
            self.assertTrue(done.acquire(timeout=LONG_S))

    def test_dropped_while_acted_on_it_does_not_come_back(self) -> None:
        started, go = threading.Event(), threading.Event()

        def act(item: str) -> float:
            started.set()
            go.wait(LONG_S)
            return 0.0

        table = self.table(act)
        table.put("a", 0.0)
        self.assertTrue(started.wait(LONG_S))
        table.drop("a")
        self.assertTrue(table.wait_empty(LONG_S))
        started.clear()
        go.set()
        self.assertFalse(started.wait(0.05))

    def test_put_anew_while_acted_on_its_new_time_counts(self) -> None:
        started, go, seen = threading.Event(), threading.Event(), threading.Semaphore(0)

        def act(item: str) -> float | None:
            seen.release()
            if not started.is_set():
                started.set()
                go.wait(LONG_S)
                return 60.0
            return None

        table = self.table(act)
        table.put("a", 0.0)
        started.wait(LONG_S)
        table.put("a", 0.0)
        go.set()
        self.assertTrue(table.wait_empty(LONG_S))
        self.assertTrue(seen.acquire(timeout=1) and seen.acquire(timeout=1))

    def test_the_heap_does_not_grow_with_what_is_put_again(self) -> None:
        table: Timetable[str] = Timetable("test", lambda item: None, 1)
        for _ in range(10_000):
            table.put("a", 60.0)
            table.put("b", 60.0)
            table.drop("b")
        self.assertLess(len(table._heap), 100)

    def test_a_helping_thread_that_is_just_being_started_can_be_joined(self) -> None:
        """A stop at that moment ended with a RuntimeError."""
        table: Timetable[str] = Timetable("test", lambda item: None, 1, most=9)
        table._threads.append(table._new(table._help))
        table.join(0.0)

    def test_a_closed_table_ends_its_threads_and_keeps_its_items(self) -> None:
        table: Timetable[str] = Timetable("closing", lambda item: None, 3)
        table.start()
        table.put("a", 60.0)
        table.close()
        table.join(LONG_S)
        self.assertEqual([thread.name for thread in threading.enumerate() if thread.name.startswith("closing")], [])
        self.assertEqual(len(table), 1)


if __name__ == "__main__":
    unittest.main()

# SPDX-License-Identifier: Apache-2.0
"""Signals become numbers in a queue."""

from __future__ import annotations

import itertools
import os
import queue
import signal
import threading
import unittest
from unittest import mock

from user_agent_sdk.worker import signals

LONG_S = 20.0


def send(number: int) -> None:
    """To this process; on Windows os.kill would end it."""
    if os.name == "nt":
        signal.raise_signal(number)
    else:
        os.kill(os.getpid(), number)


class SignalsTest(unittest.TestCase):
    def setUp(self) -> None:
        if signals.HANGUP is not None:  # under nohup it is ignored
            self.addCleanup(signal.signal, signals.HANGUP, signal.signal(signals.HANGUP, signal.SIG_DFL))

    def test_each_stop_signal_is_a_number_and_the_handlers_come_back(self) -> None:
        numbers: queue.SimpleQueue[int] = queue.SimpleQueue()
        before = [signal.getsignal(number) for number in signals.STOP]
        for number in signals.STOP:  # Ctrl+Break is among them on Windows
            with signals.into(numbers):
                send(number)
                self.assertEqual(numbers.get(timeout=LONG_S), number)
        self.assertEqual([signal.getsignal(number) for number in signals.STOP], before)

    @unittest.skipIf(signals.HANGUP is None, "Windows has no SIGHUP")
    def test_a_hangup_is_never_the_second_signal_nor_is_what_comes_second_to_it(self) -> None:
        """A terminal that was lost ended the worker at once: bash hands its SIGHUP on, and the kernel sends another."""
        term, hangup = signal.SIGTERM, signals.HANGUP
        for sent, counted, is_second in (
            ([hangup, hangup, hangup], [hangup], False),
            ([hangup, term], [hangup], False),
            ([term, hangup], [term], False),
            ([hangup, hangup, term, hangup, term], [hangup, term], True),
            ([term, hangup, term], [term, term], True),
        ):
            numbers: queue.SimpleQueue[int] = queue.SimpleQueue()
            with self.subTest(sent), signals.into(numbers, clock=itertools.count().__next__):
                for number in sent:
                    send(number)
                got = []
                while not numbers.empty():
                    got.append(numbers.get())
                self.assertEqual(got, counted)
                for number in got[1:]:
                    numbers.put(number)
                self.assertEqual(signals.is_second(numbers), is_second)

    @unittest.skipIf(signals.HANGUP is None, "Windows has no SIGHUP")
    def test_a_hangup_does_not_end_a_stop_that_no_signal_began(self) -> None:
        numbers: queue.SimpleQueue[int] = queue.SimpleQueue()
        for number, is_second in ((signals.HANGUP, False), (0, False), (-1, False), (signal.SIGINT, True)):
            numbers.put(number)
            self.assertIs(signals.is_second(numbers), is_second)

    def test_a_signal_that_a_wrapper_sends_twice_is_one_and_a_second_key_press_is_two(self) -> None:
        """`timeout` signals its child, then its own group, in which the child is too; sudo, su and a service manager
        forward one that the group has had already. The worker ended at once, and cut off what ran."""
        term, interrupt, now_s = signal.SIGTERM, signal.SIGINT, [0.0]
        for sent, counted in (
            ([(term, 0), (term, 0.00005), (term, 0.01)], [term]),
            ([(interrupt, 0), (term, 0.001)], [interrupt]),
            ([(term, 0), (term, 0.001), (term, 0.5), (term, 0.501)], [term, term]),
            ([(interrupt, each / 30) for each in range(20)], [interrupt] * 3),  # a key that is held
            *(
                [
                    ([(signals.HANGUP, 0), (term, 0.001), (term, 0.002), (term, 9)], [signals.HANGUP, term]),
                    ([(signals.HANGUP, 0), (term, 9), (term, 9.001), (term, 10)], [signals.HANGUP, term]),
                    ([(term, 0), (signals.HANGUP, 9), (term, 9.001)], [term, term]),
                ]
                if signals.HANGUP
                else []
            ),
        ):
            numbers: queue.SimpleQueue[int] = queue.SimpleQueue()
            at = mock.patch.object(signals, "REPEAT_S", 0.3)
            with self.subTest(sent), at, signals.into(numbers, clock=lambda: now_s[0]):
                for number, at_s in sent:
                    now_s[0] = at_s
                    send(number)
                self.assertEqual([numbers.get_nowait() for _ in range(numbers.qsize())], counted)

    def test_ten_thousand_signals_in_a_storm_block_nobody(self) -> None:
        numbers: queue.SimpleQueue[int] = queue.SimpleQueue()
        with signals.into(numbers, clock=itertools.count().__next__):  # each counts

            def storm() -> None:
                for count in range(10_000):
                    send((signal.SIGTERM, signal.SIGINT)[count % 2])

            thread = threading.Thread(target=storm)
            thread.start()
            got = 0
            while thread.is_alive():
                try:
                    numbers.get(timeout=0.01)
                    got += 1
                except queue.Empty:
                    pass
            thread.join()
        self.assertGreater(got, 0)

    def test_outside_the_main_thread_it_does_nothing(self) -> None:
        before = signal.getsignal(signal.SIGTERM)
        seen = []

        def enter() -> None:
            with signals.into(queue.SimpleQueue()):
                seen.append(signal.getsignal(signal.SIGTERM))

        thread = threading.Thread(target=enter)
        thread.start()
        thread.join()
        self.assertEqual(seen, [before])


if __name__ == "__main__":
    unittest.main()

# SPDX-License-Identifier: Apache-2.0
"""Signals become numbers in a queue."""

from __future__ import annotations

import os
import queue
import signal
import threading
import unittest

from user_agent_sdk.worker import signals

LONG_S = 20.0


def send(number: int) -> None:
    """To this process; on Windows os.kill would end it."""
    if os.name == "nt":
        signal.raise_signal(number)
    else:
        os.kill(os.getpid(), number)


class SignalsTest(unittest.TestCase):
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
            with self.subTest(sent), signals.into(numbers):
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

    def test_ten_thousand_signals_in_a_storm_block_nobody(self) -> None:
        numbers: queue.SimpleQueue[int] = queue.SimpleQueue()
        with signals.into(numbers):

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

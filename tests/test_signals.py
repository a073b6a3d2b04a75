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
        with signals.into(numbers):
            for number in signals.STOP:  # Ctrl+Break is among them on Windows
                send(number)
                self.assertEqual(numbers.get(timeout=LONG_S), number)
        self.assertEqual([signal.getsignal(number) for number in signals.STOP], before)

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

# SPDX-License-Identifier: Apache-2.0
"""The simulation itself: a few histories hold, each comes out the same again, and planted faults are found.

All of it is ``python -m tests.simulation``.
"""

from __future__ import annotations

import unittest

from tests.simulation.histories import draw, run, shrunk, told
from tests.simulation.planted import found, planted

HISTORIES = 150
FIRST = 50_000  # seed
CHEAP = (
    "a long poll beside a report",
    "a task is written down when it has ended",
    "a lease ends with the first report",
    "as many tasks as a reply has",
    "a late result is forgotten",
)  # fmt: skip


class SimulationTest(unittest.TestCase):
    def test_nothing_is_lost_and_nothing_unexpected(self) -> None:
        attempts = 0
        for seed in range(FIRST, FIRST + HISTORIES):
            outcome = run(draw(seed))
            self.assertEqual(outcome.violations, [], f"python -m tests.simulation --story --seed {seed}")
            attempts += outcome.attempts
        self.assertGreater(attempts, HISTORIES)

    def test_a_history_is_the_same_each_time(self) -> None:
        for seed in range(FIRST, FIRST + 10):
            self.assertEqual(told(draw(seed)), told(draw(seed)))

    def test_a_planted_fault_is_found_and_told_by_what_it_takes_alone(self) -> None:
        for name in CHEAP:
            with self.subTest(name):
                one = found(name)
                assert one is not None
                with planted(name):
                    least = shrunk(one.history)
                    story = told(least)
                self.assertIn(f"VIOLATION, {one.rule}", story)
                self.assertLessEqual(len(least.troubles), len(one.history.troubles))
                self.assertEqual(run(least).violations, [])


if __name__ == "__main__":
    unittest.main()

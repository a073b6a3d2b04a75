# SPDX-License-Identifier: Apache-2.0
"""1,000 processes of 8 workers on a simulated clock: the real polling, backoff and token code against a
platform that is away for ten minutes. ``python -m tests.test_fleet table`` prints what it gets to see.
"""

from __future__ import annotations

import heapq
import random
import sys
import unittest
from collections import Counter
from collections.abc import Iterator

from user_agent_sdk.conductor.auth import Lifetime
from user_agent_sdk.worker.polling.intake import Intake

PROCESSES = 1000
WORKERS = 8
INTERVAL_S = 1.0
TOKEN_LIFE_S = 100.0
ROUND_TRIP_S = 0.1
OUTAGE = (130.0, 730.0)
END = 792.0


class Process:
    """One agent with eight idle slots, one of which polls."""

    def __init__(self, rand: random.Random, now: float) -> None:
        self._rand = rand
        self.intake = Intake(WORKERS, INTERVAL_S, rand.random)
        self.token = self._token(now)

    def _token(self, now: float) -> Lifetime:
        return Lifetime(TOKEN_LIFE_S, now, now, self._rand.random)

    def turn(self, now: float) -> Iterator[tuple[str, bool]]:
        """One poll at ``now``: the requests that it makes, and whether each is answered."""
        up = not OUTAGE[0] <= now < OUTAGE[1]
        poll = self.intake.begin(now)
        assert self.intake.wait_s(now) is None, "an idle or failing agent sends one poll, however many workers"
        dead, due = now >= self.token.expires_at, now >= self.token.refresh_at
        if dead or (due and up):
            yield "token", up
            if up:
                self.token = self._token(now)
        if not dead or up:
            yield "poll", up
        if up:
            self.intake.empty(poll, now + ROUND_TRIP_S)
        else:
            self.intake.failed(poll, now, None)

    def next_at(self, now: float) -> float:
        return now + (self.intake.wait_s(now) or 0.0)


class Fleet:
    """What the platform sees, by second: requests of each kind, and who was served when for the first time
    after the outage."""

    def __init__(self, seed: int, end: float = END) -> None:
        rand = random.Random(seed)
        self.seen: dict[str, Counter[int]] = {"poll": Counter(), "token": Counter()}
        self.served: dict[int, float] = {}
        processes = [Process(rand, 0.0) for _ in range(PROCESSES)]
        turns = [(rand.random() * 5, number) for number in range(PROCESSES)]  # a roll-out takes a few seconds
        heapq.heapify(turns)
        while turns[0][0] < end:
            now, number = heapq.heappop(turns)
            for kind, up in processes[number].turn(now):
                self.seen[kind][int(now)] += 1
                if up and now >= OUTAGE[1]:
                    self.served.setdefault(number, now)
            heapq.heappush(turns, (processes[number].next_at(now + ROUND_TRIP_S), number))

    def rate(self, kind: str, start: float, end: float) -> float:
        return sum(self.seen[kind][second] for second in range(int(start), int(end))) / (end - start)

    def busiest(self, start: float, end: float) -> int:
        """Requests of all kinds in the busiest second."""
        return max(sum(seen[second] for seen in self.seen.values()) for second in range(int(start), int(end)))


class FleetTest(unittest.TestCase):
    fleet: Fleet

    @classmethod
    def setUpClass(cls) -> None:
        cls.fleet = Fleet(seed=7)

    def test_at_rest_a_process_costs_at_most_one_poll_an_interval(self) -> None:
        self.assertLessEqual(self.fleet.rate("poll", 30, 130), PROCESSES / INTERVAL_S)
        self.assertGreater(self.fleet.rate("poll", 30, 130), 0.8 * PROCESSES / INTERVAL_S)

    def test_tokens_of_a_fleet_that_started_together_are_not_refreshed_together(self) -> None:
        self.assertLessEqual(max(self.fleet.seen["token"][second] for second in range(10, 130)), PROCESSES / 10)

    def test_a_platform_that_is_away_is_asked_by_each_process_every_15_seconds(self) -> None:
        self.assertLess(self.fleet.rate("poll", 190, 730) + self.fleet.rate("token", 190, 730), PROCESSES / 12)

    def test_no_herd_meets_a_platform_that_comes_back(self) -> None:
        after = sum(self.fleet.rate(kind, 731, 791) for kind in ("poll", "token"))
        self.assertLessEqual(self.fleet.busiest(730, 791), 2 * after)

    def test_the_whole_fleet_is_back_within_the_longest_pause(self) -> None:
        self.assertEqual(len(self.fleet.served), PROCESSES)
        self.assertLessEqual(max(self.fleet.served.values()) - OUTAGE[1], 31)


def table() -> None:
    fleet = Fleet(seed=7)
    print(f"{PROCESSES} processes x {WORKERS} workers, interval {INTERVAL_S:g} s, tokens of {TOKEN_LIFE_S:g} s")
    print(f"{'':28}{'polls/s':>9}{'tokens/s':>10}{'busiest s':>11}")
    spans = {"at rest": (30, 130), "token expiry": (70, 85), "outage, 2nd minute on": (190, 730)}
    spans.update({"its end, first 10 s": (730, 740), "the minute after": (731, 791)})
    for name, (start, end) in spans.items():
        polls, tokens = fleet.rate("poll", start, end), fleet.rate("token", start, end)
        print(f"{name:28}{polls:9.0f}{tokens:10.1f}{fleet.busiest(start, end):11}")
    back = sorted(at - OUTAGE[1] for at in fleet.served.values())
    print(f"served again: half after {back[len(back) // 2]:.1f} s, all after {back[-1]:.1f} s")


if __name__ == "__main__" and "table" in sys.argv:
    table()

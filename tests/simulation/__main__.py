# SPDX-License-Identifier: Apache-2.0
"""Runs histories, or plants faults and looks for them, and says what was found."""

from __future__ import annotations

import argparse
import gc
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from operator import add
from typing import NamedTuple

from .histories import Outcome, draw, run, shrunk, told
from .planted import PLANTED, WITHIN, found

LOT = 250  # histories, in one process
STORIES = 3  # are told at most


class Done(NamedTuple):
    """What a lot of histories, one after the other, came to. ``sums``: works, attempts, acknowledged, duplicated."""

    histories: int
    sums: tuple[int, ...]
    stories: list[str]  # of those that broke a rule


def lot(first: int, until: int) -> Done:
    """The histories of these seeds; not all of them when several break a rule."""
    sums, stories, seed = (0, 0, 0, 0), [], first
    gc.disable()
    while seed < until and len(stories) < STORIES:
        history = draw(seed)
        outcome: Outcome = run(history)
        sums = tuple(map(add, sums, outcome[1:5]))
        seed += 1
        if outcome.violations:
            stories.append(told(shrunk(history)))
    gc.enable()
    gc.collect()  # what a history leaves is in cycles
    return Done(seed - first, sums, stories)


def simulate(histories: int, seed: int, limit_s: float, processes: int) -> int:
    began, sums, done, bad = time.monotonic(), (0, 0, 0, 0), 0, 0
    end = seed + histories
    lots = [(first, min(first + LOT, end)) for first in range(seed, end, LOT)]
    with ProcessPoolExecutor(processes) as pool:
        for each in pool.map(lot, *zip(*lots)):
            sums, done, bad = tuple(map(add, sums, each.sums)), done + each.histories, bad + len(each.stories)
            for story in each.stories:
                print(story, flush=True)
            if bad >= STORIES or time.monotonic() - began >= limit_s:
                pool.shutdown(cancel_futures=True)
                break
    took_s = time.monotonic() - began
    print("{} works, {} attempts, {} acknowledged, {} duplicated for a reason".format(*sums))
    what = f"{bad} histories broke a rule" if bad else "none lost, none unexpected"
    print(f"{done} histories in {took_s:.1f} s ({done / took_s:.0f} a second): {what}")
    return 1 if bad else 0


def plant(processes: int) -> int:
    missed = 0
    with ProcessPoolExecutor(processes) as pool:
        for name, one in zip(PLANTED, pool.map(found, PLANTED)):
            missed += one is None
            what = f"not found in {WITHIN} histories" if one is None else f"in history {one.histories}, {one.rule}"
            print(f"{name}: {what}", flush=True)
    return 1 if missed else 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation")
    parser.add_argument("--histories", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1, help="of the first; the others follow")
    parser.add_argument("--limit", type=float, default=600.0, metavar="SECONDS", help="begin none after that")
    parser.add_argument("--processes", type=int, default=os.cpu_count(), help="at once (default: one a core)")
    parser.add_argument("--story", action="store_true", help="tell the history of that seed alone")
    parser.add_argument("--planted", action="store_true", help="plant each known fault, and look for it")
    args = parser.parse_args()
    if args.story:
        print(told(draw(args.seed)))
        return 0
    return plant(args.processes) if args.planted else simulate(args.histories, args.seed, args.limit, args.processes)


if __name__ == "__main__":
    sys.exit(main())

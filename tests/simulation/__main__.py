# SPDX-License-Identifier: Apache-2.0
"""Runs histories, or plants faults and looks for them, and says what was found."""

from __future__ import annotations

import argparse
import gc
import sys
import time

from .histories import Outcome, draw, run, shrunk, told
from .planted import PLANTED, WITHIN, found

COLLECTED_EVERY = 500  # histories: what each leaves is in cycles
STORIES = 3  # are told at most


def simulate(histories: int, seed: int, limit_s: float) -> int:
    began, sums, bad, done = time.monotonic(), [0, 0, 0, 0], 0, 0
    gc.disable()
    while done < histories and bad < STORIES and time.monotonic() - began < limit_s:
        history = draw(seed + done)
        outcome: Outcome = run(history)
        sums = [one + other for one, other in zip(sums, outcome[1:5])]
        done += 1
        if outcome.violations:
            bad += 1
            print(told(shrunk(history)), flush=True)
        if not done % COLLECTED_EVERY:
            gc.collect()
    gc.enable()
    took_s = time.monotonic() - began
    print("{} works, {} attempts, {} acknowledged, {} duplicated for a reason".format(*sums))
    what = f"{bad} histories broke a rule" if bad else "none lost, none unexpected"
    print(f"{done} histories in {took_s:.1f} s ({done / took_s:.0f} a second): {what}")
    return 1 if bad else 0


def plant() -> int:
    missed = 0
    for name in PLANTED:
        one = found(name)
        missed += one is None
        what = f"not found in {WITHIN} histories" if one is None else f"found in history {one.histories}, {one.rule}"
        print(f"{name}: {what}", flush=True)
    return 1 if missed else 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation")
    parser.add_argument("--histories", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1, help="of the first; the others follow")
    parser.add_argument("--limit", type=float, default=600.0, metavar="SECONDS", help="begin none after that")
    parser.add_argument("--story", action="store_true", help="tell the history of that seed alone")
    parser.add_argument("--planted", action="store_true", help="plant each known fault, and look for it")
    args = parser.parse_args()
    if args.story:
        print(told(draw(args.seed)))
        return 0
    return plant() if args.planted else simulate(args.histories, args.seed, args.limit)


if __name__ == "__main__":
    sys.exit(main())

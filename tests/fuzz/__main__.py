# SPDX-License-Identifier: Apache-2.0
"""Runs every target for as many cases as asked for, and says what was found."""

from __future__ import annotations

import argparse
import sys

from .core import fuzz
from .targets import TARGETS


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("--cases", type=int, default=10_000, help="for each target")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", choices=sorted(TARGETS), help="one target")
    parser.add_argument("--case", type=int, help="one case of it")
    args = parser.parse_args()
    if args.case is not None and args.only is None:
        parser.error("--case needs --only")
    found = 0
    for name in [args.only] if args.only else TARGETS:
        outcome = fuzz(TARGETS[name], args.cases, args.seed, args.case)
        found += len(outcome.findings)
        for finding in outcome.findings:
            print(finding.told(name, args.seed))
        what = f"{len(outcome.findings)} found" if outcome.findings else "ok"
        slowest = f"the slowest {outcome.slowest_s * 1000:.0f} ms"
        print(f"{name}: {what}, {outcome.cases} cases in {outcome.took_s:.1f} s, {slowest}", flush=True)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())

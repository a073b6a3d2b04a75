# SPDX-License-Identifier: Apache-2.0
"""``python -m tests.real.parity``: the table of scripts and command lines: what, and same, better or other (why)."""

from __future__ import annotations

import sys

from ..stack import Stack
from .compare import SEED, SEED_03, compared
from .lines import LINES, difference
from .scripts import NEWER, SCRIPTS


def main() -> int:
    verdicts: list[str] = []

    def show(name: str, verdict: str) -> None:
        verdicts.append(verdict)
        print(f"{name}\t{verdict}", flush=True)

    for line, there in LINES:
        show("useragent " + line, difference(line, there))
    if SEED or SEED_03:
        names = set(sys.argv[1:])
        with Stack() as stack:
            for seed, scripts in ((SEED, SCRIPTS), (SEED_03, NEWER)):
                chosen = [script for script in scripts if seed and (not names or script.name in names)]
                for each in compared(stack, chosen, seed):
                    show(each.script.name, each.verdict)
    else:
        print("no variable names a Python with the published package: command lines only", file=sys.stderr)
    same, better, other = (sum(verdict.startswith(kind) for verdict in verdicts) for kind in ("same", "bett", "oth"))
    wrong = len(verdicts) - same - better - other
    print(f"{len(verdicts)} rows: {same} same, {better} better, {other} other as meant, {wrong} not meant")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())

# SPDX-License-Identifier: Apache-2.0
"""``python -m tests.real.parity``: the table of scripts and command lines: what, and same, better or other (why)."""

from __future__ import annotations

import sys

from ..stack import Stack
from .compare import SEED, compared
from .lines import LINES, difference
from .scripts import SCRIPTS


def main() -> int:
    verdicts: list[str] = []

    def show(name: str, verdict: str) -> None:
        verdicts.append(verdict)
        print(f"{name}\t{verdict}", flush=True)

    for line, there in LINES:
        show("useragent " + line, difference(line, there))
    if SEED:
        names = set(sys.argv[1:])
        with Stack() as stack:
            for each in compared(stack, [script for script in SCRIPTS if not names or script.name in names]):
                show(each.script.name, each.verdict)
    else:
        print("USERAGENT_SEED_PYTHON names no Python with the published package: command lines only", file=sys.stderr)
    same, better, other = (sum(verdict.startswith(kind) for verdict in verdicts) for kind in ("same", "bett", "oth"))
    wrong = len(verdicts) - same - better - other
    print(f"{len(verdicts)} rows: {same} same, {better} better, {other} other as meant, {wrong} not meant")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())

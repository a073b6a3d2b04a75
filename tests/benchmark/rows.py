# SPDX-License-Identifier: Apache-2.0
"""What is compared, as a table. The first contender of a row is the yardstick of its ratios."""

from __future__ import annotations

import math
import operator
from typing import NamedTuple

from .contenders import ASYNC, LARGE, LOGS, SMALL, Contender, Work, ours

RELATIONS = {">=": operator.ge, "<=": operator.le, "<": operator.lt}


class Goal(NamedTuple):
    figure: str
    relation: str
    limit: float

    def __str__(self) -> str:
        return f"{self.relation} {self.limit:g}"

    def holds(self, value: float) -> bool:
        return bool(RELATIONS[self.relation](value, self.limit))


PARTS = {"seed": 0.02, "raw": 10}  # a round takes seconds, for the slowest and for the quickest


class Row(NamedTuple):
    """The same work for each contender. ``part``: of the tasks that the command line says."""

    name: str
    contenders: tuple[tuple[Contender, Goal | None], ...]
    workers: int = 8
    work: Work = SMALL
    delay_ms: float = 0.0
    tls: bool = False
    part: float = 1.0
    tasks: int = 0

    def tasks_of(self, contender: Contender) -> int:
        return self.whole(max(20, self.tasks * PARTS.get(contender.kind, 1), 4 * self.workers))

    def whole(self, tasks: float) -> int:
        """With a delay all workers report at once, so a span is measured from such a moment to another."""
        return math.ceil(tasks / self.workers) * self.workers

    @property
    def ideal_per_s(self) -> float | None:
        """Two exchanges a task, nothing but their delay."""
        return self.workers * 1000 / (2 * self.delay_ms) if self.delay_ms else None


BARE = Contender("bare http.client", "bare")
SEED = Contender("user-agent-sdk 0.2.0", "seed")
CONDUCTOR_PYTHON = Contender("conductor-python 2.0.0", "conductor-python")
RAW = Contender("raw sockets, no work", "raw")
MEMORY, JOURNAL, RECORD = ours("-q", "--no-journal"), ours("-q"), ours("-q", "-r")
RECORD_ONLY, CONDUCTOR, DEFAULTS = ours("-q", "-r", "--no-journal"), ours("-q", "--conductor"), ours()


def ratio(limit: float) -> Goal:
    return Goal("ratio", ">=", limit)


def before(now: Contender) -> Contender:
    """The same of another checkout."""
    return now._replace(name=f"before: {now.name}", kind="before")


def plain(*contenders: Contender) -> tuple[tuple[Contender, Goal | None], ...]:
    return tuple((contender, None) for contender in contenders)


FULL = plain(RECORD_ONLY, RECORD, DEFAULTS, CONDUCTOR)
LIMIT = ((RAW, ratio(2.0)),)  # else the platform could be what is measured
WAITING = Goal("share_of_ideal", ">=", 0.85)

ROWS = (
    Row("what the platform can serve, 8 connections", (*plain(BARE, MEMORY), *LIMIT)),
    Row("small tasks, 1 worker", (*plain(BARE), (MEMORY, ratio(0.9)), (JOURNAL, ratio(0.9)), *FULL), 1, part=0.5),
    Row(
        "small tasks, 8 workers",
        (
            *plain(BARE),
            (MEMORY, ratio(1.3)),
            *plain(JOURNAL, RECORD_ONLY, RECORD),
            (DEFAULTS, ratio(1.0)),
            *plain(CONDUCTOR),
        ),
    ),
    Row("small tasks, 64 workers", (*plain(BARE, MEMORY, JOURNAL), *FULL), 64),
    Row("100 kB in and out, 8 workers", plain(BARE, MEMORY, JOURNAL, RECORD), work=LARGE, part=0.3),
    Row("100 log lines a task, 8 workers", plain(BARE, MEMORY, JOURNAL, RECORD), work=LOGS, part=0.3),
    Row("async agents, 8 workers", plain(BARE, MEMORY, JOURNAL), work=ASYNC),
    Row("async agents, 64 workers", plain(BARE, MEMORY, JOURNAL), 64, work=ASYNC),
    Row("TLS, 8 workers", plain(BARE, MEMORY, JOURNAL), tls=True),
    Row("50 ms an exchange, 1 worker", plain(BARE, JOURNAL), 1, delay_ms=50, part=0.01),
    Row("50 ms an exchange, 8 workers", plain(BARE, JOURNAL), delay_ms=50, part=0.08),
    Row("50 ms an exchange, 64 workers", (*plain(BARE), (JOURNAL, WAITING)), 64, delay_ms=50, part=0.5),
    Row("200 ms an exchange, 8 workers", plain(BARE, JOURNAL), delay_ms=200, part=0.02),
    Row("200 ms an exchange, 64 workers", plain(BARE, JOURNAL), 64, delay_ms=200, part=0.2),
    Row("what the journal costs, 8 workers", (*plain(MEMORY), (JOURNAL, ratio(0.85))), part=3),
    Row("what the history costs, 8 workers", (*plain(JOURNAL), (RECORD, ratio(0.85))), part=3),
    Row("update-v2, 8 workers", (*plain(CONDUCTOR_PYTHON), (CONDUCTOR, ratio(2.0)))),
    Row("default settings, 8 workers", (*plain(SEED), (DEFAULTS, ratio(120)))),
    *(
        Row(f"before and now, 8 workers: {now.name}", plain(before(now), now))
        for now in (MEMORY, JOURNAL, RECORD_ONLY, RECORD, DEFAULTS, CONDUCTOR)
    ),
)


def rows(tasks: int, kinds: frozenset[str], only: str) -> list[Row]:
    """The rows to measure; those whose yardstick is not at hand have nothing to show."""
    found = []
    for row in ROWS:
        at_hand = tuple(entry for entry in row.contenders if entry[0].kind in kinds)
        if at_hand[:1] == row.contenders[:1] and only in row.name:
            found.append(row._replace(contenders=at_hand, tasks=round(tasks * row.part)))
    return found

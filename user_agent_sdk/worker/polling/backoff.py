# SPDX-License-Identifier: Apache-2.0
"""How long to wait after a failure, and how to speak of an outage without flooding the log. Pure:
whoever calls says what time it is."""

from __future__ import annotations

import logging
import random
from typing import Callable

BASE_S = 0.25
CAP_S = 30.0
LOCAL_CAP_S = 2.0  # on loopback: nobody else shares that server, and somebody may be watching
REMIND_S = 60.0
REASONS_MAX = 5  # a minute: two gateways that fail in turn, each in its words, must not fill a log
GAP_S, GAP_MAX_S = 0.05, 1.0  # between two exchanges with a platform that refuses them
REFUSING_S = 5.0  # after the last refusal

chance = random.SystemRandom().random  # not the module's own: scripts seed that, alike in each process of a fleet


class Backoff:
    """Full jitter: a random share of 0.25 s, doubled with each failure up to 30 s."""

    def __init__(self, rand: Callable[[], float], cap_s: float = CAP_S) -> None:
        self._rand, self._cap_s = rand, cap_s
        self.failures = 0

    def failed(self) -> float:
        """Count a failure; seconds to wait."""
        ceiling_s: float = min(self._cap_s, BASE_S * 2.0 ** min(self.failures, 20))
        self.failures += 1
        return ceiling_s * self._rand()

    def succeeded(self) -> bool:
        """Forget the failures; True when there were any."""
        had, self.failures = self.failures, 0
        return had > 0


REPORT, EXTENSION, POLL = "report", "extension", "poll"  # kinds of exchanges


class Pace:
    """What all exchanges with a platform keep together while reports or extensions are refused: of the kind that is
    refused (of leases: of those whose last one was), and of polls, one begins every 50 ms, after more refusals one a
    second. The first success of that kind ends it. No lock: of two that ask at the same moment both may go."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self._gap_s = self._grown_at = 0.0
        self.refused_at: dict[str, float] = {}  # of the kinds that are refused now, the last time
        self._begun_at: dict[tuple[str, float], float] = {}

    def wait_s(self, kind: str, most_s: float = GAP_MAX_S) -> float:
        """0 for whoever may begin such an exchange now, else the seconds until it is worth asking again."""
        if not self.refused_at:
            return 0.0
        now = self.clock()
        for refused, at in list(self.refused_at.items()):
            if now - at > REFUSING_S:  # nobody has tried since
                self.succeeded(refused)
        if not self.refused_at or (kind != POLL and kind not in self.refused_at):
            return 0.0
        turn = (kind, min(most_s, GAP_MAX_S))  # of its own for each haste: else who may go sooner would take every turn
        next_at = self._begun_at.get(turn, self._begun_at.get((kind, GAP_MAX_S), 0.0)) + min(self._gap_s, most_s)
        if now < next_at:
            return next_at - now
        self._begun_at[turn] = now
        return 0.0

    def failed(self, kind: str) -> None:
        now = self.clock()
        if now - self._grown_at >= self._gap_s:  # exchanges that were under way together count once
            self._gap_s = min(GAP_MAX_S, self._gap_s * 2 or GAP_S)
            self._grown_at = now
        if kind not in self.refused_at:
            self._begun_at[kind, GAP_MAX_S] = now
        self.refused_at[kind] = now

    def succeeded(self, kind: str) -> None:
        if self.refused_at:
            self.refused_at.pop(kind, None)
            self._gap_s = self._gap_s if self.refused_at else 0.0


class Outage:
    """What the log says of an outage: one line when trouble starts, one a minute while it lasts, one at once for a new
    reason (a few a minute), and one when it is over. ``fields`` go into ``extra`` with each line, beside ``outage_s``,
    ``tries`` and ``reason``."""

    def __init__(self, log: logging.Logger, what: str, **fields: object) -> None:
        self._log, self._what, self._fields = log, what, fields
        self._since = self._said_at = 0.0
        self._count = 0  # failures of this outage
        self._reasons: set[str] = set()  # the reasons that were said in this minute

    def failed(self, reason: str, now: float, is_refusal: bool = False) -> None:
        """``is_refusal``: of our credentials, which no waiting mends."""
        starts = not self._count
        self._count += 1
        self._since = now if starts else self._since
        is_due = starts or now - self._said_at >= REMIND_S
        if is_due:
            self._said_at = now
            self._reasons.clear()
        is_new = reason not in self._reasons and len(self._reasons) < REASONS_MAX
        if is_new:
            self._reasons.add(reason)
        if is_new and is_refusal:
            text = "%s: %s; the credentials must be mended, until then it is tried again"
            self._say(logging.ERROR, "credentials_refused", now, reason, text, reason)
        elif starts:
            self._say(logging.WARNING, "outage_started", now, reason, "%s: %s; trying again", reason)
        elif is_new or is_due:
            text, lasted_s = "%s for %.0f s, %d tries: %s", now - self._since
            self._say(logging.WARNING, "outage_goes_on", now, reason, text, lasted_s, self._count, reason)

    def succeeded(self, now: float) -> None:
        """The trouble is over, if there was any."""
        if self._count:
            text = "%s: over after %.1f s and %d tries"
            self._say(logging.INFO, "outage_over", now, None, text, now - self._since, self._count)
            self._count = 0

    def _say(self, level: int, action: str, now: float, reason: str | None, text: str, *args: object) -> None:
        told = {"action": action, "outage_s": round(now - self._since, 1), "tries": self._count, "reason": reason}
        self._log.log(level, text, self._what, *args, extra={**self._fields, **told})

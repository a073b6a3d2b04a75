# SPDX-License-Identifier: Apache-2.0
"""The wait of a worker and its end, as a sentence for the person in front of the terminal."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

from ..logs import counted

if TYPE_CHECKING:
    from ..worker.runner import Runner


class Waits(NamedTuple):
    """A moment of a worker's life. ``until``: the end of the drain; ``next_poll``, ``next_report``: of the
    next try; all on the monotonic clock, None where there is none."""

    asks_for_token: bool = False
    stopping: bool = False
    running: int = 0  # functions
    results: int = 0  # not delivered yet, and tried again
    until: float | None = None
    next_poll: float | None = None  # polls fail
    next_report: float | None = None
    is_refused: bool = False  # polls fail because the platform refuses the credentials
    hook: str | None = None  # the start or stop hook that runs

    def sentence(self, now: float, wall: float) -> str | None:
        """One line, or None when nobody need wait. ``wall`` in epoch seconds is the same moment as ``now``."""

        def at(moment: float) -> str:
            left_s = max(0.0, moment - now)
            clock = time.strftime("%H:%M:%S", time.localtime(wall + left_s))
            return f"{clock} ({left_s:.0f} s)" if left_s >= 0.5 else clock

        until = "as long as it takes" if self.until is None else f"until {at(self.until)}"
        if self.asks_for_token:
            return "waiting for a token, 15 s at most"
        if self.hook is not None:
            return f"waiting for {self.hook}"
        if self.stopping and self.running:
            what = f"stopping: waiting for {counted(self.running, 'running task')}, {until}"
            return what + "; another Ctrl+C ends it at once"
        if self.stopping and not self.results:
            return "stopping: waiting for the answer to an open poll, 6 s at most"
        if self.stopping:
            return f"stopping: waiting to deliver {counted(self.results, 'result')}, {until}"
        parts = []
        if self.next_poll is not None:
            what = "refuses the credentials" if self.is_refused else "does not answer"
            parts.append(f"the platform {what}: next poll at {at(self.next_poll)}")
        if self.results and self.next_report is not None:
            parts.append(f"{counted(self.results, 'undelivered result')}: next try at {at(self.next_report)}")
        return "; ".join(parts) or None


def of(runner: Runner) -> Waits:
    """The wait that the worker is in."""
    services, failing = runner.services, [gate for gate in runner.gates if gate.intake.is_failing]
    return Waits(
        asks_for_token=runner.is_checking and services.client.auth is not None,
        stopping=services.stopping.is_set(),
        running=runner.running,
        results=len(services.custody.delivery),
        until=runner.drain.deadline,
        next_poll=min((gate.intake.next_at for gate in failing), default=None),
        next_report=services.custody.delivery.next_due(),
        is_refused=any(gate.is_refused for gate in failing),
        hook=runner.hooks.runs,
    )

# SPDX-License-Identifier: Apache-2.0
"""What a worker waits for, as a sentence for the person in front of the terminal."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from ..logs import counted

if TYPE_CHECKING:
    from ..worker.runner import Runner


def sentence(runner: Runner, now: float, wall: float) -> str | None:
    """One line, or None when nobody need wait. ``now`` (monotonic) and ``wall`` (epoch) are the same moment, in s."""

    def at(moment: float) -> str:
        left_s = max(0.0, moment - now)
        clock = time.strftime("%H:%M:%S", time.localtime(wall + left_s))
        return f"{clock} ({left_s:.0f} s)" if left_s >= 0.5 else clock

    services, failing = runner.services, [gate for gate in runner.gates if gate.intake.is_failing]
    running, results, deadline = runner.running, len(services.custody.delivery), runner.drain.deadline
    until = "as long as it takes" if deadline is None else f"until {at(deadline)}"
    if runner.is_checking and services.client.auth is not None:
        return "waiting for a token, 15 s at most"
    if (hook := runner.hooks.runs) is not None:
        return f"waiting for {hook}"
    if services.stopping.is_set():
        if running:
            what = f"stopping: waiting for {counted(running, 'running task')}, {until}"
            return what + "; another Ctrl+C ends it at once"
        if results:
            return f"stopping: waiting to deliver {counted(results, 'result')}, {until}"
        return "stopping: waiting for the answer to an open poll, 6 s at most"
    parts = []
    if failing:
        what = "refuses the credentials" if any(gate.is_refused for gate in failing) else "does not answer"
        parts.append(f"the platform {what}: next poll at {at(min(gate.intake.next_at for gate in failing))}")
    next_report = services.custody.delivery.next_due()
    if results and next_report is not None:
        parts.append(f"{counted(results, 'undelivered result')}: next try at {at(next_report)}")
    return "; ".join(parts) or None

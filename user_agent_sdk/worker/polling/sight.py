# SPDX-License-Identifier: Apache-2.0
"""Whether a server that keeps a poll looks at its queue meanwhile. Pure: no thread, clock or I/O."""

from __future__ import annotations

from collections.abc import Sequence

from ...conductor.wire import Task

MISSED_S = 1.0  # a task that came so long before a kept poll's end, and not by that poll, was missed
CAME_S = 1.0  # a task scheduled so long after a poll was sent, and brought by it, came while the poll was kept
SURE = 2  # tasks missed, and none came to a kept poll
LONGEST_S = 1e7  # a task that waited longer than 115 days has a time that is none
_DELAYS = ("callbackAfterSeconds", "startDelayInSeconds", "rateLimitPerFrequency")


class Sight:
    """Conductor on Redis looks when a poll comes and then sits its 5 s out: a task that comes meanwhile is given to
    the next poll. Seen by the time that the task lay in the queue, which its own times tell by the server's clock."""

    def __init__(self) -> None:
        self._missed = 0
        self._waited_from = self._waited_until = 0.0  # the last poll that was kept and brought nothing

    def shows_blindness(self, now: float, took_s: float, was_kept: bool, tasks: Sequence[Task]) -> bool:
        """True when this poll's reply settles that keeping polls delays tasks."""
        if not tasks:
            if was_kept:
                self._waited_from, self._waited_until = now - took_s, now
            return False
        waited_s = queued_s(tasks[0]) or 0.0
        if was_kept and took_s - waited_s > CAME_S:
            self._missed = 0
        elif self._waited_from < now - waited_s < self._waited_until - MISSED_S:
            self._missed += 1
        return self._missed >= SURE


def queued_s(task: Task) -> float | None:
    """How long the task could have been had, by its own times. None where they are not told, and for one that may have
    been held back: a retry, one called again, one with a delay or a limit."""
    wire = task.wire
    flow = wire.get("workflowTask")
    given = flow.get("taskDefinition") if isinstance(flow, dict) else None
    definition = given if isinstance(given, dict) else {}
    is_held_back = task.retry_count or task.poll_count > 1 or any(map(wire.get, _DELAYS))
    if is_held_back or definition.get("concurrentExecLimit"):
        return None
    try:
        waited_s: float = (wire["startTime"] - wire["scheduledTime"]) / 1000
    except (KeyError, TypeError, OverflowError):  # not there, or no times
        return None
    return max(0.0, waited_s) if waited_s < LONGEST_S else None

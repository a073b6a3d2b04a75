# SPDX-License-Identifier: Apache-2.0
"""The events that a worker tells its watchers. Here they are dropped: ``watching.status`` has a watcher that counts
and answers."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from ..errors import ConfigError

if TYPE_CHECKING:
    from ..conductor.wire import Task, TaskStatus, Verdict
    from .polling.gate import Gate
    from .runner import Runner
    from .slots import Services


class Counts:
    """What the worker does, in numbers. These forget them at once."""

    def known(self, agent_id: str) -> None: ...  # there will be numbers of this agent
    def polled(self, agent_id: str, took_s: float, error: str | None = None) -> None: ...  # was answered, or failed
    def started(self, agent_id: str, task: Task) -> None: ...  # a function, for that task
    def executed(self, agent_id: str, took_s: float, status: TaskStatus) -> None: ...  # a function ended

    def reported(self, agent_id: str, took_s: float, verdict: Verdict, size_bytes: int | None = None) -> None:
        """A report was answered, or failed; ``size_bytes`` at a result's first one only."""

    def rejected(self, agent_id: str) -> None: ...  # the platform refused a result for good: it is kept for a human


class Watch:
    """Plugged into one Runner."""

    def __init__(self) -> None:
        self.counts = Counts()

    def attach(self, services: Services, gates: Sequence[Gate]) -> None: ...  # to be looked at; gates still grow
    def beat(self, loop: str) -> None: ...  # a loop of the worker came round

    def open(self, address: str) -> None:
        """Listen at HOST:PORT. Raises UserAgentError."""
        raise ConfigError("this copy was made without watching/, which serves --status-port")

    def close(self) -> None: ...  # stop listening

    def sentence(self, runner: Runner) -> str | None:
        """What the worker waits for just now, for the person in front of it; None in a copy without ``watching/``."""
        with suppress(ModuleNotFoundError):
            from ..watching import waits

            return waits.sentence(runner, time.monotonic(), time.time())
        return None

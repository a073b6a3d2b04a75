# SPDX-License-Identifier: Apache-2.0
"""Plugs counting, probes and sentences into a worker."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..worker.watched import Counts, Watch
from .metrics import Metrics
from .server import StatusServer
from .status import Status

if TYPE_CHECKING:
    from ..worker.polling.gate import Gate
    from ..worker.runner import Runner
    from ..worker.slots import Services


class Watching(Watch):
    """Counts for the status port, when there will be one, and answers at it."""

    def __init__(self, counts: bool) -> None:
        self.counts = Metrics() if counts else Counts()
        self.server: StatusServer | None = None

    def attach(self, services: Services, gates: Sequence[Gate]) -> None:
        self.status = Status(services, gates)

    def beat(self, loop: str) -> None:
        self.status.beat(loop)

    def open(self, address: str) -> None:
        self.server = StatusServer(address, self.status)

    def close(self) -> None:
        if self.server is not None:
            self.server.close()

    def sentence(self, runner: Runner) -> str | None:
        return runner.waits().sentence(time.monotonic(), time.time())

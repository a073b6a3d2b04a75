# SPDX-License-Identifier: Apache-2.0
"""Plugs counting and probes into a worker."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..worker.watched import Watch
from .metrics import Metrics
from .server import StatusServer
from .status import Status

if TYPE_CHECKING:
    from ..worker.polling.gate import Gate
    from ..worker.slots import Services


class Watching(Watch):
    """Counts for the status port, and answers at it."""

    def __init__(self) -> None:
        self.counts = Metrics()
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

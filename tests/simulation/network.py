# SPDX-License-Identifier: Apache-2.0
"""The made-up network: exchanges whose requests or replies are lost, late or refused."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

from .loading import part
from .world import NEVER, world

if TYPE_CHECKING:
    from .platform import Job, Platform
    from .process import Process
    from .slot import Slot

connection = part("conductor.connection")
Response, TransportError = part("conductor.reply").Response, connection.TransportError
POLL, REPORT, EXTENSION, LOOK = "poll", "report", "extension", "look"
LOOKS_S = connection.LOOK_S


class Fault(NamedTuple):
    """Weather of the network: what becomes of some exchanges of these kinds. ``seconds``: how late."""

    what: str  # refused, denied, unauthorized, unreachable, lost (the reply), unheard, late, slow, tardy (and no harm)
    kinds: tuple[str, ...]
    share: float
    seconds: float = 0.0


class Connection:
    """One exchange. The reply is there at ``ready_at``; a worker that was stopped then can't tell since when."""

    def __init__(self, process: Process, deadline: float, kind: str, task_id: str) -> None:
        self.process, self.sent_at, self.deadline = process, world.now, deadline
        self.kind, self.task_id = kind, task_id
        self.ready_at = NEVER
        self.result: Any = None
        self.waiter: Slot | None = None
        self.jobs: list[Job] = []
        self.is_lost = self.is_faulty = False
        self.is_final = False  # a report that ends the task
        self.is_question = False  # whether the platform has an attempt still: a report that delivers nothing
        self.is_beside = False  # an extension of the task is in the air

    def answer(self, result: Any, at: float) -> None:
        if self.is_lost:
            result = TransportError("the connection broke", sent=True)
        if at > self.deadline:
            result, at = TransportError("no answer in time", sent=True), self.deadline
        self.result, self.ready_at = result, at
        if self.waiter is not None:
            world.at(at, self.process, self.waiter.step)

    def fetch(self) -> Any:
        process = self.process
        process.step()
        if self.ready_at > world.now:
            world.wait(self.ready_at - world.now)
            process.step()
        if world.now > self.ready_at + 0.2:  # a wait that began later ended later
            process.trouble(0.0)
        process.heard(self)
        if not isinstance(self.result, Response):
            raise self.result
        for job in self.jobs:
            job.read_at = world.now
        return self.result

    @property
    def age_s(self) -> float:
        at: float = self.ready_at
        for begun, ended in self.process.stops:
            if begun <= at <= ended:
                at = begun
        at = max(self.sent_at, at)
        return float(world.now - (self.sent_at + (at - self.sent_at) // LOOKS_S * LOOKS_S))


class Transport:
    """The network of one process."""

    def __init__(self, process: Process, platform: Platform) -> None:
        self._process, self._platform = process, platform
        self.last: Connection | None = None

    def check(self, url: str) -> None:
        pass

    def send(self, method: str, url: str, *, headers: Any, body: bytes | None = None, timeout_s: float) -> Connection:
        process = self._process
        process.step()
        self.last = None
        report = json.loads(body) if body is not None else {}
        kind = POLL if "/poll/" in url else LOOK
        if body is not None:
            kind = EXTENSION if "extendLease" in report else REPORT
        found = Connection(process, world.now + timeout_s, kind, report.get("taskId", ""))
        found.is_final = report.get("status") != "IN_PROGRESS"
        if kind == EXTENSION:
            process.in_the_air.add(found.task_id)
        found.is_beside = found.task_id in process.in_the_air
        if kind == REPORT:
            found.is_question, process.is_asking = process.is_asking, False
        if kind == REPORT and found.is_final and not found.is_question:
            process.checker.sent(process, found.task_id)
        fault = self._platform.fault(kind)
        if fault is not None and fault.what != "tardy":
            unheard_s = timeout_s if fault.what == "unheard" else 0.0
            process.any_trouble_until = max(process.any_trouble_until, world.now + max(fault.seconds, unheard_s))
            if kind != REPORT or not found.is_final:
                process.trouble(fault.seconds)
            world.tell("%s is to be %s", kind, fault.what)
            if fault.what == "unreachable":
                process.in_the_air.discard(found.task_id)
                raise TransportError("unreachable", sent=False)
        self.last = found
        self._platform.exchange(found, kind, url, report, fault)
        self._cap(found, fault is not None and fault.what == "tardy")
        return found

    def _cap(self, found: Connection, is_tardy: bool) -> None:
        """Who waits further out must not wait longer for this."""
        cap = max(world.now + 0.001, world.horizon)
        if self._process.stepping is None and found.ready_at > cap and not is_tardy:
            if found.ready_at > cap + 0.1 and isinstance(found.result, Response):
                found.result = TransportError("the connection broke", sent=True)
            found.ready_at = cap

# SPDX-License-Identifier: Apache-2.0
"""A slot: what ``slots.py`` does, as a generator, so that functions and replies are waited for side by side. What it
yields is the reply that it awaits, the time until which its function runs, or why it waits."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from .loading import part
from .network import Connection
from .world import NEVER, Condition, world

if TYPE_CHECKING:
    from .checker import Run
    from .process import Process

wire, clients, helds = part("conductor.wire"), part("conductor.client"), part("worker.keeping.held")
backoffs = part("worker.polling.backoff")
Case, Verdict, TaskStatus = part("worker.keeping.retries").Case, wire.Verdict, wire.TaskStatus
BROKE_OFF = clients.Outcome(Verdict.MAYBE, "the report broke off")
TICK_S = 1e-9  # what a difference of two clocks may be wrong by
TOP = "when nobody else waits"
PARKED = "until there is a turn"


class Call:
    """One run of a function, which can't be ended early."""

    reason = ""
    is_told = False

    def cancel(self, reason: str) -> bool:
        self.reason = reason
        return False

    def resume(self) -> bool:
        return True


class Slot:
    def __init__(self, process: Process, number: int) -> None:
        self.process, self.number = process, number
        self.has_ended = self.is_parked = self.is_reporting = False
        self.free_since = world.now
        self._work = self._works()
        self._condition: Condition | None = None
        self._turn = 0
        self._next: tuple[Any, Connection | None] | tuple[list[Any], float] | None = None

    # -- its turns -----------------------------------------------------------------------------------

    def step(self) -> None:
        process = self.process
        before, process.stepping = process.stepping, self
        try:
            awaited = next(self._work, None)
        finally:
            process.stepping = before
        if awaited is None:
            self.has_ended = True
        elif isinstance(awaited, Connection):
            if awaited.ready_at < NEVER:
                world.at(max(awaited.ready_at, world.now), process, self.step)
            else:
                awaited.waiter = self
        elif awaited is TOP:
            process.postponed += 1
            world.at_the_top(process, self._at_the_top)
        elif awaited is not PARKED:
            world.at(awaited, process, self.step)

    def _at_the_top(self) -> None:
        self.process.postponed -= 1
        self.step()

    def park(self, condition: Condition, timeout_s: float | None) -> None:
        self._turn += 1
        self.is_parked, self._condition = True, condition
        condition.parked.append(self)
        self.process.stopping.is_unwinding = True
        if timeout_s is not None:
            world.at(world.now + max(timeout_s, TICK_S), self.process, partial(self._wake, self._turn))

    def unpark(self) -> None:
        world.at(world.now, self.process, partial(self._wake, self._turn))

    def _wake(self, turn: int) -> None:
        if self.is_parked and turn == self._turn:
            self.is_parked = False
            if self._condition is not None and self in self._condition.parked:
                self._condition.parked.remove(self)
            self.step()

    # -- what slots.py does ------------------------------------------------------------------------------

    def _works(self) -> Iterator[Any]:
        process = self.process
        while True:
            following, self._next = self._next, None
            if following is None:
                sent = self._taken()
                if sent is None:
                    if process.stopping.flag:
                        return
                    yield PARKED
                    continue
                following = (sent, process.transport.last)
            sent, awaited = following
            if isinstance(sent, list):
                tasks, given_at = sent, awaited
            else:
                if awaited is not None:
                    yield awaited
                tasks, given_at = process.gate.fetched(sent)
            if tasks:
                yield from self._does(tasks[0], tasks[1:], given_at)

    def _taken(self) -> Any:
        process = self.process
        process.taking = self
        try:
            return process.gate.take()
        finally:
            process.taking, process.stopping.is_unwinding = None, False

    def _hands_back(self, tasks: list[Any], given_at: float) -> Iterator[Any]:
        for task in tasks:
            yield TOP
            self.process.custody.hand_back(task, "agent", self.process.name, given_at)

    def _does(self, task: Any, surplus: list[Any], given_at: float) -> Iterator[Any]:
        process, custody = self.process, self.process.custody
        if process.stopping.flag:
            yield from self._hands_back([task, *surplus], given_at)
            return
        self.free_since = NEVER
        held = custody.hold(task, "agent", process.name, given_at)
        if task.retried_task_id:
            yield TOP  # the platform may be asked for an attempt of before
        accepted = custody.accept(held, task) if held is not None else None
        yield from self._hands_back(surplus, given_at)
        if held is not None and accepted is not None:
            case, result = accepted
            if case is not Case.RUNS:
                run = None
                if result is None:
                    run = process.checker.begins(process, task)
                    yield from self._runs(held, run)
                    result = run.result(process.name)
                owed = custody.finish(held, result)
                if run is not None:
                    process.checker.ended(run)
                if owed is not None:
                    yield from self._reports(owed, result.status)
                    custody.record(held, task, result)
                    if held.earlier is not None:
                        custody.delivery.supersede(held.earlier)
        self.free_since = world.now

    def _runs(self, held: Any, run: Run) -> Iterator[Any]:
        held.call, held.began_at = Call(), world.now - self.process.slept_s
        self.process.custody.register.move(held, helds.RUNNING)
        yield world.now + run.seconds
        held.ended_s = 1.0 + world.now

    def _reports(self, held: Any, status: Any) -> Iterator[Any]:
        custody = self.process.custody
        if status is TaskStatus.IN_PROGRESS:
            yield TOP
            custody.put_back(held)
            return
        body, outcome = held.entry.body, BROKE_OFF
        if custody.pace.wait_s(backoffs.REPORT) > 0:
            custody.delivery.post(held)
            return
        if self.process.client.can_report_and_poll or world.rand.random() < 0.8:
            yield TOP  # an extension of it that is on its way is waited for
        try:
            custody.delivery.attempt_starts(held)
            outcome = yield from self._sent(held, body)
        finally:
            if not self.process.is_dead:
                custody.delivery.attempt_ended(held, outcome)

    def _sent(self, held: Any, body: bytes) -> Iterator[Any]:
        process, gate, client = self.process, self.process.gate, self.process.client
        if not client.can_report_and_poll:
            exchange = client.send_report(body, held.ids, min(clients.REPORT_TIMEOUT_S, held.lease.period_s))
            reply = process.transport.last
            self.is_reporting = True
            poll = gate.go_on(held.given_at)
            if poll is not None:
                self._next = (gate.send(poll), process.transport.last)
            if reply is not None:
                yield reply
            self.is_reporting = False
            return exchange.fetch()
        if not gate.go_on(held.given_at):
            return client.report(body, held.ids)
        outcome, tasks = client.report_and_poll(body, held.ids)
        gate.chained(len(tasks))
        if tasks:
            self._next = (tasks, held.sent_at)
        return outcome

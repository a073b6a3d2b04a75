# SPDX-License-Identifier: Apache-2.0
"""The loop of one slot: take a task, run its function, report the result. A slot is one thread that does one task at a
time; it polls only while it is free."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from functools import partial
from typing import Callable, NamedTuple

from ..agents import Agent
from ..conductor.client import REPORT_TIMEOUT_S, Client, Outcome
from ..conductor.wire import Task, TaskResult, TaskStatus, Verdict
from .keeping.custody import Custody
from .keeping.held import RUNNING, Held, failure
from .keeping.retries import Case
from .keeping.timetable import Timetable
from .polling.backoff import REPORT
from .polling.gate import Gate, Sent, Taken
from .running.context import Call
from .running.event_loop import GRACE_S, AsyncRunner, SharedLoop
from .running.execute import execute
from .watched import Counts

log = logging.getLogger(__name__)

RESTART_PAUSE_S = 0.25
ALONE_BYTES = 1 << 20  # of a report that may be long on its way: a task that came beside it would wait for its run


class Services(NamedTuple):
    """The parts that all slots of a worker share."""

    client: Client
    custody: Custody
    upkeep: Timetable[Callable[[], float | None]]
    stopping: threading.Event
    counts: Counts
    shared_loop: SharedLoop


class Slot:
    """One place for one task of one agent; its thread runs :meth:`run`."""

    def __init__(self, agent: Agent, gate: Gate, timeout_s: float | None, services: Services) -> None:
        self._agent, self._gate, self._timeout_s = agent, gate, timeout_s
        self._services, self._custody = services, services.custody
        self._loop = AsyncRunner()
        self._run_async = services.shared_loop.run if agent.loop == "shared" else self._loop.run
        self._held: Held | None = None
        self._next: Sent | Taken | None = None  # the poll sent beside the last report, or the tasks of its reply

    def run(self) -> None:
        """Take and run tasks until the drain. An error of the slot itself is logged and fails the task in hand; the
        slot goes on."""
        while True:
            try:
                self._take_and_work()
                self._loop.close()
                return
            except BaseException as error:
                log.critical("A slot of %s failed; it goes on", self._gate.agent_id, exc_info=True, extra=_FAILED)
                held, self._held = self._held, None
                if held is not None:
                    self._custody.rescue(held, error)
                if self._services.stopping.wait(RESTART_PAUSE_S) and self._next is None:  # no poll is in flight
                    return

    def _take_and_work(self) -> None:
        while (taken := self._taken()) is not None:
            given, given_at = taken
            tasks = list({task.task_id: task for task in given}.values())
            if tasks:
                self._work(tasks[0], tasks[1:], given_at)

    def _taken(self) -> Taken | None:
        """The reply to the poll that was sent beside the last report, or else to a new poll."""
        following, self._next = self._next, None
        if following is None:
            return self._gate.take()
        return self._gate.fetch(following) if isinstance(following, Sent) else following

    def _work(self, task: Task, surplus: Sequence[Task], given_at: float) -> None:
        """One task, from the platform's reply to the report's; and what came with it, which nobody asked for."""
        custody, gate, held = self._custody, self._gate, None
        if self._services.stopping.is_set():
            surplus = [task, *surplus]
        else:
            self._held = held = custody.hold(task, gate.agent_id, gate.worker_id, given_at)
        accepted = custody.accept(held, task) if held is not None else None
        for unasked in surplus:  # the lease of the task in hand is kept meanwhile
            custody.hand_back(unasked, gate.agent_id, gate.worker_id, given_at)
        if held is None or accepted is None:
            return
        case, result = accepted
        if case is not Case.RUNS:
            result = result or self._run(held, task)
            owed = custody.finish(held, result)
            if owed is not None:
                try:
                    self._report(owed, result.status)
                finally:  # a report that breaks off is repeated by the delivery
                    custody.record(held, task, result)
                if held.earlier is not None:
                    custody.delivery.supersede(held.earlier)
        self._held = None

    def _run(self, held: Held, task: Task) -> TaskResult:
        services, timeout_s = self._services, self._timeout_s
        held.call = call = Call()
        held.began_at, held.thread_id = time.monotonic(), threading.get_ident()
        self._custody.register.move(held, RUNNING)
        services.counts.started(held.entry.agent_id, task)
        status = TaskStatus.FAILED
        out_of_time = None
        if timeout_s is not None:
            out_of_time = partial(self._out_of_time, held, call, timeout_s)
            services.upkeep.put(out_of_time, timeout_s)
        try:
            stopping, run_async = services.stopping, self._run_async
            result = execute(self._agent, task, self._gate.worker_id, stopping=stopping, run_async=run_async, call=call)
            status = result.status
            return result
        finally:
            held.ended_s = time.time()
            services.counts.executed(held.entry.agent_id, time.monotonic() - held.began_at, status)
            if out_of_time is not None:
                services.upkeep.drop(out_of_time)

    def _out_of_time(self, held: Held, call: Call, timeout_s: float) -> float | None:
        """Called by the upkeep thread. A coroutine is cancelled, and looked at again after its grace; any other
        function can't be stopped."""
        reason, was_told = f"the function ran longer than its timeout of {timeout_s:g} s", bool(call.reason)
        if call.cancel(reason) and not was_told:
            return GRACE_S
        owed = self._custody.give_up(held, failure(held, TaskStatus.FAILED, reason))
        if owed is not None:
            extra = owed.said("out_of_time")
            log.error("Task %s: %s; its slot is lost until it ends", owed.ids[0], reason, extra=extra)
        return None

    def _report(self, held: Held, status: TaskStatus) -> None:
        """Report a result, and ask for the next task in the same exchange or beside it."""
        if status is TaskStatus.IN_PROGRESS:
            self._held = None
            self._custody.put_back(held)
            return
        delivery, body, outcome = self._custody.delivery, held.entry.body, _BROKE_OFF
        if self._custody.pace.wait_s(REPORT) > 0:  # the platform refuses reports: the delivery has its turn
            delivery.post(held)
            self._held = None
            return
        try:
            delivery.attempt_starts(held)
            self._held = None
            if not held.is_over:  # by a rerun, while the disk was waited for, or an extension on its way
                outcome = self._sent(held, body)
        finally:
            took_s = time.monotonic() - held.sent_at
            self._services.counts.reported(held.entry.agent_id, took_s, outcome.verdict, len(body))
            delivery.attempt_ended(held, outcome)

    def _sent(self, held: Held, body: bytes) -> Outcome:
        client, gate = self._services.client, self._gate
        if len(body) > ALONE_BYTES:
            return client.report(body, held.ids)
        if not client.can_report_and_poll:
            # The report is given up in time for the lease of the task that the poll may bring; the delivery repeats it.
            exchange = client.send_report(body, held.ids, min(REPORT_TIMEOUT_S, held.lease.period_s))
            poll = gate.go_on(held.given_at)
            self._next = gate.send(poll) if poll is not None else None
            return exchange.fetch()
        if not gate.go_on(held.given_at):
            return client.report(body, held.ids)
        tasks: list[Task] = []
        try:
            outcome, tasks = client.report_and_poll(body, held.ids)
            return outcome
        finally:
            gate.chained(len(tasks))
            if tasks:
                self._next = (tasks, held.sent_at)


_BROKE_OFF = Outcome(Verdict.MAYBE, "the report broke off")
_FAILED = {"action": "slot_failed"}

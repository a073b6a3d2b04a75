"""The loop of one slot: take a task, run its function, report the result.

A slot is one thread that does one task at a time; it polls only while it is free.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from typing import Any, Callable, NamedTuple

from ..agents import Agent
from ..conductor.client import Client, Outcome
from ..conductor.wire import Task, TaskResult, TaskStatus, Verdict, encode
from .async_loop import AsyncRunner
from .delivery import Delivery
from .execute import execute
from .gate import Gate
from .jobs import Execution, Job, Jobs
from .journal import ONCE, RESULT, TAKEN, Entry, Journal, input_hash
from .lease import Lease, LeaseKeeper
from .timetable import Timetable

log = logging.getLogger(__name__)

RESTART_PAUSE_S = 0.25
COPIES_ALLOWED = 1


class Services(NamedTuple):
    """What all slots of a worker share."""

    client: Client
    journal: Journal
    leases: LeaseKeeper
    delivery: Delivery
    jobs: Jobs
    upkeep: Timetable[Callable[[], float | None]]
    stopping: threading.Event
    on_execution: Callable[[Execution], None] | None


class Slot:
    """One place for one task of one agent; its thread runs :meth:`run`."""

    def __init__(self, agent: Agent, gate: Gate, timeout_s: float | None, services: Services) -> None:
        self._agent = agent
        self._gate = gate
        self._timeout_s = timeout_s
        self._services = services
        self._loop = AsyncRunner()
        self._job: Job | None = None

    def run(self) -> None:
        """Until the drain; what fails here is said, the task in hand fails, and the slot goes on."""
        while True:
            try:
                self._take_and_work()
                self._loop.close()
                return
            except BaseException as error:
                log.critical("A slot of %s failed; it goes on", self._gate.agent_id, exc_info=True, extra=_FAILED)
                self._abandon(error)
                self._services.stopping.wait(RESTART_PAUSE_S)

    def _take_and_work(self) -> None:
        while (taken := self._gate.take()) is not None:
            tasks, given_at = taken
            while tasks:
                for surplus in tasks[1:]:
                    self._hand_back(surplus)
                tasks, given_at = self._work(tasks[0], given_at)

    def _work(self, task: Task, given_at: float) -> tuple[list[Task], float]:
        """One task from the platform's reply to the report's reply, which may bring the next."""
        if self._services.stopping.is_set():
            self._hand_back(task)
            return _NOTHING
        if not self._services.jobs.hold(task.task_id):
            self._copy_came(task)
            return _NOTHING
        self._job = job = self._accept(task, given_at)
        known = self._known_result(job)
        result = known or self._run(job)
        self._job = None
        if not job.claim():
            self._services.jobs.count_stuck(-1 if job.is_stuck else 0)
            return _NOTHING
        reply = self._report(job, result)
        if known is None:
            self._record(job, result)
        return reply

    def _accept(self, task: Task, given_at: float) -> Job:
        """Write down that it starts, before the function's first line, and keep its lease from now on."""
        services, now_s = self._services, time.time()
        lease = Lease(task.task_id, task.workflow_instance_id, self._gate.worker_id, task.response_timeout_s)
        services.leases.track(lease, given_at)
        entry = self._entry(TAKEN, task, lease, now_s)
        job = Job(task, self._gate.agent_id, lease, entry, now_s)
        job.row = services.journal.add(entry)
        return job

    def _entry(self, state: str, task: Task, lease: Lease, now_s: float) -> Entry:
        return Entry(
            state,
            task.task_id,
            task.workflow_instance_id,
            self._gate.agent_id,
            self._gate.worker_id,
            input_hash=input_hash(task),
            taken_ms=int(now_s * 1000),
            lease_until_ms=lease.until_ms,
            lease_s=lease.lease_s,
            task=encode(task.wire) if self._services.on_execution is not None and not task.fault else b"",
        )

    def _known_result(self, job: Job) -> TaskResult | None:
        """The result of a task that need not, or can't, be run."""
        if job.task.fault:
            return _failure(job, TaskStatus.FAILED_WITH_TERMINAL_ERROR, job.task.fault)
        body = self._services.journal.find_late(job.task, job.agent_id)
        if body is None:
            return None
        text = "Task %s retries %s, which completed here too late to count: that result is sent again"
        log.info(text, job.task.task_id, job.task.retried_task_id, extra={"action": "late_result_reused"})
        return _from_body(body, job)

    def _run(self, job: Job) -> TaskResult:
        services, timeout_s = self._services, self._timeout_s
        services.jobs.started(job)
        if timeout_s is not None:
            services.upkeep.put(job, lambda: self._out_of_time(job, timeout_s), timeout_s)
        try:
            return execute(
                self._agent, job.task, self._gate.worker_id, stopping=services.stopping, run_async=self._loop.run
            )
        finally:
            services.jobs.ended(job)
            if timeout_s is not None:
                services.upkeep.drop(job)

    def _report(self, job: Job, result: TaskResult) -> tuple[list[Task], float]:
        services = self._services
        entry = finished(job, result)
        tasks: list[Task] = []
        sent_at = time.monotonic()
        if result.status is TaskStatus.IN_PROGRESS:
            self._send_once(job.row, entry, job.lease)
        else:
            services.journal.replace(job.row, entry)
            parcel = services.delivery.parcel(job.row, entry, job.lease)
            if self._gate.may_chain():
                outcome, tasks = self._report_and_take(parcel.entry.body, parcel.ids)
            else:
                outcome = services.client.report(parcel.entry.body, parcel.ids)
            services.delivery.settle(parcel, outcome)
        return tasks, sent_at

    def _report_and_take(self, body: bytes, ids: tuple[str, ...]) -> tuple[Outcome, list[Task]]:
        tasks: list[Task] = []
        try:
            outcome, tasks = self._services.client.report_and_poll(body, ids)
            return outcome, tasks
        finally:
            self._gate.chained(len(tasks))

    def _send_once(self, row: int, entry: Entry, lease: Lease) -> None:
        """An IN_PROGRESS, which puts the task back in the queue: sent twice it would give the task to
        somebody else while a third runs it. So it is marked as sent before it is sent, once."""
        services = self._services
        services.leases.drop(lease)
        services.journal.replace(row, entry._replace(state=ONCE))
        outcome = services.client.report(entry.body, (entry.task_id, entry.workflow_id))
        if outcome.verdict is not Verdict.APPLIED:
            text = "Task %s could not be put back (%s); it comes back when its response timeout is over"
            log.warning(text, entry.task_id, outcome.reason, extra={"action": "put_back_failed"})
        services.journal.free(row)
        services.jobs.release(entry.task_id)

    def _hand_back(self, task: Task) -> None:
        """Return a task that was given to us and will not be started here."""
        lease = Lease(task.task_id, task.workflow_instance_id, self._gate.worker_id, task.response_timeout_s)
        if not self._services.jobs.hold(task.task_id):
            return
        wire = TaskResult(task.task_id, task.workflow_instance_id, TaskStatus.IN_PROGRESS, callback_after_seconds=0)
        wire.worker_id = self._gate.worker_id
        entry = self._entry(ONCE, task, lease, time.time())._replace(body=encode(wire.to_wire()))
        log.info("Task %s is handed back", task.task_id, extra={"action": "hand_back", "task_id": task.task_id})
        self._send_once(self._services.journal.add(entry), entry, lease)

    def _copy_came(self, task: Task) -> None:
        """A poll returned a task that is held here: neither run nor reported a second time."""
        log.warning("Task %s came again while it is held here", task.task_id, extra={"action": "copy_ignored"})
        if self._services.jobs.copies > COPIES_ALLOWED:
            self._services.leases.give_up()

    def _out_of_time(self, job: Job, timeout_s: float) -> None:
        """Called by the upkeep thread: the function is still running and can't be stopped."""
        if job.claim():
            job.is_stuck = True
            self._services.jobs.count_stuck(1)
            self._fail(job, TaskStatus.FAILED, f"the function ran longer than its timeout of {timeout_s:g} s")

    def _abandon(self, error: BaseException) -> None:
        job, self._job = self._job, None
        if job is not None and job.claim():
            self._services.jobs.ended(job)
            self._fail(job, TaskStatus.FAILED, f"the worker failed: {type(error).__name__}")

    def _fail(self, job: Job, status: TaskStatus, reason: str) -> None:
        services = self._services
        result = _failure(job, status, reason)
        entry = finished(job, result)
        services.leases.drop(job.lease)
        services.journal.replace(job.row, entry)
        services.delivery.post(services.delivery.parcel(job.row, entry, job.lease))
        self._record(job, result)

    def _record(self, job: Job, result: TaskResult) -> None:
        """Tell the history, after the report: it can neither delay nor stop one."""
        if self._services.on_execution is None:
            return
        try:
            execution = Execution(job.agent_id, self._gate.worker_id, job.task, result, job.started_s, time.time())
            self._services.on_execution(execution)
        except Exception:
            log.exception("Task %s was not recorded", job.task.task_id, extra={"action": "record_failed"})


def finished(job: Job, result: TaskResult) -> Entry:
    """The journal's entry of a job that has a result."""
    return job.entry._replace(
        state=RESULT,
        status=result.status.value,
        body=encode(result.to_wire()),
        lease_until_ms=job.lease.until_ms,
        task=b"",
    )


def _failure(job: Job, status: TaskStatus, reason: str) -> TaskResult:
    task = job.task
    result = TaskResult(task.task_id, task.workflow_instance_id, status, reason_for_incompletion=reason)
    result.worker_id = job.lease.worker_id
    return result


def _from_body(body: bytes, job: Job) -> TaskResult:
    """A stored report, addressed anew."""
    wire: dict[str, Any] = json.loads(body)
    result = TaskResult(job.task.task_id, job.task.workflow_instance_id, wire["status"], wire.get("outputData"))
    result.worker_id = job.lease.worker_id
    return result


_NOTHING: tuple[list[Task], float] = ([], 0.0)
_FAILED = {"action": "slot_failed"}

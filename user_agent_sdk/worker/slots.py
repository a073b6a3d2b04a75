# SPDX-License-Identifier: Apache-2.0
"""The loop of one slot: take a task, run its function, report the result.

A slot is one thread that does one task at a time; it polls only while it is free.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from typing import Callable, NamedTuple

from ..agents import Agent
from ..conductor.client import REPORT_TIMEOUT_S, Client, Outcome
from ..conductor.wire import REASON_MAX_CHARS, Task, TaskResult, TaskStatus, Verdict
from .keeping.delivery import Delivery
from .keeping.jobs import Execution, Job, Jobs
from .keeping.journal import Journal, input_hash
from .keeping.journal_file import ONCE, RESULT, TAKEN, Entry, object_in
from .keeping.lease import Lease, LeaseKeeper
from .keeping.timetable import Timetable
from .polling.backoff import Backoff
from .polling.gate import Gate, Sent, Taken
from .running.event_loop import AsyncRunner
from .running.execute import execute
from .watched import Counts

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
    counts: Counts
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
        self._next: Sent | Taken | None = None  # the poll that was sent beside the last report, or what came with it

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
                if self._services.stopping.wait(RESTART_PAUSE_S) and self._next is None:  # else a task may be in it
                    return

    def _take_and_work(self) -> None:
        while (taken := self._taken()) is not None:
            tasks, given_at = taken
            different = list({task.task_id: task for task in tasks}.values())
            for surplus in different[1:]:
                self._hand_back(surplus)
            for task in different[:1]:
                self._work(task, given_at)

    def _taken(self) -> Taken | None:
        """What the poll brought that was sent beside the last report, or else a new one."""
        following, self._next = self._next, None
        if following is None:
            return self._gate.take()
        return self._gate.fetch(following) if isinstance(following, Sent) else following

    def _work(self, task: Task, given_at: float) -> None:
        """One task, from the platform's reply to the report's."""
        services = self._services
        if services.stopping.is_set():
            self._hand_back(task)
            return
        if not services.jobs.hold(task.task_id):
            self._copy_came(task)
            return
        job = self._accept(task, given_at)
        if self._runs_already(job):
            return
        known = self._known_result(job)
        result = known or self._run(job)
        if not job.finish(result):
            services.jobs.ended(job)
            self._job = None
            return
        self._report(job, result)
        if known is None:
            self._record(job, result)
        elif task.retried_task_id:
            services.delivery.supersede(task.retried_task_id)

    def _accept(self, task: Task, given_at: float) -> Job:
        """Write down that it starts, before the function's first line, and keep its lease from now on."""
        services, now_s = self._services, time.time()
        lease = self._lease(task)
        services.leases.begin(lease, given_at)
        self._job = job = Job(task, self._entry(TAKEN, task, lease, now_s), lease, now_s, given_at)
        job.row = services.journal.add(job.entry)
        services.leases.track(lease)
        return job

    def _lease(self, task: Task) -> Lease:
        return Lease(task.task_id, task.workflow_instance_id, self._gate.worker_id, task.response_timeout_s)

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
            task=task.raw if self._services.on_execution is not None else b"",
        )

    def _runs_already(self, job: Job) -> bool:
        """Whether an earlier try of the same work still runs here (its lease lapsed in an outage, and the
        platform retries it): its result is then reported for this one."""
        retried = job.task.retried_task_id
        earlier = self._services.jobs.find(retried) if retried else None
        if earlier is None or not job.entry.is_same_work(earlier.entry) or not earlier.answers(job):
            return False
        text = "Task %s retries %s, which still runs here: it is not run again, its result will count for the retry"
        log.warning(text, job.task.task_id, retried, extra={"action": "running_task_reused"})
        self._job = None
        self._forget(job)
        return True

    def _forget(self, job: Job) -> None:
        """Nothing will be reported to this job's address."""
        self._services.leases.drop(job.lease)
        self._services.journal.free(job.row)
        self._services.jobs.release(job.entry.task_id)

    def _known_result(self, job: Job) -> TaskResult | None:
        """The result of a task that need not, or can't, be run."""
        if job.task.fault:
            return _failure(job, TaskStatus.FAILED_WITH_TERMINAL_ERROR, job.task.fault)
        retried = job.task.retried_task_id
        if not retried:
            return None
        result = None
        earlier = self._services.jobs.find(retried)  # it ended just now, and is not in the journal yet
        if earlier is not None and earlier.result is not None and job.entry.is_same_work(earlier.entry):
            result = earlier.result if earlier.result.status is TaskStatus.COMPLETED else None
        body = self._services.journal.find_result(retried, job.entry) if result is None else None
        report = object_in(body) if body is not None else None
        if result is None and report is None:
            return None
        text = "Task %s retries %s, which completed here too late to count: that result is sent again"
        log.info(text, job.task.task_id, retried, extra={"action": "late_result_reused"})
        output = result.output_data if result is not None else (report or {}).get("outputData")
        return TaskResult(status=TaskStatus.COMPLETED, output_data=output, worker_id=self._gate.worker_id)

    def _run(self, job: Job) -> TaskResult:
        services, timeout_s = self._services, self._timeout_s
        services.jobs.started(job)
        services.counts.started(job.entry.agent_id)
        started_at, status = time.monotonic(), TaskStatus.FAILED
        if timeout_s is not None:
            services.upkeep.put(job, lambda: self._out_of_time(job, timeout_s), timeout_s)
        try:
            result = execute(
                self._agent, job.task, self._gate.worker_id, stopping=services.stopping, run_async=self._loop.run
            )
            status = result.status
            return result
        finally:
            job.ended_s, job.took_s = time.time(), time.monotonic() - started_at
            services.counts.executed(job.entry.agent_id, job.took_s, status)
            if timeout_s is not None:
                services.upkeep.drop(job)

    def _report(self, job: Job, result: TaskResult) -> None:
        """Report a result, and ask for the next task in the same exchange or beside it."""
        services, entry = self._services, finished(job, result)
        if result.status is TaskStatus.IN_PROGRESS:
            services.leases.drop(job.lease)
            services.journal.replace(job.row, entry._replace(state=ONCE))
            services.jobs.ended(job)
            self._job = None
            self._send_once(job.row, entry)
            return
        services.journal.replace(job.row, entry)
        services.jobs.ended(job)
        parcel = services.delivery.parcel(job.row, entry, job.lease)
        services.delivery.begin(parcel)
        outcome, sent_at = _BROKE_OFF, time.monotonic()
        try:
            if not services.client.can_report_and_poll:
                # Given up in time for the lease of the task that the poll may bring; the delivery sends it again.
                timeout_s = min(REPORT_TIMEOUT_S, job.lease.period_s)
                exchange = services.client.send_report(entry.body, parcel.ids, timeout_s)
                poll = self._gate.go_on(job.given_at)
                self._next = self._gate.send(poll) if poll is not None else None
                outcome = exchange.fetch()
            elif self._gate.go_on(job.given_at):
                outcome = self._report_and_take(entry.body, parcel.ids, sent_at)
            else:
                outcome = services.client.report(entry.body, parcel.ids)
        finally:
            self._job = None
            services.counts.reported(entry.agent_id, time.monotonic() - sent_at, outcome.verdict, len(entry.body))
            services.delivery.settle(parcel, outcome)

    def _report_and_take(self, body: bytes, ids: tuple[str, ...], sent_at: float) -> Outcome:
        tasks: list[Task] = []
        try:
            outcome, tasks = self._services.client.report_and_poll(body, ids)
            return outcome
        finally:
            self._gate.chained(len(tasks))
            if tasks:
                self._next = (tasks, sent_at)

    def _send_once(self, row: int, entry: Entry) -> None:
        """An IN_PROGRESS, which puts the task back in the queue: sent twice it would give the task to
        somebody else while a third runs it. So its row says so before it is sent, once."""
        services = self._services
        services.jobs.release(entry.task_id)  # another slot may get it before the reply is here
        sent_at, pauses = time.monotonic(), Backoff(random.random)
        try:
            while True:
                outcome = services.client.report(entry.body, (entry.task_id, entry.workflow_id))
                services.counts.reported(entry.agent_id, time.monotonic() - sent_at, outcome.verdict)
                was_never_heard = outcome.verdict is Verdict.LATER and not outcome.status
                if not (was_never_heard or outcome.verdict is Verdict.AUTH) or services.stopping.wait(pauses.failed()):
                    break
            if outcome.verdict is not Verdict.APPLIED:
                text = "Task %s could not be put back (%s); it comes back when its response timeout is over"
                log.warning(text, entry.task_id, outcome.reason, extra={"action": "put_back_failed"})
        finally:
            services.journal.free(row)

    def _hand_back(self, task: Task) -> None:
        """Return a task that was given to us and will not be started here."""
        if not self._services.jobs.hold(task.task_id):
            return  # a copy of one that is held
        wire = TaskResult(task.task_id, task.workflow_instance_id, TaskStatus.IN_PROGRESS, callback_after_seconds=0)
        wire.worker_id = self._gate.worker_id
        entry = self._entry(ONCE, task, self._lease(task), time.time())._replace(body=wire.to_json(), task=b"")
        self._send_once(self._services.journal.add(entry), entry)
        log.info("Task %s is handed back", task.task_id, extra={"action": "hand_back"})

    def _copy_came(self, task: Task) -> None:
        """A poll returned a task that is held here: neither run nor reported a second time."""
        log.warning("Task %s came again while it is held here", task.task_id, extra={"action": "copy_ignored"})
        held = self._services.jobs.find(task.task_id)
        was_extended = held is not None and held.lease.flight is not None  # else it is the queue that gave it twice
        if was_extended and self._services.jobs.copy_came() > COPIES_ALLOWED:
            self._services.leases.give_up()

    def _out_of_time(self, job: Job, timeout_s: float) -> None:
        """Called by the upkeep thread: the function is still running and can't be stopped."""
        reason = f"the function ran longer than its timeout of {timeout_s:g} s"
        result = _failure(job, TaskStatus.FAILED, reason)
        if job.give_up(result):
            log.error("Task %s: %s; its slot is lost until it ends", job.entry.task_id, reason, extra=_OUT_OF_TIME)
            self._services.leases.drop(job.lease)
            self._post(job, result)

    def _abandon(self, error: BaseException) -> None:
        """Something broke in this loop: its task must not hang with it."""
        job, self._job = self._job, None
        if job is None:
            return
        try:
            result = job.result or _failure(job, TaskStatus.FAILED, f"the worker failed: {type(error).__name__}")
            if job.finish(result):
                self._post(job, result)
            self._services.jobs.ended(job)
        except Exception:
            log.critical("Task %s is left to its lease", job.task.task_id, exc_info=True, extra=_FAILED)
            self._services.jobs.ended(job)
            self._forget(job)

    def _post(self, job: Job, result: TaskResult) -> None:
        """Report by way of the delivery; no slot waits for it."""
        entry = finished(job, result)
        self._services.journal.replace(job.row, entry)
        self._services.delivery.post(self._services.delivery.parcel(job.row, entry, job.lease))
        self._record(job, result)

    def _record(self, job: Job, result: TaskResult) -> None:
        """Tell the history, after the report: it can neither delay nor stop one."""
        if self._services.on_execution is None:
            return
        try:
            execution = Execution(
                job.entry.agent_id, self._gate.worker_id, job.task, result, job.started_s, job.ended_s or time.time()
            )
            self._services.on_execution(execution)
        except Exception:
            log.exception("Task %s was not recorded", job.task.task_id, extra={"action": "record_failed"})


def finished(job: Job, result: TaskResult) -> Entry:
    """The journal's entry of a job that has a result, which is addressed and, if it can't be sent,
    replaced by a failure that says so."""
    result.task_id, result.workflow_instance_id = job.entry.task_id, job.entry.workflow_id
    try:
        body = result.to_json()
    except (ValueError, TypeError, RecursionError) as error:
        result.status, result.logs = TaskStatus.FAILED_WITH_TERMINAL_ERROR, ()
        result.output_data, result.encoded_output = None, b""
        result.reason_for_incompletion = f"the result can't be sent: {type(error).__name__}: {error}"[:REASON_MAX_CHARS]
        body = result.to_json()
    return job.entry._replace(
        state=RESULT, status=result.status.value, body=body, lease_until_ms=job.lease.until_ms, task=b""
    )


def _failure(job: Job, status: TaskStatus, reason: str) -> TaskResult:
    return TaskResult(status=status, reason_for_incompletion=reason, worker_id=job.lease.worker_id)


_BROKE_OFF = Outcome(Verdict.MAYBE, "the report broke off")
_FAILED = {"action": "slot_failed"}
_OUT_OF_TIME = {"action": "out_of_time"}

# SPDX-License-Identifier: Apache-2.0
"""The made-up platform: a queue, leases and retries.

It behaves as Conductor was seen to: it gives a task away before it answers, takes a result of whoever sends it, says
200 to what it ignores, restarts a lease at an extension, and hands out a retry under a new id when a lease is over.
"""

from __future__ import annotations

import json
from collections import deque
from typing import TYPE_CHECKING, Any

from .network import LOOK, POLL, Connection, Fault, Response
from .world import EPOCH_S, NEVER, world

if TYPE_CHECKING:
    from .checker import Checker
    from .process import Process

SCHEDULED, IN_PROGRESS, COMPLETED, FAILED = "waits", "is out", "completed", "failed"
TIMED_OUT, GONE = "timed out", "gone"
_encode = json.JSONEncoder(separators=(",", ":")).encode
_OK, _EMPTY = Response(200, {}, b""), Response(204, {}, b"")
_DOWN = Response(503, {}, b'{"message":"down"}')
_UNAUTHORIZED = Response(401, {}, b'{"message":"who are you"}')
_DENIED = Response(400, {"content-type": "application/json"}, b'{"message":"not like this"}')


class Work:
    """One step of a workflow: it is to be done once, however many tasks that takes."""

    def __init__(self, number: int, plan: Any) -> None:
        self.number, self.plan = number, plan
        self.is_removed = False
        self.restarts = 0
        self.runs: list[Any] = []
        self.jobs: list[Job] = []

    @property
    def is_done(self) -> bool:
        return any(job.status == COMPLETED for job in self.jobs)


class Job:
    """One task, of a work: its first, or a retry."""

    __slots__ = (
        "copies", "given", "given_at", "holder", "id", "input", "lapsed_at", "lease_until", "read_at", "renewed_at",
        "restarts", "retried", "scheduled_at", "status", "undone_by", "was_long", "was_revived", "work",
    )  # fmt: skip

    def __init__(self, number: int, work: Work, retried: Job | None, given: int) -> None:
        self.work, self.retried, self.input = work, retried, given
        self.restarts = work.restarts  # before
        self.id = f"task-{number}-of-{work.number}"
        self.status, self.scheduled_at = SCHEDULED, world.now
        self.lease_until = NEVER
        self.renewed_at = 0.0
        self.lapsed_at = NEVER
        self.read_at = 0.0  # when its last reply was read by a worker
        self.given = 0  # how often
        self.given_at = 0.0
        self.copies = 0
        self.holder: Process | None = None  # who got it last
        self.was_long = False  # on its way, in the reply to a poll that the platform may have kept for that long
        self.undone_by: Process | None = None  # whose late extension brought it back after its report
        self.was_revived = False  # an extension that was late brought it back, when its lease was over


class Platform:
    def __init__(self, checker: Checker, is_akabot: bool) -> None:
        self._checker, self._is_akabot = checker, is_akabot
        self.knows_extensions = True
        self.faults: list[Fault] = []
        self.mended_at = 0.0
        self.jobs: dict[str, Job] = {}
        self.works: list[Work] = []
        self._queue: deque[Job] = deque()
        self._waiting: list[Connection] = []  # long polls
        self.batch = 1  # how many tasks the next reply with any brings

    def fault(self, kind: str) -> Fault | None:
        for fault in self.faults:
            if kind in fault.kinds and world.rand.random() < fault.share:
                return fault
        return None

    def mend(self, fault: Fault) -> None:
        self.faults.remove(fault)
        self.mended_at = world.now

    # -- the queue -----------------------------------------------------------------------------------

    def submit(self, work: Work) -> None:
        self.works.append(work)
        self._schedule(work, None, work.plan.input)

    def _schedule(self, work: Work, retried: Job | None, given: int) -> None:
        job = Job(len(self.jobs) + 1, work, retried, given)
        self.jobs[job.id] = job
        work.jobs.append(job)
        world.tell("the platform: %s is scheduled%s", job.id, f", a retry of {retried.id}" if retried else "")
        self._push(job)

    def _push(self, job: Job) -> None:
        self._queue.append(job)
        while self._waiting and self._queue:
            waiting = self._waiting.pop(0)
            self._answer_poll(waiting, True)

    def copy(self, number: int) -> None:
        """The queue hands a task out once more that is out already."""
        out = [job for job in self.jobs.values() if job.status == IN_PROGRESS]
        if out:
            job = out[number % len(out)]
            job.copies += 1
            world.tell("the platform: %s is in the queue once more", job.id)
            self._push(job)

    @property
    def queued(self) -> int:
        return len(self._queue)

    @property
    def is_done(self) -> bool:
        return all(work.is_done or work.is_removed for work in self.works) and not any(
            job.status in (IN_PROGRESS, SCHEDULED) for work in self.works if not work.is_removed for job in work.jobs
        )

    def forget(self, work: Work) -> None:
        """Its workflow is removed."""
        world.tell("the platform: the workflow of work %d is removed", work.number)
        work.is_removed = True
        for job in work.jobs:
            job.status = GONE

    def restart(self, work: Work) -> None:
        """Its workflow is restarted: its tasks are removed, and the first one of new ones is scheduled."""
        world.tell("the platform: the workflow of work %d is restarted", work.number)
        work.restarts += 1
        for job in work.jobs:
            job.status = GONE
        self._schedule(work, None, work.plan.input)

    def _give(self, process: Process) -> Job | None:
        while self._queue:
            job = self._queue.popleft()
            if job.status in (SCHEDULED, IN_PROGRESS):
                job.status, job.holder = IN_PROGRESS, process
                job.given, job.given_at, job.lapsed_at = job.given + 1, world.now, NEVER
                self._renew(job)
                return job
        return None

    def _answer_poll(self, poll: Connection, is_batch: bool) -> None:
        poll.answer(self._filled(poll, is_batch) or _EMPTY, world.now + 0.0005 + 0.002 * world.rand.random())

    def _filled(self, poll: Connection, is_batch: bool) -> Any:
        """A reply with the next task, mostly one; None when there is none."""
        batch, self.batch = self.batch, 1
        given = [self._give(poll.process) for _ in range(min(batch, len(self._queue) or 1))]
        poll.jobs = jobs = [job for job in given if job is not None]
        if not jobs:
            self.batch = batch
            return None
        if poll.is_faulty:
            poll.process.trouble(0.0)
        world.tell("the platform: gives %s to %s", ", ".join(job.id for job in jobs), poll.process.name)
        self._checker.given(poll.process, jobs)
        tasks = [self._wire(job) for job in jobs]
        body = (f"[{','.join(tasks)}]" if is_batch or len(tasks) > 1 else tasks[0]).encode()
        return Response(200, {"content-type": "application/json"}, body)

    def _wire(self, job: Job) -> str:
        retried = f'"{job.retried.id}"' if job.retried is not None else "null"
        return (
            f'{{"taskId":"{job.id}","workflowInstanceId":"flow-{job.work.number}","taskType":"agent",'
            f'"referenceTaskName":"step",'
            f'"retriedTaskId":{retried},"pollCount":{job.given},"retryCount":{len(job.work.jobs) - 1},'
            f'"responseTimeoutSeconds":{job.work.plan.lease_s},"inputData":{{"number":{job.input}}},'
            f'"scheduledTime":{int((EPOCH_S + job.scheduled_at) * 1000)},'
            f'"startTime":{int((EPOCH_S + world.now) * 1000)}}}'
        )

    # -- leases ---------------------------------------------------------------------------------------

    def _renew(self, job: Job) -> None:
        is_watched, job.renewed_at = job.lease_until < NEVER, world.now
        job.lease_until = world.now + job.work.plan.lease_s
        if not is_watched:
            world.at(job.lease_until, None, lambda: self._look_at(job))

    def _look_at(self, job: Job) -> None:
        """Is its lease over?"""
        if job.status != IN_PROGRESS:
            job.lease_until = NEVER
        elif world.now < job.lease_until:
            world.at(job.lease_until, None, lambda: self._look_at(job))
        else:
            job.lease_until = NEVER
            world.tell("the platform: the lease of %s is over", job.id)
            job.status, job.lapsed_at = TIMED_OUT, world.now
            self._checker.lapsed(job)
            self._retry(job)

    def _retry(self, job: Job) -> None:
        if not job.work.is_removed:
            given = job.input + 1000 if job.work.plan.changes else job.input
            self._schedule(job.work, job, given)

    # -- exchanges --------------------------------------------------------------------------------------

    def exchange(self, found: Connection, kind: str, url: str, report: dict[str, Any], fault: Fault | None) -> None:
        now, what = world.now, fault.what if fault is not None else ""
        found.is_faulty = fault is not None
        at = now + 0.0005 + 0.002 * world.rand.random()
        late_s = fault.seconds if fault is not None and what in ("late", "slow", "tardy") else 0.0
        if what in ("refused", "unauthorized", "denied"):
            found.answer({"refused": _DOWN, "unauthorized": _UNAUTHORIZED, "denied": _DENIED}[what], at)
            return
        if what == "unheard":
            found.answer(None, NEVER)
            return
        found.is_lost = what == "lost"
        if kind == POLL:
            self._poll(found, url, late_s if what == "slow" else 0.0)
            for job in found.jobs if what == "late" and "/batch/" in url else ():
                job.was_long = True
            if what == "late" and found.ready_at < NEVER:
                found.answer(found.result, found.ready_at + late_s)
        elif kind == LOOK:
            found.answer(self._shown(url), at + late_s)
        elif what == "slow":
            self._slowly(found, report, late_s)
        else:
            found.answer(self._take(found, url, report), at + late_s)

    def _poll(self, found: Connection, url: str, slow_s: float) -> None:
        is_batch = "/batch/" in url
        if slow_s:
            world.at(world.now + slow_s, None, lambda: self._answer_poll(found, is_batch))
        elif self._queue or not is_batch:
            self._answer_poll(found, is_batch)
        else:
            self._waiting.append(found)
            kept_s = int(url.rpartition("timeout=")[2]) / 1000
            world.at(world.now + kept_s, None, lambda: self._give_up(found))
            self._checker.long_poll(found.process)

    def _give_up(self, found: Connection) -> None:
        if found in self._waiting:
            self._waiting.remove(found)
            found.answer(Response(200, {"content-type": "application/json"}, b"[]"), world.now + 0.001)

    def _shown(self, url: str) -> Any:
        job = self.jobs.get(url.rpartition("/")[2])
        if job is None or job.status == GONE:
            return self._unknown(url.rpartition("/")[2])
        shown = {COMPLETED: "COMPLETED", FAILED: "FAILED", TIMED_OUT: "TIMED_OUT"}.get(job.status, "IN_PROGRESS")
        body = _encode({"taskId": job.id, "status": shown}).encode()
        return Response(200, {"content-type": "application/json"}, body)

    def _unknown(self, task_id: str) -> Any:
        body = _encode({"status": 404, "message": f"No such task found by id: {task_id}"}).encode()
        return Response(404, {"content-type": "application/json"}, body)

    def _slowly(self, found: Connection, report: dict[str, Any], slow_s: float) -> None:
        """The platform reads the task, is busy for a while, and writes: it takes no lock, so an extension that read
        before a report came writes "in progress" over it."""
        job = self.jobs.get(report["taskId"])
        was_out = job is not None and job.status == IN_PROGRESS

        def write() -> None:
            undone = was_out and job is not None and "extendLease" in report and job.status in (COMPLETED, TIMED_OUT)
            if undone and job is not None:
                world.tell("the platform: an extension that took %.1f s brings %s back", slow_s, job.id)
                job.was_revived = job.was_revived or job.status == TIMED_OUT
                job.undone_by = found.process
                job.status = IN_PROGRESS
                self._renew(job)
            reply = self._take(found, "", report)
            if isinstance(found.result, Response):
                found.result = reply

        world.at(world.now + slow_s, None, write)
        found.answer(_OK, world.now + slow_s + 0.001)

    def _take(self, found: Connection, url: str, report: dict[str, Any]) -> Any:
        job = self.jobs.get(report["taskId"])
        if job is None or job.status == GONE:
            return self._unknown(report["taskId"])
        if "extendLease" in report:
            if job.status == IN_PROGRESS:
                if not self.knows_extensions:
                    job.status = SCHEDULED
                    self._push(job)
                else:
                    world.tell("the platform: the lease of %s is extended", job.id)
                    self._renew(job)
            return _OK
        self._checker.reported(found.process, job, report)
        if job.status in (IN_PROGRESS, SCHEDULED):
            self._apply(job, report)
        else:
            world.tell("the platform: ignores a report of %s, which is %s", job.id, job.status)
        return (self._filled(found, False) or _EMPTY) if "update-v2" in url else _OK

    def _apply(self, job: Job, report: dict[str, Any]) -> None:
        status = report["status"]
        world.tell("the platform: takes %s of %s", status, job.id)
        if status == "COMPLETED":
            job.status = COMPLETED
        elif status == "IN_PROGRESS":
            job.status = SCHEDULED
            world.at(world.now + report.get("callbackAfterSeconds", 0), None, lambda: self._push(job))
        else:
            job.status = FAILED
            self._retry(job)

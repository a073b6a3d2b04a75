# SPDX-License-Identifier: Apache-2.0
"""What must hold in every history, after Jepsen's total queue: each work is attempted, acknowledged, and neither lost
nor unexpected; it is done a second time only where the history explains that."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from .disk import disk
from .loading import part
from .platform import IN_PROGRESS, Job, Work
from .world import NEVER, world

if TYPE_CHECKING:
    from .platform import Platform
    from .process import Process

wire = part("conductor.wire")
TaskResult, TaskStatus = wire.TaskResult, wire.TaskStatus
FROM_ONE_REPLY = 10  # tasks: more of them are not looked at
SHORT_TURN_S = 0.005
FREE_S = 0.5  # a slot is free, and tasks wait: somebody polls before; turns are measured for most of that
SHORT_POLL_S = part("conductor.client").SHORT_POLL_HOLD_S  # a task may be given away so long after its poll was sent
LINGER_S = 11.0  # a result that an extension may undo, which was not answered, is sent again after that
STOP_S = 8.0  # a stop takes no longer when the platform answers
_OUTCOMES = {"ok": TaskStatus.COMPLETED, "fails": TaskStatus.FAILED, "again": TaskStatus.IN_PROGRESS}


class Violation(NamedTuple):
    rule: str
    text: str


class Run:
    """One attempt: a function was started for a work."""

    def __init__(self, process: Process, job: Job, number: int) -> None:
        plan = job.work.plan
        self.process, self.job, self.input = process, job, job.input
        self.mark = f"run-{number}-of-{job.work.number}."
        self.seconds: float = plan.seconds
        self.outcome = plan.outcomes[number - 1] if number <= len(plan.outcomes) else "ok"
        self.has_ended, self.ended_at = False, 0.0
        self.is_safe = True  # it is on the disk, if its process has died
        self.holder: Process | None = process  # who has its result

    def result(self, worker_id: str) -> Any:
        status = _OUTCOMES[self.outcome]
        again_s = 0 if self.outcome == "again" else None
        output = {"of": self.input, "by": self.mark}
        return TaskResult(status=status, output_data=output, callback_after_seconds=again_s, worker_id=worker_id)


class Checker:
    def __init__(self) -> None:
        self.violations: list[Violation] = []
        self.platform: Platform
        self.processes: list[Process] = []
        self.attempts = self.acknowledged = self.duplicated = 0
        self._runs: dict[str, Run] = {}
        self._puts: dict[str, int] = {}  # by task: how often it was put back
        self._batches: dict[str, list[int]] = {}
        self._beyond: set[str] = set()  # tasks of replies that had more than are looked at

    def fail(self, rule: str, text: str) -> None:
        world.tell("VIOLATION, %s: %s", rule, text)
        self.violations.append(Violation(rule, text))

    # -- tasks come in -----------------------------------------------------------------------------------

    def given(self, process: Process, jobs: list[Job]) -> None:
        if len(jobs) > 1:
            count = [0]
            self._batches.update((job.id, count) for job in jobs)
            self._beyond.update(job.id for job in jobs[FROM_ONE_REPLY:])
        job, free_since = jobs[0], min((slot.free_since for slot in process.slots), default=NEVER)
        waited_s = world.now - max(job.scheduled_at, process.hits_since, free_since)
        # While turns are short one slot does all there is to do; after a failure, and an empty poll, one probes.
        is_due = job.work.plan.seconds > SHORT_TURN_S and process.last_hit > max(
            process.last_empty, process.any_trouble_until + 5.0
        )
        if waited_s > FREE_S and is_due and not process.is_draining and job.given == 1:
            text = f"{job.id} waited {waited_s:.2f} s while a slot of {process.name} was free"
            self.fail("a slot was free", text)

    def long_poll(self, process: Process) -> None:
        if process.stepping is not None and process.stepping.is_reporting:
            self.fail("a long poll beside a report", "the slot's report is not answered yet")

    def begins(self, process: Process, task: Any) -> Run:
        job = self.platform.jobs[task.task_id]
        work = job.work
        if job.lapsed_at < job.read_at - SHORT_POLL_S and not job.was_long:
            self.fail("run too late", f"the lease of {job.id} was over when the reply that brought it was read")
        for run in work.runs:
            if run.input == job.input and not self._explains(run, process, job):
                self.fail("run twice", f"{job.id} is run, though {process.name} had {run.mark} of {run.job.id}")
        if any(run.input == job.input and run.outcome == "ok" for run in work.runs):
            self.duplicated += 1
        process.acked.pop(job.id, None)
        self.attempts += 1
        run = Run(process, job, len(work.runs) + 1)
        work.runs.append(run)
        self._runs[run.mark] = run
        world.tell("runs %s for %.2f s: %s", job.id, run.seconds, run.mark)
        return run

    def _explains(self, run: Run, process: Process, job: Job) -> bool:
        """Why the work is done once more, though this run was begun."""
        work = job.work
        if run.has_ended and run.outcome != "ok":
            return True
        if run.process.is_dead and not (run.has_ended and run.is_safe):
            return True
        if run.job.restarts < job.restarts:
            return True
        if run.holder is not process or job.retried is None:
            return True  # only who has a result can answer a retry with it
        if any(each.was_revived or each.was_long for each in work.jobs) or not self.platform.knows_extensions:
            return True  # the platform handed a retry out, and went on with what it retries
        if self._was_undone(run.job):
            return True
        if any(each.slept_s and each.wall_off_s < 0 for each in (process, run.process)):
            return True  # no clock of the computer's tells that it slept
        return run.job.copies > 0 and run.has_ended

    def _was_undone(self, job: Job) -> bool:
        """By an extension that a process had sent before it died: who took its result over knows of none."""
        return job.undone_by is not None and job.undone_by.is_dead

    def ended(self, run: Run) -> None:
        run.has_ended, run.ended_at = True, world.now

    def recorded(self, run: Any) -> None:
        """The history was told."""

    # -- reports go out ------------------------------------------------------------------------------------

    def reported(self, process: Process, job: Job, report: dict[str, Any]) -> None:
        """The platform got a report."""
        status = report["status"]
        if status == "IN_PROGRESS":
            self._put_back(process, job, "outputData" not in report)
            return
        if not self._is_expected(job, status, report):
            self.fail("unexpected", f"{status} of {job.id}: {report.get('outputData')}, which no run of it gave")
        if job.status == IN_PROGRESS and status == "COMPLETED":
            self.acknowledged += 1

    def sent(self, process: Process, task_id: str) -> None:
        """A worker sends a result."""
        job, acked_at = self.platform.jobs[task_id], process.acked.get(task_id)
        is_alone = all(run.process is process for run in job.work.runs if run.job is job)
        if acked_at is not None and is_alone and process.quiet.get(task_id, 0.0) <= acked_at and not process.slept_s:
            self.fail("sent again", f"the result of {task_id} was acknowledged, and no extension could undo that")

    def _put_back(self, process: Process, job: Job, is_unstarted: bool) -> None:
        self._puts[job.id] = self._puts.get(job.id, 0) + 1
        if self._puts[job.id] > job.given:
            self.fail("put back twice", f"{job.id} was put back more often than it was handed out")
        batch = self._batches.get(job.id)
        if batch is not None and is_unstarted:
            batch[0] += 1
            if batch[0] > FROM_ONE_REPLY - (not process.is_draining):  # where one is run
                self.fail("more than asked for", f"{batch[0]} tasks of one reply were handed back")

    def _is_expected(self, job: Job, status: str, report: dict[str, Any]) -> bool:
        if status == "COMPLETED":
            output = report.get("outputData") or {}
            run = self._runs.get(output.get("by", ""))
            if run is None or (run.job.work, run.job.restarts, run.input) != (job.work, job.restarts, job.input):
                return False
            return run.outcome == "ok" and bool(output["of"] == job.input)
        if str(report.get("reasonForIncompletion")).startswith("the worker"):
            return any(process.is_dead or process.is_draining for process in self.processes)
        return any(run.outcome == "fails" for run in job.work.runs)

    # -- leases, kills and stops ---------------------------------------------------------------------------

    def lapsed(self, job: Job) -> None:
        if not self._explains_lapse(job):
            self.fail("a lease was lost", f"{job.id} was with {job.holder and job.holder.name}, and nothing was wrong")

    def _explains_lapse(self, job: Job) -> bool:
        holder = job.holder
        if holder is None or holder.is_dead or holder.is_held_up or holder.trouble_until >= job.renewed_at:
            return True
        if job.read_at < job.given_at and holder.any_trouble_until >= job.given_at:
            return True  # the slot awaits another reply
        if job.copies and any(run.process.is_dead or run.process is not holder for run in job.work.runs):
            return True  # two processes have it, one of which may be done with it
        if job.undone_by is not None:
            return True  # the result is sent again once no extension can undo it, and its retry is answered with it
        if any(each.copies > 1 for each in self.platform.jobs.values()):
            return True  # two copies, each after an extension: so does a platform that knows no extendLease
        is_platforms = job.was_revived or job.was_long or job.copies > 1 or not self.platform.knows_extensions
        return is_platforms or job.id in self._beyond

    def all_late(self) -> None:
        for process in self.processes:
            process.trouble(0.0)

    def died(self, process: Process) -> None:
        for run in self._runs.values():
            if run.holder is process:
                mark = run.mark if run.has_ended else f'"{run.job.id}"'
                run.is_safe = disk.has(mark.encode())
                is_owed = not run.job.work.is_removed and run.job.status == IN_PROGRESS and run.outcome != "again"
                if is_owed and not run.is_safe and disk.is_sound and run.job.holder is process:
                    text = f"{process.name} was killed, and nothing of {run.mark} is in a journal"
                    self.fail("not on the disk", text)

    def adopts(self, process: Process) -> None:
        """It takes over what ended processes left, which need not be written for that."""
        for run in self._runs.values():
            if run.holder is not None and run.holder.is_dead and run.has_ended:
                run.is_safe = run.is_safe and disk.has(run.mark.encode())
                run.holder = process

    def stopped(self, process: Process, asked: float, left: int, is_kept: bool) -> None:
        began = max([asked, *(run.ended_at for run in self._runs.values() if run.process is process)])
        is_answered = not self.platform.faults and self.platform.mended_at < asked
        is_well = is_answered and process.any_trouble_until + LINGER_S < asked and not process.custody.register.stuck
        if is_well and (left or world.now - began > STOP_S):
            self.fail("no clean stop", f"it took {world.now - began:.1f} s, and {left} results are left")
        if left and is_kept:
            for held in process.custody.register.pending():
                if not disk.has(held.entry.task_id.encode()):
                    self.fail("not kept", f"{held.entry.task_id} is said to be kept in the journal, and is not there")
        for run in self._runs.values():
            if run.holder is process and run.has_ended:
                run.is_safe = disk.has(run.mark.encode())

    def at_the_end(self) -> None:
        for work in self.platform.works:
            if not (work.is_done or work.is_removed or any(self._was_undone(job) for job in work.jobs)):
                self.fail("lost", f"work {work.number} is not done: {[(job.id, job.status) for job in work.jobs]}")
        if not disk.is_damaged:
            for name in disk.names:
                if ".corrupt-" in name:
                    self.fail("no damage", f"{name} was set aside, and nobody had damaged it")

    def works(self) -> list[Work]:
        return self.platform.works

# SPDX-License-Identifier: Apache-2.0
"""The course of a Held: written down, leased, finished, and reported or put back."""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Mapping
from typing import Callable

from ...conductor.client import Client
from ...conductor.wire import Task, TaskResult, TaskStatus, Verdict
from ...logs import counted
from ..polling.backoff import POLL, Backoff, Pace, chance
from ..watched import Counts
from . import retries
from .delivery import Delivery
from .held import ENDED, GONE, SUPERSEDED, Held, Register, Run, State, failure
from .journal import Journal, work_hash
from .journal_file import LATE, ONCE, TAKEN, Entry, task_of
from .lease import Lease, LeaseKeeper
from .retries import Case

log = logging.getLogger(__name__)

WAITING_LEAST, WAITING_PER_WORKER = 100, 10  # no more tasks are taken while more results wait than the larger of both
BUSY = 0.05  # the share of time that a busy process computes even on a crowded machine; a stopped one does not
HELD_UP_S = 0.2  # for so long no more is taken; then that is looked at again


class Custody:
    """The register, and what acts on what it holds: the journal, the leases and the delivery. Safe from any thread.
    ``on_run`` hears of each run of a function after its report; ``on_contact`` that the platform took a report, or
    takes extensions again."""

    def __init__(
        self, client: Client, journal: Journal, stopping: threading.Event, counts: Counts, *, workers: int = 1,
        on_run: Callable[[Run], None] | None = None, on_contact: Callable[[], None] = lambda: None,
    ) -> None:  # fmt: skip
        self._client, self._stopping, self._counts = client, stopping, counts
        self._on_run, self._on_contact, self.drain_is_over = on_run, on_contact, threading.Event()
        self.journal, self.register = journal, Register()
        self._most_waiting = max(WAITING_LEAST, WAITING_PER_WORKER * workers)
        self._is_full = False  # of results that wait, which was said
        pace = self.pace = Pace(time.monotonic)
        self.leases = LeaseKeeper(client, pace, self.contact, on_overslept=self._overslept)
        self.delivery = Delivery(client, self.register, journal, self.leases, counts, on_contact)

    # -- how much ----------------------------------------------------------------------------------

    def held_up_s(self) -> float:
        """0 while more tasks may be taken, else the seconds until it is worth asking again. Part of every poll."""
        if self.leases.is_behind or len(self.delivery) > self._most_waiting:
            return HELD_UP_S
        return self.pace.wait_s(POLL)

    def watch(self) -> None:
        """Upkeep, twice a second: say when no more tasks are taken, and when they are again."""
        self.delivery.watch()
        self.leases.watch()
        waiting, was_full = len(self.delivery), self._is_full
        self._is_full = waiting > self._most_waiting
        if self._is_full and not was_full:
            text = "%s wait for their delivery: no more tasks are taken until fewer do"
            log.warning(text, counted(waiting, "result"), extra={"action": "intake_stopped"})
        elif was_full and not self._is_full:
            log.info("Tasks are taken again", extra={"action": "intake_resumed"})

    def _overslept(self, late_s: float, computed_s: float) -> None:
        """A lease thread woke late. When the process computed meanwhile, and was not just stopped, a function held the
        interpreter in one call; once a task, say which it may be."""
        if computed_s < late_s * BUSY:
            return
        frames = sys._current_frames()
        for held in self.register.running():
            if not held.was_blamed and held.began_at < time.monotonic() - late_s:
                held.was_blamed = True
                frame = frames.get(held.thread_id)
                where = f"{frame.f_code.co_filename}:{frame.f_lineno}" if frame is not None else "its function"
                text = "Task %s of %s may have held the interpreter for %.1f s, at %s, and no lease was kept meanwhile:"
                text += " such a call belongs in a process of its own"
                log.warning(text, held.ids[0], held.entry.agent_id, late_s, where, extra=held.said("interpreter_held"))

    def contact(self) -> None:
        """The platform answers again: nobody need wait."""
        self.delivery.hurry()
        self._on_contact()

    # -- in ----------------------------------------------------------------------------------------

    def hold(self, task: Task, agent_id: str, worker_id: str, given_at: float) -> Held | None:
        """Begin to hold a task that the platform gave in an exchange begun at ``given_at`` (monotonic). None for a
        copy of one that is held: that is neither run nor reported a second time, unless it was rerun with another
        input, or after its function was told that the task is over."""
        now_s, lease = time.time(), Lease(task.response_timeout_s)
        lease.renewed(given_at, time.monotonic(), now_s)
        lease.quiet_at = self.leases.quiet_at(task.task_id)
        entry = Entry(
            TAKEN, task.task_id, task.workflow_instance_id, agent_id, worker_id, lease_s=lease.lease_s,
            work_hash=work_hash(task, self.journal.is_in_memory), lease_until_ms=lease.until_ms,
            taken_ms=int(now_s * 1000), task=task.raw if self._on_run is not None else b"",
        )  # fmt: skip
        held = Held(entry, lease, given_at)
        first = self.register.again(held)
        if first is None:
            return held
        if self.register.find(task.task_id) is not held:
            log.warning("Task %s came again while it is held here", task.task_id, extra=held.said("copy_ignored"))
            self.leases.copy_came(first)
            return None
        text = "Task %s was rerun, and is a task of its own: the result of the run before counts for nothing"
        log.warning(text, task.task_id, extra=held.said("task_replaced"))
        if first.call is not None:
            first.call.cancel("its task was rerun")
        self.leases.put_back(first)
        lease.quiet_at = self.leases.quiet_at(task.task_id)
        self.delivery.hurry(first)
        return held

    def accept(self, held: Held, task: Task) -> tuple[Case, TaskResult | None]:
        """Write down that a task starts, before its function's first line, and keep its lease from now on. Which case
        it is, and the result that is known without a run."""
        self.leases.track(held)  # before the journal, which may wait for a slow disk
        held.row = self.journal.write(held.entry, held.row)
        case, earlier = retries.case_of(self.register, held, task, time.monotonic(), time.time(), self._is_there)
        held.is_recorded = case in (Case.FAULTY, Case.KNOWN)  # there will be no run
        if case is Case.FAULTY:
            return case, failure(held, TaskStatus.FAILED_WITH_TERMINAL_ERROR, task.fault or "")
        if earlier is None and held.is_of_before:
            log.info("Task %s is not run: its work was begun anew", held.ids[0], extra=held.said("result_superseded"))
            self.delivery.forget(held)
            return Case.RUNS, None
        if earlier is None:
            is_first = not task.retried_task_id and task.poll_count <= 1 and task.reference_task_name is not None
            for late in self.register.begin_anew(held, is_first):
                self.delivery.forget(late)
            return case, None
        if case is Case.RUNS:
            self.leases.drop(earlier)
            self.journal.free(earlier.row)
            text = "Task %s retries %s, which still runs here: it is not run again, its result will count for the retry"
            log.warning(text, held.ids[0], earlier.ids[0], extra=held.said("running_task_reused"))
            return case, None
        held.earlier = earlier
        text = "Task %s retries %s, which completed here too late to count: that result is sent again"
        log.info(text, held.ids[0], earlier.ids[0], extra=held.said("late_result_reused"))
        return case, retries.result_again(earlier, held.entry.worker_id)

    def _is_there(self, earlier: Held) -> bool:
        """Whether the platform has that attempt still: its result, sent again, tells by a 404, and changes nothing."""
        outcome = self._client.report(earlier.entry.body, earlier.ids, earlier.lease.send_timeout_s)
        return outcome.status != 404 or outcome.verdict is not Verdict.REFUSED  # as a gateway's own 404

    def take_over(self, rows: Mapping[int, Entry]) -> None:
        """Hold the journal's rows of a process that has ended. Its results are delivered, and what it had started is
        reported as failed, so that the platform decides about a retry at once, not when the response timeout is over.
        Rejected results stay in the journal."""
        for row, entry in rows.items():
            held = Held(entry, Lease(entry.lease_s))
            held.row = row
            held.lease.adopted(entry.lease_until_ms, time.monotonic(), time.time())
            if entry.is_pending:
                self._take_over(held)
            elif entry.state == LATE:
                self.register.move(held, State.LATE)
        pending = sum(entry.is_pending for entry in rows.values())
        if pending:
            log.info("Took over %s of an ended process", counted(pending, "task"), extra={"action": "adopted"})

    def _take_over(self, held: Held) -> None:
        # A row marked as sent must not be sent twice, and a task held here already came back to this process.
        if held.entry.state == ONCE or not self.register.hold(held):
            self.journal.free(held.row)
            return
        held.is_adopted = True
        task = task_of(held.entry)
        if held.entry.state == TAKEN:
            result = failure(held, TaskStatus.FAILED, "the worker process ended while the task ran")
            self.finish(held, result)
            self.record(held, task, result)
        else:
            self.register.move(held, ENDED)
            self.leases.track(held)
            if held.entry.task:  # a row keeps its task until the run is recorded
                held.ended_s = held.started_s  # nobody knows when it ended
                self.record(held, task, retries.reported(held.entry))
        self.delivery.post(held)

    # -- out ---------------------------------------------------------------------------------------

    def finish(self, held: Held, result: TaskResult) -> Held | None:
        """Write down the result of a function that has ended. The Held that is to be reported, which may be a retry;
        None when somebody gave up on the function before, or the task is over: a rerun may have the same id, and the
        result must not count for that."""
        owed = self.register.finish(held, result)
        if owed is None:
            return None
        if owed.is_over:
            text = "Nothing waits for the result of task %s any more: it was ended on the platform, or rerun"
            log.info(text, owed.ids[0], extra=owed.said("result_superseded"))
            self.delivery.forget(owed)
            if not held.is_recorded:
                self.record(held, task_of(held.entry), result)
            return None
        self._write(owed, result)
        return owed

    def give_up(self, held: Held, result: TaskResult) -> Held | None:
        """Report and record a result in place of that of a function that still runs. The Held that it counts for; None
        when the function has ended."""
        owed = self.register.give_up(held, result)
        if owed is not None:
            self.leases.drop(owed)
            if owed.is_over:
                self.delivery.forget(owed)
            else:
                self._write(owed, result)
                self.delivery.post(owed)
            self.record(held, task_of(held.entry), result)
        return owed

    def rescue(self, held: Held, error: BaseException) -> None:
        """The slot broke: its task must not hang with it."""
        owed = held.owed
        try:
            # A Held with a report and no result was written down before; one that was given up frees its slot.
            if owed.is_given_up or owed.result is not None or not owed.entry.body:
                result = owed.result or failure(owed, TaskStatus.FAILED, f"the worker failed: {type(error).__name__}")
                if self.finish(held, result) is not None:
                    self.record(held, task_of(held.entry), result)
            if owed.state in (ENDED, SUPERSEDED) and not owed.is_given_up:
                if owed.entry.status == TaskStatus.IN_PROGRESS:
                    self.put_back(owed)
                else:
                    self.delivery.post(owed)
        except Exception:
            log.critical("Task %s is left to its lease", owed.ids[0], exc_info=True, extra=owed.said("slot_failed"))
            self.delivery.forget(owed)

    def _write(self, owed: Held, result: TaskResult) -> None:
        owed.encode(result)
        if result.status is not TaskStatus.IN_PROGRESS:  # put_back() writes an IN_PROGRESS, as ONCE
            owed.row = self.journal.write(owed.entry, owed.row)
        owed.result = None  # frees memory: a thousand results may wait for their delivery

    def put_back(self, held: Held) -> None:
        """Report an IN_PROGRESS, which puts the task back in the queue."""
        self.leases.put_back(held)
        self._send_once(held, self.drain_is_over)  # a drain awaits the function's last word until its deadline

    def hand_back(self, task: Task, agent_id: str, worker_id: str, given_at: float) -> None:
        """Return a task that was given to us and will not be started here; a copy of one that is held is not."""
        held = self.hold(task, agent_id, worker_id, given_at)
        if held is not None:
            held.encode(TaskResult(status=TaskStatus.IN_PROGRESS, callback_after_seconds=0, worker_id=worker_id))
            self._send_once(held, self._stopping, unread=(0,))  # not after a 429: a task in hand waits for this
            log.info("Task %s is handed back", task.task_id, extra=held.said("hand_back"))

    def _send_once(self, held: Held, gives_up: threading.Event, unread: tuple[int, ...] = (0, 429)) -> None:
        """Sent twice it would give the task to somebody else while a third runs it: so its row says so before."""
        held.entry = held.entry._replace(state=ONCE, task=b"")
        held.row = self.journal.write(held.entry, held.row)
        self.register.move(held, State.ONCE)  # another slot may get the task before the reply is here
        pauses = Backoff(chance)
        try:
            while not held.is_over:  # else a rerun would be put back
                sent_at = time.monotonic()
                outcome = self._client.report(held.entry.body, held.ids)
                self._counts.reported(held.entry.agent_id, time.monotonic() - sent_at, outcome.verdict)
                was_never_heard = outcome.verdict is Verdict.LATER and outcome.status in unread
                may_repeat = was_never_heard or outcome.verdict is Verdict.AUTH
                if not may_repeat or gives_up.wait(max(pauses.failed(), outcome.retry_after_s or 0.0)):
                    break
            if not held.is_over and outcome.verdict is not Verdict.APPLIED:
                text = "Task %s could not be put back (%s); it comes back when its response timeout is over"
                log.warning(text, held.ids[0], outcome.reason, extra=held.said("put_back_failed"))
        finally:
            self.register.move(held, GONE)
            self.journal.free(held.row)

    def record(self, held: Held, task: Task, result: TaskResult) -> None:
        """Tell the history of a run, after its report: it can neither delay nor stop one. What is still to be delivered
        keeps no task in the journal from its next report on."""
        if self._on_run is None or held.owed.is_recorded:
            return
        try:
            times = (held.started_s, held.ended_s or time.time())
            self._on_run(Run(held.entry.agent_id, held.entry.worker_id, task, result, *times))
            held.owed.is_recorded = True
        except Exception:
            log.exception("Task %s was not recorded", task.task_id, extra=held.said("record_failed"))

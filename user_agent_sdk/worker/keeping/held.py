# SPDX-License-Identifier: Apache-2.0
"""The tasks that this process holds: one object each, from the poll's reply until nothing is owed for the task, in
one register.

No clock and no I/O: journal, lease and delivery are what happens to a Held. Its state changes in the register alone,
under the register's lock, along the arrows of ``_NEXT``.
"""

from __future__ import annotations

import enum
import threading
from typing import NamedTuple, Protocol

from ...conductor.wire import REASON_MAX_CHARS, Task, TaskResult, TaskStatus
from ..polling.backoff import Backoff
from .journal_file import RESULT, Entry
from .lease import Lease


class Cancellable(Protocol):
    """One run of a function, which can be told that its task is over. ``reason``: why it was told so, empty before."""

    reason: str
    is_told: bool

    def cancel(self, reason: str) -> bool:
        """True when the function is a coroutine: the cancellation will end it."""

    def resume(self) -> bool:
        """The task is not over after all. False when the function was told that it is."""


class Run(NamedTuple):
    """One run of a function, as the history records it. Times are epoch seconds."""

    agent_id: str
    worker_id: str
    task: Task
    result: TaskResult
    started_s: float
    ended_s: float


class State(enum.Enum):
    TAKEN = "taken"  # a poll brought the task; its function was not started
    RUNNING = "running"  # the function runs; or the function of the earlier attempt whose place this retry took
    ENDED = "ended"  # the result is known; no report was sent
    REPORTING = "reporting"  # a report is on its way, or waits for its next attempt
    SUPERSEDED = "superseded"  # a retry has the result: still reported, but not leased, nor kept afterwards
    LATE = "late"  # reported, perhaps in vain: the result is kept for a retry
    ONCE = "once"  # goes back to the queue by a report that is never repeated
    REJECTED = "rejected"  # the platform refuses the report for good: the journal keeps the result for a human
    GONE = "gone"  # nothing is owed for the task

    __hash__ = object.__hash__  # Enum's own is a Python function, which each move would call four times


TAKEN, RUNNING, ENDED, REPORTING, SUPERSEDED, LATE, ONCE, REJECTED, GONE = State
_NEXT = {  # nothing leads from REJECTED and GONE
    TAKEN: {RUNNING, ENDED, LATE, ONCE, GONE},  # LATE: of an ended process
    RUNNING: {ENDED, GONE},
    ENDED: {REPORTING, SUPERSEDED, ONCE, GONE},
    REPORTING: {SUPERSEDED, LATE, REJECTED, GONE},
    SUPERSEDED: {REJECTED, GONE},
    LATE: {GONE},
    ONCE: {GONE},
}
_LEFT = {ONCE, LATE, REJECTED, GONE}  # the platform may hand the same task out again: that is a new Held


class Held:
    """A task that is held here. ``entry`` is what the journal says of it, in the row ``row``: its ids, its input's
    hash, and from the function's end on the encoded report."""

    heir: Held | None = None  # the retry that took this attempt's place, and gets the function's result
    earlier: Held | None = None  # the attempt whose result is reported for this retry too
    is_recorded = False  # in the history; until then the entry keeps the task, for the process that may adopt the row
    is_adopted = False  # of a process that has ended
    is_of_before = False  # its workflow was restarted, or its task rerun, since: its result answers no retry
    is_unknown = False  # to the platform, by an extension's reply: unless a retry names it, nothing retries it
    is_over = False  # its task was ended on the platform, or came again as other work: its result is nobody's
    wanted = 0  # how often its task, or a retry of it, came meanwhile
    is_given_up = False  # a failure is reported while the function still runs
    result: TaskResult | None = None  # until it is encoded into the entry
    row = 0
    ended_s = 0.0  # wall clock; when the function returned
    began_at = 0.0  # monotonic; the function
    thread_id = 0  # in which the function runs
    call: Cancellable | None = None  # of the function, once that was started
    was_blamed = False  # for holding the interpreter, which was said
    sent_at = 0.0  # monotonic; the last report
    again_at = 0.0  # monotonic; no report before, however all are hurried
    refusals = 0
    refused_at: float | None = None  # monotonic; the first refusal
    backoff: Backoff | None = None  # of the reports; None before a report has failed

    def __init__(self, entry: Entry, lease: Lease, given_at: float = 0.0) -> None:
        self.entry, self.lease = entry, lease
        self.ids = (entry.task_id, entry.workflow_id)
        self.work = (entry.agent_id, entry.work_hash)  # of all tries with the same input; without a hash: of no other
        self.started_s = entry.taken_ms / 1000  # wall clock
        self.given_at = given_at  # monotonic; by the platform
        self.state = TAKEN

    def said(self, action: str) -> dict[str, object]:
        """``extra`` for a line of the log that is about this task."""
        return {"action": action, "agent_id": self.entry.agent_id, "task_id": self.ids[0], "workflow_id": self.ids[1]}

    @property
    def owed(self) -> Held:
        """The Held that gets the function's result: this one, or the retry that took its place."""
        held = self
        while held.heir is not None:
            held = held.heir
        return held

    def encode(self, result: TaskResult) -> None:
        """Address the result and make it the entry's report; one that can't be sent becomes a failure that says so."""
        result.task_id, result.workflow_instance_id = self.ids
        try:
            body = result.to_json()
        except (ValueError, TypeError, RecursionError) as error:
            why = f"the result can't be sent: {type(error).__name__}: {error}"[:REASON_MAX_CHARS]
            result.status, result.logs = TaskStatus.FAILED_WITH_TERMINAL_ERROR, ()
            result.output_data, result.encoded_output, result.reason_for_incompletion = None, b"", why
            body = result.to_json()
        status, until_ms = result.status.value, self.lease.until_ms
        self.entry = self.entry._replace(state=RESULT, status=status, body=body, lease_until_ms=until_ms)


class Register:
    """Every Held of this process by its task's id."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # guards all below, and the state, heir, result and is_given_up of every Held
        self._held: dict[str, Held] = {}  # in no state of _LEFT
        self._left: set[Held] = set()  # ONCE and LATE
        self.stuck = 0  # slots that are lost to functions that were given up and still run

    def hold(self, held: Held) -> bool:
        """Begin to hold a task; False when it is held already."""
        with self._lock:
            return self._held.setdefault(held.entry.task_id, held) is held

    def again(self, held: Held) -> Held | None:
        """A task came that is held: the first Held of it. Its result counts, and ``held`` is but a copy; unless the
        input is another, or its function was told that the task is over. Then ``held`` takes its place, and its row
        while the function runs."""
        with self._lock:
            first = self._held.setdefault(held.entry.task_id, held)
            if first is held:
                return None
            first.wanted += 1
            if first.entry.work_hash != held.entry.work_hash:
                first.is_over = True
            elif first.is_over and first.state is RUNNING and first.call is not None:
                first.is_over = not first.call.resume()
            if first.is_over:
                self._held[held.entry.task_id] = held
                if first.state is RUNNING:  # else whoever delivers it clears up
                    held.row, first.row = first.row, 0
            return first

    def move(self, held: Held, to: State) -> bool:
        """Change its state. False, and nothing is changed, when no arrow leads there: whoever moves a Held to GONE
        clears up after it, once."""
        with self._lock:
            return self._moved(held, to)

    def find(self, task_id: str) -> Held | None:
        with self._lock:
            return self._held.get(task_id)

    def attempts(self, held: Held) -> list[Held]:
        """Who else does the same work: attempts that are held, or whose results are kept as late; the newest first."""
        with self._lock:
            same = [one for one in self._of_the_same_work(held) if one.ids != held.ids]
        return sorted(same, key=lambda one: one.entry.taken_ms, reverse=True)

    def begin_anew(self, held: Held, is_first: bool) -> list[Held]:
        """The work was restarted when its task is a first one (``is_first``), and rerun when the result of that very
        task is kept as late: then no attempt of before answers a retry any more. Those of before that are late."""
        with self._lock:
            others = self._of_the_same_work(held)
            if not is_first and all(one.ids != held.ids for one in others):
                return []
            for one in others:
                one.is_of_before = True
            return [one for one in others if one.state is LATE]

    def finish(self, held: Held, result: TaskResult) -> Held | None:
        """The slot is done with the function. The Held that the result counts for, None when that was given up."""
        with self._lock:
            owed = held.owed
            if owed.is_given_up:
                self.stuck -= 1
                return None
            owed.result = result
            self._moved(owed, ENDED)
            return owed

    def give_up(self, held: Held, result: TaskResult) -> Held | None:
        """Report ``result`` though the function still runs. The Held that it counts for, None when it is too late."""
        with self._lock:
            owed = held.owed
            if owed.state is not RUNNING:
                return None
            owed.result, owed.is_given_up = result, True
            self.stuck += 1
            self._moved(owed, ENDED)
            return owed

    def inherit(self, earlier: Held, retry: Held) -> bool:
        """The result of ``earlier``'s function will count for ``retry``, and ``earlier`` is gone. False when its
        function does not run any more, or was told to end."""
        with self._lock:
            if earlier.is_of_before or earlier.state is not RUNNING:
                return False
            if earlier.call is not None and not earlier.call.resume():
                return False
            earlier.wanted += 1
            earlier.heir, retry.began_at, retry.thread_id = retry, earlier.began_at, earlier.thread_id
            retry.call = earlier.call
            self._moved(earlier, GONE)
            return self._moved(retry, RUNNING)

    def _moved(self, held: Held, to: State) -> bool:
        if to not in _NEXT.get(held.state, ()):
            return False
        task_id = held.entry.task_id
        if to in _LEFT and self._held.get(task_id) is held:
            del self._held[task_id]
        if to is ONCE or to is LATE:
            self._left.add(held)
        else:
            self._left.discard(held)
        held.state = to
        return True

    def _of_the_same_work(self, held: Held) -> list[Held]:
        kept = (*self._held.values(), *self._left) if held.work[1] else ()
        return [one for one in kept if one.work == held.work and one is not held and one.state is not ONCE]

    def running(self) -> list[Held]:
        """Tasks whose functions run and were not given up."""
        with self._lock:
            return [held for held in self._held.values() if held.state is RUNNING]

    def late(self) -> list[Held]:
        with self._lock:
            return [held for held in self._left if held.state is LATE]

    def pending(self) -> list[Held]:
        """Tasks for which something is still to be sent to the platform."""
        with self._lock:
            return [*self._held.values(), *(held for held in self._left if held.state is ONCE)]


def failure(held: Held, status: TaskStatus, reason: str) -> TaskResult:
    """A result that the worker itself has for a task."""
    return TaskResult(status=status, reason_for_incompletion=reason[:REASON_MAX_CHARS], worker_id=held.entry.worker_id)

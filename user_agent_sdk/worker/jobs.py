"""The tasks that this process holds, from the poll's reply until the result is delivered."""

from __future__ import annotations

import threading
from typing import NamedTuple

from ..conductor.wire import Task, TaskResult
from .journal_file import Entry
from .lease import Lease


class Execution(NamedTuple):
    """One run of a function, as the history records it. Times are epoch seconds."""

    agent_id: str
    worker_id: str
    task: Task
    result: TaskResult
    started_s: float
    ended_s: float


class Job:
    """A task that was accepted here. ``entry``, ``lease`` and ``row`` (in the journal) say where its
    result goes; ``result`` is what is reported, set by its slot or by whoever gives up on its function."""

    def __init__(self, task: Task, entry: Entry, lease: Lease, started_s: float) -> None:
        self.task = task
        self.entry = entry
        self.lease = lease
        self.row = 0
        self.started_s = started_s
        self.ended_s = 0.0  # when the function returned; 0 while it runs
        self.result: TaskResult | None = None
        self.is_given_up = False
        self._lock = threading.Lock()  # guards all above that changes

    def finish(self, result: TaskResult) -> bool:
        """The slot has a result. False when somebody gave up before: then it does not count."""
        with self._lock:
            if not self.is_given_up:
                self.result = result
            return not self.is_given_up

    def give_up(self, result: TaskResult) -> bool:
        """Report ``result`` though the function still runs. False when it was too late for that."""
        with self._lock:
            if self.result is not None:
                return False
            self.result, self.is_given_up = result, True
            return True

    def answers(self, retry: Job) -> bool:
        """The result of this job's function will be reported for ``retry``, which gets this job's own
        address in exchange. False when the function has ended."""
        with self._lock:
            if self.result is not None:
                return False
            self.entry, retry.entry = retry.entry, self.entry
            self.lease, retry.lease = retry.lease, self.lease
            self.row, retry.row = retry.row, self.row
            return True


class Jobs:
    """Which tasks run here or wait for their delivery.

    On the way of every task, so without a lock: each change is one operation on a dict or a set, which
    Python makes whole (its FAQ: "What kinds of global value mutation are thread-safe?").
    """

    def __init__(self) -> None:
        self._held: dict[str, object] = {}
        self._started: set[Job] = set()
        self._lock = threading.Lock()  # guards _copies
        self._copies = 0

    def hold(self, task_id: str) -> bool:
        """Begin to hold a task; False when it is held already."""
        mine = object()
        if self._held.setdefault(task_id, mine) is mine:
            return True
        with self._lock:
            self._copies += 1
        return False

    def release(self, task_id: str) -> None:
        self._held.pop(task_id, None)

    def started(self, job: Job) -> None:
        self._started.add(job)

    def ended(self, job: Job) -> None:
        """Its slot is done with it. Only after the journal has its result: a retry looks here first."""
        self._started.discard(job)

    def running(self) -> list[Job]:
        """Those whose function runs, but for the ones given up."""
        return [job for job in self._started.copy() if not job.is_given_up]

    def find(self, task_id: str) -> Job | None:
        """The running job whose result goes to ``task_id``."""
        return next((job for job in self._started.copy() if job.entry.task_id == task_id), None)

    @property
    def stuck(self) -> int:
        """How many slots are lost to functions that were given up and still run."""
        return sum(job.is_given_up for job in self._started.copy())

    @property
    def copies(self) -> int:
        """How often a poll returned a task that is held here."""
        return self._copies

# SPDX-License-Identifier: Apache-2.0
"""The tasks that this process holds, from the poll's reply until the result is delivered."""

from __future__ import annotations

import threading
from typing import NamedTuple

from ...conductor.wire import Task, TaskResult
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

    def __init__(self, task: Task, entry: Entry, lease: Lease, started_s: float, given_at: float = 0.0) -> None:
        self.task = task
        self.entry = entry
        self.lease = lease
        self.row = 0
        self.given_at = given_at  # by the platform, on the monotonic clock
        self.started_s = started_s
        self.ended_s = 0.0  # when the function returned; 0 while it runs
        self.took_s = 0.0  # the function
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
    """Which tasks run here or wait for their delivery."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # guards all below
        self._held: set[str] = set()
        self._started: set[Job] = set()
        self._copies = 0

    def hold(self, task_id: str) -> bool:
        """Begin to hold a task; False when it is held already."""
        with self._lock:
            is_new = task_id not in self._held
            self._held.add(task_id)
            return is_new

    def copy_came(self) -> int:
        """A poll returned a task that is held here; how often that was."""
        with self._lock:
            self._copies += 1
            return self._copies

    def release(self, task_id: str) -> None:
        with self._lock:
            self._held.discard(task_id)

    def started(self, job: Job) -> None:
        with self._lock:
            self._started.add(job)

    def ended(self, job: Job) -> None:
        """Its slot is done with it. Only after the journal has its result: a retry looks here first."""
        with self._lock:
            self._started.discard(job)

    def running(self) -> list[Job]:
        """Those whose function runs, but for the ones given up."""
        with self._lock:
            return [job for job in self._started if not job.is_given_up]

    def find(self, task_id: str) -> Job | None:
        """The running job whose result goes to ``task_id``."""
        with self._lock:
            return next((job for job in self._started if job.entry.task_id == task_id), None)

    @property
    def stuck(self) -> int:
        """How many slots are lost to functions that were given up and still run."""
        with self._lock:
            return sum(job.is_given_up for job in self._started)

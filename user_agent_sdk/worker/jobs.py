"""The tasks that this process holds, from the poll's reply until the result is delivered."""

from __future__ import annotations

import threading
from typing import NamedTuple

from ..conductor.wire import Task, TaskResult
from .journal import Entry
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
    """A task that was accepted here: its lease, its journal row, and who may report it."""

    def __init__(self, task: Task, agent_id: str, lease: Lease, entry: Entry, started_s: float) -> None:
        self.task = task
        self.agent_id = agent_id
        self.lease = lease
        self.entry = entry
        self.row = 0
        self.started_s = started_s
        self.is_stuck = False  # its function ran out of time and still runs
        self._claim = threading.Lock()  # taken once, by whoever reports this job

    def claim(self) -> bool:
        """True for the first caller only: its report counts, be it the result or that time ran out."""
        return self._claim.acquire(blocking=False)


class Jobs:
    """Which tasks run here or wait for their delivery, by id."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # guards all below
        self._held: set[str] = set()
        self._running: dict[str, Job] = {}
        self._stuck = 0
        self._copies = 0

    def hold(self, task_id: str) -> bool:
        """Begin to hold a task; False when it is held already."""
        with self._lock:
            if task_id in self._held:
                self._copies += 1
                return False
            self._held.add(task_id)
            return True

    def release(self, task_id: str) -> None:
        with self._lock:
            self._held.discard(task_id)

    def started(self, job: Job) -> None:
        with self._lock:
            self._running[job.task.task_id] = job

    def ended(self, job: Job) -> None:
        with self._lock:
            self._running.pop(job.task.task_id, None)

    def running(self) -> list[Job]:
        with self._lock:
            return list(self._running.values())

    def count_stuck(self, change: int) -> None:
        """A function ran out of its time and its thread with it; or it came back after all."""
        with self._lock:
            self._stuck += change

    @property
    def stuck(self) -> int:
        return self._stuck

    @property
    def copies(self) -> int:
        """How often a poll returned a task that is held here."""
        return self._copies

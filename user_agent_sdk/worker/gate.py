"""Where the free slots of one agent wait for their turn to poll."""

from __future__ import annotations

import logging
import threading
import time
from typing import Callable

from ..conductor.client import Client, PollError
from ..conductor.wire import LONG_POLL_MAX_MS, Task
from .backoff import Outage
from .intake import Intake, Poll
from .metrics import Metrics

log = logging.getLogger(__name__)


class Budget:
    """How many tasks may still be taken (``--max-tasks``); None = any number. ``on_spent`` is called when
    the last one was; ``is_shared`` by several agents."""

    def __init__(self, tasks: int | None, on_spent: Callable[[], None] = lambda: None, is_shared: bool = False) -> None:
        self._lock = threading.Lock()  # guards the next three
        self._left = tasks
        self._reserved = 0
        self._queue: list[object] = []  # who was refused, and asks again
        self._on_spent = on_spent
        self._is_shared = is_shared

    def reserve(self, who: object) -> bool:
        """Ask for one task; it is taken, or given back, later. First come, first served: an agent whose
        queue is empty gives the last one back and would be the first to ask again."""
        if self._left is None:
            return True
        with self._lock:
            if who not in self._queue:
                self._queue.append(who)
            if self._queue.index(who) >= self._left - self._reserved:
                return False
            self._queue.remove(who)
            self._reserved += 1
            return True

    def settle(self, taken: int) -> None:
        """What came of a reservation."""
        if self._left is None:
            return
        with self._lock:
            self._reserved -= 1
            self._left -= taken
        if taken and self.is_spent:
            self._on_spent()

    @property
    def is_scarce(self) -> bool:
        """All that is left is reserved, and other agents wait for what comes of it."""
        return self._is_shared and self._left is not None and self._reserved >= self._left

    @property
    def is_spent(self) -> bool:
        return self._left is not None and self._left <= 0


class Gate:
    """The polling of one agent: which slot may poll, when, and what came of it."""

    def __init__(
        self,
        client: Client,
        agent_id: str,
        worker_id: str,
        domain: str | None,
        intake: Intake,
        stopping: threading.Event,
        budget: Budget,
        on_contact: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
        metrics: Metrics | None = None,
    ) -> None:
        self.agent_id = agent_id
        self.worker_id = worker_id
        self.polled_at: float | None = None  # when a poll was last answered, on the clock
        self._client = client
        self._domain = domain
        self._stopping = stopping
        self._budget = budget
        self._on_contact = on_contact
        self._clock = clock
        self._metrics = metrics or Metrics()
        self._admitted_at = 0.0
        self._changed = threading.Condition()  # guards _outage and the changes of _intake
        self._intake = intake
        self._outage = Outage(log, f"Polling for {agent_id} fails")

    @property
    def is_failing(self) -> bool:
        return self._intake.is_failing

    @property
    def next_at(self) -> float:
        """When the next poll may be sent, on the clock."""
        return self._intake.next_at

    def overdue_s(self, now: float) -> float:
        """For how long a poll should have been sent and answered; one that the server holds counts too, but none at
        full width, where the first to fail ends that."""
        return now - max(self._admitted_at, self.next_at) if self._intake.is_awaited else 0.0

    def take(self) -> tuple[list[Task], float] | None:
        """Wait for a turn, poll, and say what came: tasks (mostly one or none) and when, on the clock, the
        platform may have given them away. None once the worker stops or has had its last task."""
        poll = self._enter_free() or self._enter()
        if poll is None:
            return None
        tasks: list[Task] = []
        may_wait = poll.lead and self._client.can_wait and not self._budget.is_scarce
        wait_ms = LONG_POLL_MAX_MS if may_wait else 0
        try:
            tasks = self._client.poll(self.agent_id, self.worker_id, self._domain, wait_ms)
        except PollError as error:
            self._failed(poll, error)
            return [], poll.sent_at
        except BaseException:
            self._failed(poll, PollError("the poll broke off"))
            raise
        finally:
            self._budget.settle(len(tasks))
        self.polled_at = now = self._clock()
        self._metrics.polled(self.agent_id, now - poll.sent_at)
        if not (tasks and poll.is_free and self._intake.is_open):  # else all is as it was
            with self._changed:
                was_failing = self._intake.hit(poll, now) if tasks else self._intake.empty(poll, now)
                self._answered(bool(tasks), was_failing, now)
            if was_failing:
                self._on_contact()
        # A poll that waited in the server was given its task at its end, not when it was sent.
        return tasks, max(poll.sent_at, now - 1.0) if wait_ms else poll.sent_at

    def may_chain(self) -> bool:
        """May the next report ask for the next task? If so, :meth:`chained` must follow."""
        return self._client.can_report_and_poll and not self._stopping.is_set() and self._budget.reserve(self)

    def chained(self, tasks: int) -> None:
        """A report that asked for a task brought so many."""
        self._budget.settle(tasks)
        if tasks and self._intake.is_open:
            return
        with self._changed:
            if tasks:
                now = self._clock()
                self._answered(True, self._intake.chained(now), now)
            else:
                self._intake.unchained()

    def wake(self) -> None:
        """The worker stops, or the platform answers again: waiting slots look anew."""
        with self._changed:
            self._intake.recovered(self._clock())
            self._changed.notify_all()

    def _enter_free(self) -> Poll | None:
        """A poll for which nothing need be waited for, and no lock taken: others would wait for that in turn."""
        poll = self._intake.begin_free(self._clock())  # before the look: should it close now, this is a poll of before
        is_free = self._intake.is_open and not self._client.can_wait and not self._is_over()
        return poll if is_free and self._budget.reserve(self) else None

    def _enter(self) -> Poll | None:
        with self._changed:
            while not self._intake.admits() and not self._is_over():
                self._changed.wait()
            self._intake.admit()
            self._admitted_at = self._clock()
            while not self._is_over():
                wait_s = self._intake.wait_s(self._clock())
                if wait_s > 0:
                    self._changed.wait(wait_s)
                elif self._budget.reserve(self):
                    return self._intake.begin(self._clock())
                else:
                    self._changed.wait(0.1)  # others poll for the last tasks, and may find none
            self._intake.give_back()
            self._changed.notify()
            return None

    def _is_over(self) -> bool:
        return self._stopping.is_set() or self._budget.is_spent

    def _answered(self, found: bool, was_failing: bool, now: float) -> None:
        self._outage.succeeded(now)
        if found or was_failing:
            self._changed.notify_all()

    def _failed(self, poll: Poll, error: PollError) -> None:
        now = self._clock()
        self._metrics.polled(self.agent_id, now - poll.sent_at, type(error).__name__)
        with self._changed:
            self._intake.failed(poll, now, error.retry_after_s)
            self._outage.failed(error.message, now)

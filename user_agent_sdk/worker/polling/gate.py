# SPDX-License-Identifier: Apache-2.0
"""Where the free slots of one agent wait for their turn to poll, and how many tasks all agents may still take."""

from __future__ import annotations

import logging
import threading
import time
from typing import Callable, NamedTuple

from ...conductor.client import Client, PollError, PollExchange
from ...conductor.wire import LONG_POLL_MAX_MS, Task
from ...errors import AuthRefusedError
from ..watched import Counts
from .backoff import Outage
from .intake import Intake, Poll, Sight

log = logging.getLogger(__name__)

Taken = tuple[list[Task], float]  # tasks, mostly one or none; when, on the clock, the platform may have given them away
_NEVER = float("inf")
_BROKE_OFF = PollError("the poll broke off")


class Sent(NamedTuple):
    """A poll under way; ``wait_ms``: how long the server was asked to keep it."""

    poll: Poll
    wait_ms: int
    exchange: PollExchange


class Budget:
    """How many tasks the gates of a worker may still take (``--max-tasks``); None = any number. ``on_spent`` is called
    when the last one was; ``is_shared`` by several agents."""

    def __init__(self, tasks: int | None, on_spent: Callable[[], None] = lambda: None, is_shared: bool = False) -> None:
        self.is_limited, self._is_shared, self._on_spent = tasks is not None, is_shared, on_spent
        self._lock = threading.Lock()  # guards all below
        self._left = tasks
        self._reserved = 0
        self._queue: list[object] = []  # gates that were refused, and ask again

    def reserve(self, who: object, waits: bool = True) -> bool:
        """Ask for one task; it is taken, or given back, later. First come, first served, of those who wait: an agent
        whose queue is empty gives the last one back and would be the first to ask again."""
        if self._left is None:
            return True
        with self._lock:
            if not waits and len(self._queue) >= self._left - self._reserved:
                return False
            if who not in self._queue:
                self._queue.append(who)
            if self._queue.index(who) >= self._left - self._reserved:
                return False
            self._queue.remove(who)
            self._reserved += 1
            return True

    def settle(self, taken: int) -> None:
        """A reserved task was taken, with more perhaps that are handed back, or did not come (0)."""
        if self._left is None:
            return
        with self._lock:
            self._reserved -= 1
            self._left -= min(taken, 1)
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
        self, client: Client, agent_id: str, worker_id: str, domain: str | None, intake: Intake,
        stopping: threading.Event, budget: Budget, on_contact: Callable[[], None], counts: Counts,
        held_up_s: Callable[[], float] = lambda: 0.0,
    ) -> None:  # fmt: skip
        self.agent_id, self.worker_id, self._domain = agent_id, worker_id, domain
        self.polled_at: float | None = None  # when a poll was last answered, on the clock
        self.is_refused = False  # the last poll failed for want of a token that is good
        self._client, self._stopping, self._budget, self._counts = client, stopping, budget, counts
        self._on_contact, self._clock = on_contact, time.monotonic
        self._held_up_s = held_up_s  # seconds for which no task may be taken, mostly 0
        self._lock = threading.RLock()  # guards all below
        self._changed = threading.Condition(self._lock)
        self.intake = intake
        self._sight = Sight()
        self._look_at = _NEVER  # when the first of the slots that wait looks again
        self._telling = threading.Lock()  # guards _outage, whose lines may wait for a console that stands still
        self._outage = Outage(log, "Polling fails", agent_id=agent_id, worker_id=worker_id)

    def take(self) -> Taken | None:
        """Wait for a turn, poll, and say what came. None once the worker stops or has had its last task."""
        poll = self._enter()
        return None if poll is None else self.fetch(self.send(poll))

    def go_on(self, given_at: float) -> Poll | None:
        """A poll for a slot whose task, given at that time on the clock, has ended; to be sent beside its report or as
        a part of it: then :meth:`send` or :meth:`chained` must follow. None when it must wait for its turn."""
        with self._lock:
            now = self._clock()
            goes_on = self.intake.goes_on(now, now - given_at) and not self._is_over() and not self._held_up_s()
            return self.intake.begin(now, rides=True) if goes_on and self._budget.reserve(self, waits=False) else None

    def send(self, poll: Poll) -> Sent:
        """Send a poll; :meth:`fetch` must follow, in this thread."""
        may_wait = poll.lead and self._client.can_wait and not self._budget.is_scarce
        may_wait = may_wait and self.polled_at is not None  # the first poll shows at once that the platform answers
        may_wait = may_wait and (not poll.joins or self._sight.is_clear)  # a blind server would keep both from the task
        wait_ms = LONG_POLL_MAX_MS if may_wait else 0
        if may_wait:
            with self._lock:
                self.intake.waits(wait_ms / 1000)
                self._changed.notify()  # another slot may join this poll
        try:
            return Sent(poll, wait_ms, self._client.send_poll(self.agent_id, self.worker_id, self._domain, wait_ms))
        except BaseException:
            self._failed(poll, _BROKE_OFF)
            raise

    def fetch(self, sent: Sent) -> Taken:
        """Await the reply to a poll. One that failed brings no task, and is counted here."""
        try:
            tasks = sent.exchange.fetch()
        except PollError as error:
            self._failed(sent.poll, error)
            return [], sent.poll.sent_at
        except BaseException:
            self._failed(sent.poll, _BROKE_OFF)
            raise
        self._answered(sent, tasks)
        return tasks, self._clock() - sent.exchange.age_s

    def chained(self, tasks: int) -> None:
        """A report that asked for the next task brought so many."""
        self._budget.settle(tasks)
        if not tasks:
            with self._lock:
                self.intake.unchained()
            return
        self.polled_at = now = self._clock()
        with self._lock:
            self._found(now, rides=True)
        with self._telling:
            self._outage.succeeded(now)

    def wake(self) -> None:
        """The worker stops, or the platform answers again: waiting slots look anew."""
        with self._lock:
            if self.intake.recovered(self._clock()) or self._is_over():
                self._changed.notify_all()

    def _enter(self) -> Poll | None:
        with self._lock:
            while not self._is_over():
                now = self._clock()
                wait_s = self.intake.wait_s(now)
                if wait_s is None and not self._budget.is_limited:
                    wait_s = self.intake.joins_in_s(now)
                if wait_s == 0:
                    wait_s = self._held_up_s()
                if wait_s == 0 and self._budget.reserve(self):
                    self._changed.notify()  # another waiting slot looks from now on for silence
                    return self.intake.begin(now)
                self._wait(now + (_NEVER if wait_s is None else wait_s or 0.1))  # 0.1: others poll for the last tasks
            return None

    def _wait(self, until: float) -> None:
        """Wait until ``until`` or a change; of all waiting slots one looks at the clock."""
        if until >= self._look_at:
            self._changed.wait()
            return
        self._look_at = until
        try:
            self._changed.wait(until - self._clock())
        finally:
            if self._look_at == until:
                self._look_at = _NEVER

    def _is_over(self) -> bool:
        return self._stopping.is_set() or self._budget.is_spent

    def _answered(self, sent: Sent, tasks: list[Task]) -> None:
        poll = sent.poll
        self.polled_at = now = self._clock()
        self._budget.settle(len(tasks))
        self._counts.polled(self.agent_id, now - poll.sent_at)
        with self._lock:
            was_kept = sent.wait_ms > 0
            is_blind = self._client.can_wait and self._sight.shows_blindness(now, now - poll.sent_at, was_kept, tasks)
            if is_blind:
                self._client.can_wait = False
            was_failing = self._found(now, poll.rides) if tasks else self.intake.empty(poll, now, was_kept)
            if was_failing:
                self._changed.notify_all()
        with self._telling:
            self._outage.succeeded(now)
        if is_blind:
            text = "This server looks at its queue only when a poll comes; it is no longer asked to keep one"
            log.info(text, extra={"action": "no_long_poll"})
        if was_failing:
            self._on_contact()

    def _found(self, now: float, rides: bool) -> bool:
        was_failing = self.intake.hit(now, rides)
        if self._look_at > now + self.intake.horizon_s:
            self._changed.notify()
        return was_failing

    def _failed(self, poll: Poll, error: PollError) -> None:
        now = self._clock()
        self._budget.settle(0)
        self._counts.polled(self.agent_id, now - poll.sent_at, type(error).__name__)
        self.is_refused = error.code == AuthRefusedError.code
        with self._lock:
            self.intake.failed(poll, now, error.retry_after_s)
        with self._telling:
            if not self._stopping.is_set():  # else its connection was closed by the stop
                self._outage.failed(error.message, now, self.is_refused)

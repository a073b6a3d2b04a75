"""How many slots of an agent may poll now, and when. Pure: no thread, clock or I/O.

A slot polls only while it is free, so nothing is taken that can't run at once. While polls find
tasks more slots may poll (twice as many with each hit); one empty poll brings it back to one slot,
whose pause starts short and grows to the poll interval. So an idle agent costs one poll an interval
however many workers it has, and a deep queue is taken at full width. While polls fail, one slot probes.
"""

from __future__ import annotations

from typing import Callable, NamedTuple

from .backoff import Backoff

FIRST_PAUSE_S = 0.05
LEAST_PAUSE_S = 0.01
JITTER = 0.1


class Poll(NamedTuple):
    """A poll under way. ``lead``: the only one of its agent, which may wait in the server. ``is_free``: sent
    without a permit, while all slots could have one."""

    sent_at: float
    epoch: int
    lead: bool
    is_free: bool = False


class Intake:
    """The polling state of one agent. A permit is held from :meth:`admit` until the poll's reply."""

    def __init__(self, workers: int, interval_s: float, rand: Callable[[], float]) -> None:
        self._workers = workers
        self._interval_s = max(interval_s, LEAST_PAUSE_S)
        self._rand = rand
        self._backoff = Backoff(rand)
        self._width = 1
        self.is_open = False  # the last reply brought a task and every slot may poll: no permits are needed
        self._permits = 0
        self._polling = 0
        self.next_at = 0.0  # no poll before
        self._pause_s = 0.0
        # Polls sent before an empty or failed reply say nothing new: a whole row of them counts as one.
        self._epoch = 0

    @property
    def is_failing(self) -> bool:
        return self._backoff.failures > 0

    @property
    def is_awaited(self) -> bool:
        """Somebody holds a permit: a poll is due, or under way."""
        return self._permits > 0

    def admits(self) -> bool:
        """May one more slot hold a permit?"""
        return self._permits < (1 if self.is_failing else self._width)

    def admit(self) -> None:
        self._permits += 1

    def give_back(self) -> None:
        """The permit's holder will not poll after all."""
        self._permits -= 1

    def wait_s(self, now: float) -> float:
        """How long a permit's holder still waits before it polls."""
        return self.next_at - now

    def begin(self, now: float) -> Poll:
        self._polling += 1
        return Poll(now, self._epoch, lead=self._polling == 1)

    def begin_free(self, now: float) -> Poll:
        """A poll while it ``is_open``. Safe from any thread at any time, as looking at ``is_open`` is."""
        return Poll(now, self._epoch, lead=False, is_free=True)

    def hit(self, poll: Poll, now: float) -> bool:
        """A poll found a task: more may poll, at once. True when this ended a row of failures."""
        self._end(poll)
        return self.chained(now)

    def chained(self, now: float) -> bool:
        """A report's reply brought the next task: that counts as a hit."""
        self._width = min(self._workers, self._width * 2)
        self._pause_s = 0.0
        self.next_at = now
        was_failing = self._backoff.succeeded()
        self.is_open = self._width == self._workers
        return was_failing

    def empty(self, poll: Poll, now: float) -> bool:
        """Nothing there. The pause counts from the sending: time that the server held us is part of it."""
        self._end(poll)
        self._narrow()
        if poll.epoch == self._epoch:
            self._epoch += 1
            self._pause_s = min(self._interval_s, max(FIRST_PAUSE_S, self._pause_s * 2))
            self.next_at = max(now, poll.sent_at + self._pause_s * (1 + JITTER * self._rand()))
        return self._backoff.succeeded()

    def unchained(self) -> None:
        """A report's reply brought no task: the queue is empty."""
        self._narrow()

    def failed(self, poll: Poll, now: float, retry_after_s: float | None) -> float:
        """No answer. Seconds until the next poll."""
        self._end(poll)
        self.is_open = False
        if poll.epoch == self._epoch:
            self._epoch += 1
            self.next_at = now + max(self._backoff.failed(), retry_after_s or 0.0)
        return max(0.0, self.next_at - now)

    def recovered(self, now: float) -> bool:
        """Some other call got through: no need to wait for the platform. True if we were waiting."""
        if self._backoff.succeeded():
            self.next_at = now
            return True
        return False

    def _narrow(self) -> None:
        self.is_open = False
        self._width = 1

    def _end(self, poll: Poll) -> None:
        if not poll.is_free:
            self._polling -= 1
            self._permits -= 1

# SPDX-License-Identifier: Apache-2.0
"""How many slots of an agent may poll now, and when. Pure: no thread, clock or I/O.

A slot polls only while it is free, so nothing is taken that can't run at once. While polls find tasks more
slots may poll (twice as many with each hit); one empty poll brings it back to one slot, whose pause starts
short and grows to the poll interval. So an idle agent costs one poll an interval however many workers it has,
and a deep queue is taken at full width. While polls fail, one slot probes.

A server that keeps a poll looks at its queue every 100 ms only, counted from when the poll came. So for a few seconds
after a task, when a next one is likely, a second slot joins the one that waits there.

Threads share one interpreter: where functions end at once and the platform is near, a second slot that polls
makes the first one wait for it, and both are slower than one was. So another slot comes in only where there is
time to spare, or nobody at it; and of two whose functions are quick one stops when there is none.
"""

from __future__ import annotations

from typing import Callable, NamedTuple

from .backoff import Backoff

FIRST_PAUSE_S = 0.05
LEAST_PAUSE_S = 0.01
JITTER = 0.1
SPARE, CROWDED = 0.6, 0.95  # shares of a core: below the one another slot helps, above the other one is too many
LOOK_S = 0.005  # how often a free slot looks whether it would help
SILENT_S = 0.01  # nobody polls: those at it are all in their functions
LIKELY_S = 5.0  # how long after a task the next one is likely: often it is the workflow's next step
JOIN_S = 0.05  # after the first poll, half way between two looks of the server
KEPT_S = 4.0  # an empty reply that took longer came from a server that keeps polls, for 5 s


class Poll(NamedTuple):
    """A poll under way. ``lead``: the first of its agent, or the one that joined it; it may wait in the server."""

    sent_at: float
    epoch: int
    lead: bool


class Load:
    """The share of a core that this process uses, of late. ``cpu_s``: the time that it has used in all."""

    WINDOW_S = 0.005

    def __init__(self, cpu_s: Callable[[], float]) -> None:
        self._cpu_s = cpu_s
        self._since, self._used_s, self._share = 0.0, 0.0, 0.0

    def __call__(self, now: float) -> float:
        if now - self._since >= self.WINDOW_S:
            used_s = self._cpu_s()
            self._share = (used_s - self._used_s) / (now - self._since)
            self._since, self._used_s = now, used_s
        return self._share


class Intake:
    """The polling state of one agent. ``load`` says what share of a core the process uses, given the time;
    ``can_wait``: the server is asked to keep a poll that finds nothing."""

    def __init__(
        self,
        workers: int,
        interval_s: float,
        rand: Callable[[], float],
        load: Callable[[float], float],
        can_wait: bool = False,
    ) -> None:
        self.workers = workers
        self._interval_s = max(interval_s, LEAST_PAUSE_S)
        self._rand = rand
        self._load = load
        self._can_wait = self._is_kept = can_wait  # whether it does is seen: a gateway may answer at once
        self._hit_at = -LIKELY_S
        self._backoff = Backoff(rand)
        self._width = 1  # how many may poll at once; more than one after a hit
        self._polling = 0
        self.begun_at = 0.0  # when the last poll was sent
        self.next_at = 0.0  # no poll before
        self._pause_s = 0.0
        # Polls sent before an empty or failed reply say nothing new: a whole row of them counts as one.
        self._epoch = 0

    @property
    def is_failing(self) -> bool:
        return self._backoff.failures > 0

    @property
    def is_awaited(self) -> bool:
        """A poll is under way."""
        return self._polling > 0

    def wait_s(self, now: float) -> float | None:
        """How long a free slot waits before it may poll, or looks again; None: until something has changed."""
        if not self._has_room():
            return None
        if now < self.next_at:
            return self.next_at - now
        if self._width == 1 or now - self.begun_at >= SILENT_S or self._load(now) < SPARE:
            return 0.0
        return LOOK_S

    def joins_in_s(self, now: float) -> float | None:
        """The same for a slot that has no room: until it may join the one poll that waits in the server."""
        is_alone = self._polling == 1 and not self._has_room() and not self.is_failing
        if is_alone and self._is_kept and now - self._hit_at < LIKELY_S:
            return max(0.0, self.begun_at + JOIN_S - now)
        return None

    def goes_on(self, now: float, is_quick: bool) -> bool:
        """May a slot that had a task poll again at once? ``is_quick``: its function took no time."""
        is_one_too_many = is_quick and self._polling > 0 and self._load(now) > CROWDED
        return self._has_room() and now >= self.next_at and not is_one_too_many

    def begin(self, now: float) -> Poll:
        self._polling += 1
        self.begun_at = now
        return Poll(now, self._epoch, lead=self._polling == 1 or self._width == 1)

    def hit(self, now: float) -> bool:
        """A reply brought a task: more may poll, at once. True when this ended a row of failures."""
        self._polling -= 1
        self._hit_at = now
        self._width = min(self.workers, self._width * 2)
        self._pause_s = 0.0
        self.next_at = now
        return self._backoff.succeeded()

    def empty(self, poll: Poll, now: float) -> bool:
        """Nothing there. The pause counts from the sending: time that the server held us is part of it."""
        self._polling -= 1
        self._width = 1
        if poll.lead:
            self._is_kept = self._can_wait and now - poll.sent_at > KEPT_S
        if poll.epoch == self._epoch:
            self._epoch += 1
            self._pause_s = min(self._interval_s, max(FIRST_PAUSE_S, self._pause_s * 2))
            self.next_at = max(now, poll.sent_at + self._pause_s * (1 + JITTER * self._rand()))
        return self._backoff.succeeded()

    def unchained(self) -> None:
        """A report that asked for the next task brought none: the queue is empty, or the report failed."""
        self._polling -= 1
        self._width = 1

    def failed(self, poll: Poll, now: float, retry_after_s: float | None) -> float:
        """No answer. Seconds until the next poll."""
        self._polling -= 1
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

    def _has_room(self) -> bool:
        return self._polling < (1 if self.is_failing else self._width)

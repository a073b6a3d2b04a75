# SPDX-License-Identifier: Apache-2.0
"""How many slots of an agent may poll now, and when; whether the server may keep a poll. Pure: no thread, clock or I/O.

A slot polls only while it is free, so nothing is taken that can't run at once. While polls find tasks more slots may
poll (twice as many with each hit); one empty poll brings it back to one slot, whose pause starts short and grows to the
poll interval. So an idle agent costs one poll an interval however many workers it has, and a deep queue is taken at
full width. While polls fail, one slot probes. Polls that ride with reports, which may hang, hinder each other alone.

A server that keeps a poll looks at its queue every 100 ms only, counted from when the poll came. So for a few seconds
after a task, when a next one is likely, a second slot joins the one that waits there; with plain polls, until a task
has come to a poll that was kept.

Threads share one interpreter: where functions end at once and the platform is near, one slot does all there is to do,
and a second one that polls only makes both wait for the interpreter. There a whole turn, from a poll to the end of its
task, takes less than a millisecond and a half. So from its first task on an agent is narrow: another slot joins only
when nobody has polled for five milliseconds, and no slot goes on beside another's poll. When turns are longer,
somebody waits in them, and the agent is wide for a while: each free slot may poll. Turns are measured while the agent
is narrow, since in a crowd all are long.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Callable, NamedTuple

from ...conductor.wire import Task
from .backoff import CAP_S, Backoff

FIRST_PAUSE_S = 0.05
LEAST_PAUSE_S = 0.01
JITTER = 0.1
SHORT_S = 0.0015  # a shorter turn is computing alone; in a longer one the slot waits, and other slots may use that time
SILENT_S = 0.005  # no poll for this long: every slot that polled is running its function
LOOK_MOST_S = 0.05  # between two looks for that silence: each look takes the interpreter from the slot at work
TURNS, ODD = 16, 3  # measured together, since Windows' clock steps by 15.6 ms; the longest count for nothing
CROWD_S = 0.02  # how long the polls of a crowd may lengthen the turns after it
WIDE_S, WIDE_MOST_S = 0.5, 64.0  # until turns are measured again; WIDE_S doubles while they stay long
LIKELY_S = 5.0  # how long after a task the next one is likely: often it is the workflow's next step
JOIN_S = 0.05  # after the first poll, half way between two looks of the server
KEPT_S = 4.0  # an empty reply that took longer came from a server that keeps polls, for 5 s
MISSED_S = 1.0  # a task that came so long before a kept poll's end, and not by that poll, was missed
CAME_S = 1.0  # a task scheduled so long after a poll was sent, and brought by it, came while the poll was kept
SURE = 2  # tasks missed, and none came to a kept poll
LONGEST_S = 1e7  # a task that waited longer than 115 days has a time that is none
_DELAYS = ("callbackAfterSeconds", "startDelayInSeconds", "rateLimitPerFrequency")


class Poll(NamedTuple):
    """A poll under way. ``lead``: the first of its agent, or the one that ``joins`` it; it may wait in the server. One
    that ``rides``, beside a report or as a part of it, may not: it is over when the report is."""

    sent_at: float
    epoch: int
    lead: bool
    joins: bool
    rides: bool = False


class Intake:
    """The polling state of one agent. ``cap_s``: the longest pause after a failure."""

    def __init__(self, workers: int, interval_s: float, rand: Callable[[], float], cap_s: float = CAP_S) -> None:
        self.workers, self._rand = workers, rand
        self._interval_s = max(interval_s, LEAST_PAUSE_S)
        self._keeps = True  # the server, if asked: empty() sees it, since a gateway may answer at once
        self._kept_until = 0.0  # the server keeps a poll that is under way, at the longest until then
        self._hit_at = -LIKELY_S
        self._backoff = Backoff(rand, cap_s)
        self._width = 1  # how many slots may poll at once; more than one after a hit
        self.polling = 0  # polls under way of free slots
        self.riding = 0  # polls under way that ride
        self._turns_s: list[float] = []  # the turns measured since the last verdict
        self._is_narrow = False
        self._changes_at = 0.0  # wide: when the agent is narrow again; narrow: turns count that began after it
        self._wide_s = WIDE_S
        self._look_s = SILENT_S  # until the next look for silence; doubles with each look that finds a poll
        self.begun_at = 0.0  # when the last poll was sent
        self.next_at = 0.0  # no poll before
        self._pause_s = 0.0
        # Of polls sent before an empty or failed reply only the first lengthens the pause: the others say nothing new.
        self._epoch = 0

    @property
    def is_failing(self) -> bool:
        return self._backoff.failures > 0

    def overdue_s(self, now: float) -> float:
        """How long ago the last poll was sent, while a poll waits for its answer."""
        return now - self.begun_at if self.polling + self.riding > 0 else 0.0

    def wait_s(self, now: float) -> float | None:
        """Seconds until a free slot may poll or asks again; None: until something has changed."""
        if self.polling >= self._most:
            return None
        if now < self.next_at:
            return self.next_at - now
        if not self._is_narrow or (self._width == 1 and not self.riding):
            return 0.0
        if now >= self.begun_at + SILENT_S:
            self._look_s = SILENT_S
            return 0.0
        look_s, self._look_s = self._look_s, min(self._look_s * 2, LOOK_MOST_S)
        return look_s

    @property
    def horizon_s(self) -> float:
        """A slot that looks again within so long need not be told that a task came."""
        return LOOK_MOST_S if self._is_narrow else SILENT_S

    def joins_in_s(self, now: float) -> float | None:
        """The same for a slot that has no room: until it may join the one poll that waits in the server."""
        is_alone = self.polling == self._width == 1 and not self.is_failing
        if is_alone and now < self._kept_until and now - self._hit_at < LIKELY_S:
            return max(0.0, self.begun_at + JOIN_S - now, self.next_at - now)
        return None

    def goes_on(self, now: float, turn_s: float) -> bool:
        """May a slot poll again at once, whose task ended ``turn_s`` after the poll that brought it was sent?"""
        self._measure(now, turn_s)
        return self.polling + self.riding < (1 if self._is_narrow else self._most) and now >= self.next_at

    def _measure(self, now: float, turn_s: float) -> None:
        if not self._is_narrow:
            if now >= self._changes_at:
                self._is_narrow, self._changes_at = True, now + CROWD_S
        elif now - turn_s >= self._changes_at:
            self._turns_s.append(turn_s)
            if len(self._turns_s) == TURNS:
                self._is_narrow = sum(sorted(self._turns_s)[:-ODD]) < SHORT_S * (TURNS - ODD)
                self._turns_s.clear()
                if self._is_narrow:
                    self._wide_s = WIDE_S
                else:
                    self._changes_at = now + self._wide_s
                    self._wide_s = min(self._wide_s * 2, WIDE_MOST_S)

    def begin(self, now: float, rides: bool = False) -> Poll:
        joins = self.polling > 0 and self._width == 1
        lead = not rides and self.polling == 0
        self.polling += not rides
        self.riding += rides
        self.begun_at = now
        return Poll(now, self._epoch, lead or joins, joins, rides)

    def hit(self, now: float, rides: bool = False) -> bool:
        """A reply brought a task: more may poll, at once. True when this ended a row of failures."""
        self._ended(rides)
        self._kept_until *= self.polling > 0
        self._hit_at = now
        self._width = min(self.workers, self._width * 2)
        self._pause_s = 0.0
        self.next_at = now
        return self._backoff.succeeded()

    def waits(self, for_s: float) -> None:
        """The poll just begun is one that the server is asked to keep for so long."""
        self._kept_until = self.begun_at + for_s * self._keeps

    def empty(self, poll: Poll, now: float, was_to_wait: bool = False) -> bool:
        """Nothing there. The pause counts from the sending: time that the server held us is part of it.
        ``was_to_wait``: the server was asked to keep this poll."""
        self._ended(poll.rides)
        self._width = 1
        self._kept_until *= self.polling > 0
        if was_to_wait:
            self._keeps = now - poll.sent_at > KEPT_S
            self.next_at = min(self.next_at, max(now, poll.sent_at + self._pause_s))  # whoever joined has put it off
        if poll.epoch == self._epoch:
            self._epoch += 1
            self._pause_s = min(self._interval_s, max(FIRST_PAUSE_S, self._pause_s * 2))
            self.next_at = max(now, poll.sent_at + self._pause_s * (1 + JITTER * self._rand()))
        return self._backoff.succeeded()

    def unchained(self) -> None:
        """A report that asked for the next task brought none: the queue is empty, or the report failed."""
        self._ended(rides=True)
        self._width = 1

    def failed(self, poll: Poll, now: float, retry_after_s: float | None) -> None:
        """No answer."""
        self._ended(poll.rides)
        if poll.epoch == self._epoch:
            self._epoch += 1
            self.next_at = now + max(self._backoff.failed(), retry_after_s or 0.0)

    def recovered(self, now: float) -> bool:
        """Some other call got through: no need to wait longer than an interval. True when a poll may come sooner."""
        before, self.next_at = self.next_at, min(self.next_at, max(now, self.begun_at + self._interval_s))
        return self.next_at < before

    def _ended(self, rides: bool) -> None:
        self.polling -= not rides
        self.riding -= rides

    @property
    def _most(self) -> int:
        """How many slots may poll at once."""
        return 1 if self.is_failing else self._width


class Sight:
    """Conductor on Redis looks when a poll comes and then sits its 5 s out: a task that comes meanwhile is given to
    the next poll. Seen by the time that the task lay in the queue, which its own times tell by the server's clock.
    ``is_clear``: a task that came while a poll was kept was brought by that poll."""

    def __init__(self) -> None:
        self.is_clear = False
        self._missed = 0
        self._waited_from = self._waited_until = 0.0  # the last poll that was kept and brought nothing

    def shows_blindness(self, now: float, took_s: float, was_kept: bool, tasks: Sequence[Task]) -> bool:
        """True when this poll's reply settles that keeping polls delays tasks."""
        if not tasks:
            if was_kept:
                self._waited_from, self._waited_until = now - took_s, now
            return False
        waited_s = queued_s(tasks[0]) or 0.0
        if was_kept and took_s - waited_s > CAME_S:
            self._missed, self.is_clear = 0, True
        elif self._waited_from < now - waited_s < self._waited_until - MISSED_S:
            self._missed += 1
        return self._missed >= SURE


def queued_s(task: Task) -> float | None:
    """How long the task could have been had, by its own times. None where they are not told, and for one that may have
    been held back: a retry, one called again, one with a delay or a limit."""
    wire = task.wire
    flow = wire.get("workflowTask")
    given = flow.get("taskDefinition") if isinstance(flow, dict) else None
    definition = given if isinstance(given, dict) else {}
    is_held_back = task.retry_count or task.poll_count > 1 or any(map(wire.get, _DELAYS))
    if is_held_back or definition.get("concurrentExecLimit"):
        return None
    try:
        waited_s: float = (wire["startTime"] - wire["scheduledTime"]) / 1000
    except (KeyError, TypeError, OverflowError):  # not there, or no times
        return None
    return max(0.0, waited_s) if waited_s < LONGEST_S else None

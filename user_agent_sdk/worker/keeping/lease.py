# SPDX-License-Identifier: Apache-2.0
"""Keeps the leases of tasks that run here or whose result is not delivered yet.

The platform hands a task to somebody else when it hears nothing for the task's response timeout; an
``extendLease`` restarts that clock. One is sent a third of it after the last success was *sent*.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING, Callable

from ...conductor.client import Client, Outcome
from ...conductor.wire import DEFAULT_RESPONSE_TIMEOUT_S, Verdict
from ...logs import counted
from ..polling.backoff import EXTENSION, Pace
from .timetable import Timetable

if TYPE_CHECKING:
    from .held import Held

log = logging.getLogger(__name__)

SENDERS, SENDERS_MOST = 4, 64  # a thousand leases of 15 s at 300 ms a request need 60
LOOKED_AT_MOST = 100  # leases: where more are kept, the senders have no time for looks at the tasks
LOOK_AFTER_S = 2.0  # of running: most tasks end sooner, and cost no look
BEHIND = 0.8  # share of a lease: past it without an extension, the lease will not be kept
ECHOES = 2  # extensions in a row after which the same task came again
OFF_S, OFF_MAX_S = 60.0, 3600.0  # for how long none is sent then
UNKNOWN_LEASE_S = 90.0  # a response timeout that is missing or nonsense is kept as if it were this
SEND_TIMEOUT_S = 5.0
LINGER_S = 10.0  # how long the platform may still work on an extension that was not answered
SLEPT_S = 1.0  # by which the wall clock, from one look to the next, gets ahead of the monotonic one
STALLED_S = 3.0  # until the next extension of a lapsed lease, when the last was not answered: the platform queues them
_NEVER_MS = 2**62
_BROKE_OFF = Outcome(Verdict.MAYBE, "the extension broke off")
_OVER = ("CANCELED", "COMPLETED", "COMPLETED_WITH_ERRORS", "FAILED_WITH_TERMINAL_ERROR", "SKIPPED")


class Lease:
    """The platform's patience with one task. Pure: whoever calls says what time it is. ``lease_s`` is the task's
    response timeout or None. Two clocks, since either may jump or stand still: a lease that one of them calls lapsed
    may have lapsed."""

    def __init__(self, lease_s: float | None) -> None:
        self.lease_s = lease_s
        kept_s = lease_s if lease_s is not None else UNKNOWN_LEASE_S
        self.period_s, self.retry_s = kept_s / 3, kept_s / 10  # between two extensions, and after a failed one
        self.send_timeout_s = min(SEND_TIMEOUT_S, kept_s / 6)
        self.renewed_at = 0.0  # monotonic
        self.until = float("inf")  # monotonic
        self.until_ms = _NEVER_MS  # wall clock, epoch milliseconds
        self.quiet_at = 0.0  # monotonic; from then on the platform works on no extension of this lease
        self.paused_until = 0.0  # monotonic; no extension before: a report is on its way
        self.is_put_off = False  # an extension was due in that pause
        self.flight: threading.Event | None = None  # of the last extension; set when its reply is here
        self.was_refused = False  # by the platform, which was said
        self.has_failed = False  # the last extension
        self.extensions = 0  # sent
        self.echoes = 0  # how many of the last extensions in a row were followed by a copy of the task
        self.echoed = 0  # how many were sent when the last copy came
        self._is_void = False

    def renewed(self, sent_at: float, now: float, wall_s: float) -> None:
        """The platform answered an exchange about the task that began at ``sent_at`` (monotonic). It
        answers so too when the task is no longer ours: a lease that may have lapsed stays so."""
        self._is_void = self.has_lapsed(now, wall_s)
        length_s = self.lease_s if self.lease_s is not None else DEFAULT_RESPONSE_TIMEOUT_S
        self.renewed_at = sent_at
        self.until = sent_at + length_s
        if not self._is_void:  # else the journal would tell a next process that the result came in time
            self.until_ms = int((wall_s - (now - sent_at) + length_s) * 1000)

    def adopted(self, until_ms: int, now: float, wall_s: float) -> None:
        """An ended process knew so long a lease, unless the clock was set back. Now either clock may tell its end."""
        self.until_ms, self.until = until_ms, now + until_ms / 1000 - wall_s
        self._is_void = self.until - now > (self.lease_s or DEFAULT_RESPONSE_TIMEOUT_S)

    def has_lapsed(self, now: float, wall_s: float) -> bool:
        return self._is_void or now >= self.until or wall_s * 1000 >= self.until_ms

    def is_ending(self, now: float) -> bool:
        """Most of it is over and it was not renewed."""
        return 0 < self.renewed_at < now - BEHIND * (self.until - self.renewed_at) and not self.was_refused


class LeaseKeeper:
    """Extends every lease in time, from the poll until the delivery. Owns its sender threads: four, so that a request
    that hangs delays no other lease, and more while extensions are overdue."""

    def __init__(
        self, client: Client, pace: Pace, on_contact: Callable[[], None] = lambda: None, *,
        wall: Callable[[], float] = time.time, on_overslept: Callable[[float, float], None] | None = None,
    ) -> None:  # fmt: skip
        self._client, self._on_contact = client, on_contact
        self.pace, self.clock, self.wall = pace, pace.clock, wall
        table = Timetable("lease", self._extend, SENDERS, self.clock, most=SENDERS_MOST, on_overslept=on_overslept)
        self._table, self.drop = table, table.drop
        self.start, self.close, self.join = table.start, table.close, table.join
        self._put_back: dict[str, Lease] = {}  # by task id: the platform may still work on an extension of them
        self._failed = False  # the last extension
        self.is_behind = False  # extensions are overdue for so long that leases will not be kept
        self._is_ending = False  # of leases whose extensions fail, which was said
        self._off_s = 0.0
        self._off_until = 0.0  # monotonic; no extension before
        self._ahead_s = float("inf")  # the wall clock of the monotonic one, at the last watch()

    def track(self, held: Held) -> None:
        """Extend its lease from now on; one of unknown age (an adopted result's) at once."""
        lease = held.lease
        due_in_s = max(0.0, lease.renewed_at + lease.period_s - self.clock()) if lease.renewed_at else 0.0
        self._table.put(held, due_in_s)

    def put_back(self, held: Held) -> None:
        """The task goes back to the queue and may come again, under the same id: an extension that was not answered
        may then undo the report of its next run."""
        self.pause(held)
        self.drop(held)
        if held.lease.quiet_at > self.clock():
            self._put_back[held.entry.task_id] = held.lease

    def quiet_at(self, task_id: str) -> float:
        """From when on (monotonic) the platform works on no extension of an earlier run, an unanswered one included."""
        lease = self._put_back.get(task_id)
        return 0.0 if lease is None else min(lease.quiet_at, self.clock() + LINGER_S)

    def pause(self, held: Held) -> None:
        """A report is about to be sent: Conductor takes no lock, and an extension that it works on at the same
        time may undo the report. So none is sent beside it, but for a report that takes a third of the lease;
        and one that is on its way is waited for."""
        lease = held.lease
        lease.paused_until = self.clock() + lease.period_s
        if lease.flight is not None:
            lease.flight.wait(lease.send_timeout_s)

    def resume(self, held: Held) -> None:
        """The report was not taken."""
        lease = held.lease
        lease.paused_until = 0.0
        if lease.is_put_off:
            lease.is_put_off = False
            self._table.put(held, 0.0, if_kept=True)  # not hurry(): the thread that put it off may not be done with it

    def watch(self) -> None:
        """Say before leases lapse that they will. When our own threads fall behind, and not the platform refuses, no
        more tasks are taken until leases are kept again."""
        self._table.watch()
        now, is_refusing = self.clock(), bool(self.pace.refused_at)
        ahead_s, self._ahead_s = self._ahead_s, self.wall() - now
        if self._ahead_s - ahead_s > SLEPT_S:  # the machine slept, and with it the clock by which extensions are due
            self._table.hurry()
        for task_id, left in list(self._put_back.items()):
            if left.quiet_at <= now:
                del self._put_back[task_id]
        ending = [held.lease for held in self._table.items() if held.lease.is_ending(now) and now >= self._off_until]
        refused = sum(lease.has_failed or is_refusing for lease in ending)
        late = len(ending) - refused
        if late and not self.is_behind:
            text = "%s will not be kept in time, since extensions take too long: no more tasks are taken until then"
            log.error(text, counted(late, "lease"), extra={"action": "leases_behind"})
        if refused and not self._is_ending:
            text = "%s will not be kept, since the platform takes no extension: such tasks may run twice"
            log.warning(text, counted(refused, "lease"), extra={"action": "leases_ending"})
        if self.is_behind and not late and now >= self._off_until:
            log.info("Leases are kept in time again", extra={"action": "leases_kept"})
        self.is_behind, self._is_ending = late > 0, refused > 0

    def copy_came(self, held: Held) -> None:
        """A poll returned a task that is held here. After each of two extensions of that task in a row: the platform
        may not know extendLease, and take each for "put the task back". So for a while none is sent, for twice as long
        when that happens again soon. Any other copy is the queue's own doing."""
        lease, now = held.lease, self.clock()
        if lease.extensions == lease.echoed:
            return
        lease.echoes = lease.echoes + 1 if lease.extensions == lease.echoed + 1 else 1
        lease.echoed = lease.extensions
        if lease.echoes < ECHOES or now < self._off_until:
            return
        is_soon = now - self._off_until < self._off_s
        self._off_s = min(OFF_MAX_S, self._off_s * 2) if is_soon else OFF_S
        self._off_until = now + self._off_s
        text = "Task %s came again after each of its last %d extensions: this platform may not know extendLease"
        text += ". None is sent for %.0f s; tasks that run longer than their response timeout may run twice"
        log.warning(text, held.ids[0], ECHOES, self._off_s, extra=held.said("lease"))

    def _extend(self, held: Held) -> float | None:
        wait_s = max(0.0, self._off_until - self.clock())
        if not wait_s and held.lease.has_failed:  # else it has no part in the refusals, and its turn now
            wait_s = self.pace.wait_s(EXTENSION, held.lease.retry_s)
        if wait_s > 0:
            return wait_s
        lease = held.lease
        # Publish the flight before reading paused_until, so that pause() sees it or we see paused_until.
        flight = lease.flight = threading.Event()
        try:
            sent_at = self.clock()
            lease.is_put_off = sent_at < lease.paused_until
            if lease.is_put_off:
                return lease.paused_until - sent_at
            delay_s = self._extended(held, lease, sent_at)
        finally:
            flight.set()
        before, is_known = self.clock(), delay_s is not None
        if not is_known or (lease.renewed_at == sent_at and len(self._table) <= LOOKED_AT_MOST):
            self._look(held, is_known)
        return None if delay_s is None else max(0.0, delay_s - (self.clock() - before))

    def _look(self, held: Held, is_known: bool) -> None:
        """Tell a running function that its task is over: its workflow was ended, restarted or removed meanwhile. The
        reply to an extension tells that of a removed task alone (then ``is_known`` is False), so there is one look at
        the task after it. A task that failed or timed out on the platform goes on: its result may answer the retry."""
        call, held.is_unknown = held.call, not is_known
        if call is None or held.ended_s or call.reason:
            return
        if not is_known:
            call.cancel("the platform does not know this task any more")
        elif self._client.can_look and self.clock() - held.began_at >= LOOK_AFTER_S:
            wanted = held.wanted
            status = self._client.status_of(held.ids[0], held.lease.send_timeout_s)
            if status in _OVER and held.wanted == wanted:  # else it was rerun or retried since
                held.is_over = True
                call.cancel(f"the task was ended on the platform meanwhile ({status})")
            elif status in ("FAILED", "TIMED_OUT"):
                held.lease.until_ms = 0  # it has lapsed, though the platform says 200 to extensions

    def _extended(self, held: Held, lease: Lease, sent_at: float) -> float | None:
        outcome, before, lease.quiet_at = _BROKE_OFF, lease.quiet_at, float("inf")
        lease.extensions += 1
        try:
            outcome = self._client.extend(*held.ids, held.entry.worker_id, lease.send_timeout_s)
        finally:
            lease.quiet_at = max(before, self.clock() + (LINGER_S if outcome.verdict is Verdict.MAYBE else 0.0))
        if outcome.verdict is Verdict.APPLIED:
            now = self.clock()
            lease.renewed(sent_at, now, self.wall())
            lease.has_failed = False
            self.pace.succeeded(EXTENSION)
            if self._failed:
                self._failed = False
                self._on_contact()
            return max(0.0, sent_at + lease.period_s - now)
        if outcome.verdict is Verdict.REFUSED:
            if not lease.was_refused:
                lease.was_refused = True
                extra = held.said("lease")
                log.warning("The lease of task %s can't be kept: %s", held.ids[0], outcome.reason, extra=extra)
            if outcome.status == 404:
                return None  # there is no such task; any other refusal may be a gateway's
        else:
            self.pace.failed(EXTENSION)
        lease.has_failed = self._failed = True
        log.debug("The lease of task %s was not extended: %s", held.ids[0], outcome.reason, extra=held.said("lease"))
        is_stalled = outcome.verdict is Verdict.MAYBE and lease.has_lapsed(self.clock(), self.wall())
        return max(lease.retry_s, STALLED_S) if is_stalled else lease.retry_s

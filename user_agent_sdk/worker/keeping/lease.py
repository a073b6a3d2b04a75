# SPDX-License-Identifier: Apache-2.0
"""Keeps the leases of tasks that run here or whose result is not delivered yet.

The platform hands a task to somebody else when it hears nothing for the task's response timeout; an
``extendLease`` restarts that clock. One is sent a third of it after the last success was *sent*.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import Callable

from ...conductor.client import Client, Outcome
from ...conductor.wire import DEFAULT_RESPONSE_TIMEOUT_S, Verdict
from .timetable import Timetable

log = logging.getLogger(__name__)

SENDERS = 4
UNKNOWN_LEASE_PERIOD_S = 30.0  # for a response timeout that is missing or nonsense
SEND_TIMEOUT_S = 5.0
LINGER_S = 10.0  # how long the platform may still work on an extension that it did not answer
STALLED_S = 3.0  # after one that it did not answer, of a lease that is over: it works on them all, one after the other
_NEVER_MS = 2**62


class Lease:
    """The platform's patience with one task. Pure: whoever calls says what time it is.

    ``lease_s`` is the task's response timeout or None. Two clocks, since either may jump or stand
    still: a lease that one of them calls lapsed may have lapsed.
    """

    def __init__(self, task_id: str, workflow_id: str, worker_id: str, lease_s: float | None) -> None:
        self.task_id = task_id
        self.workflow_id = workflow_id
        self.worker_id = worker_id
        self.lease_s = lease_s
        self.renewed_at = 0.0  # monotonic
        self.until = float("inf")  # monotonic
        self.until_ms = _NEVER_MS  # wall clock, epoch milliseconds
        self.quiet_at = 0.0  # monotonic; from then on the platform works on no extension of it
        self.held_until = 0.0  # monotonic; no extension before: a report is on its way
        self.is_held = False  # one was due, and waits for that
        self.flight: threading.Event | None = None  # of the last extension; set when it has landed
        self.was_refused = False  # which was said
        self._is_void = False

    def renewed(self, sent_at: float, now: float, wall_s: float) -> None:
        """The platform answered an exchange about the task that began at ``sent_at`` (monotonic). It
        answers so too when the task is no longer ours: a lease that may have lapsed stays so."""
        self._is_void = self.has_lapsed(now, wall_s)
        length_s = self.lease_s if self.lease_s is not None else DEFAULT_RESPONSE_TIMEOUT_S
        self.renewed_at = sent_at
        self.until = sent_at + length_s
        self.until_ms = int((wall_s - (now - sent_at) + length_s) * 1000)

    def has_lapsed(self, now: float, wall_s: float) -> bool:
        return self._is_void or now >= self.until or wall_s * 1000 >= self.until_ms

    @property
    def period_s(self) -> float:
        return self.lease_s / 3 if self.lease_s is not None else UNKNOWN_LEASE_PERIOD_S

    @property
    def retry_s(self) -> float:
        """After a failed extension."""
        return self.lease_s / 10 if self.lease_s is not None else UNKNOWN_LEASE_PERIOD_S / 3

    @property
    def send_timeout_s(self) -> float:
        return min(SEND_TIMEOUT_S, self.lease_s / 6) if self.lease_s is not None else SEND_TIMEOUT_S


class LeaseKeeper:
    """Extends every lease in time, from the poll until the delivery. Owns its sender threads: four, so
    that a request that hangs delays no other lease."""

    def __init__(
        self,
        client: Client,
        on_contact: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._client = client
        self._on_contact = on_contact
        self._clock = clock
        self._wall = wall
        self._table: Timetable[Lease] = Timetable("lease", self._extend, SENDERS, clock)
        self.start, self.close, self.join = self._table.start, self._table.close, self._table.join
        self._failed = False  # the last extension
        self._off = False

    def __len__(self) -> int:
        return len(self._table)

    def begin(self, lease: Lease, given_at: float) -> None:
        """The platform gave a task in an exchange that began at ``given_at`` on the clock."""
        lease.renewed(given_at, self._clock(), self._wall())

    def track(self, lease: Lease) -> None:
        """Extend it from now on; one of unknown age (an adopted result's) at once."""
        if not self._off:
            due_in_s = max(0.0, lease.renewed_at + lease.period_s - self._clock()) if lease.renewed_at else 0.0
            self._table.put(lease.task_id, lease, due_in_s)

    def drop(self, lease: Lease) -> None:
        lease.is_held = False
        self._table.drop(lease.task_id)

    def hold(self, lease: Lease) -> None:
        """A report is about to be sent: Conductor takes no lock, and an extension that it works on at the same
        time may undo the report. So none is sent beside it, but for a report that takes a third of the lease;
        and one that is on its way is waited for."""
        lease.held_until = self._clock() + lease.period_s
        if lease.flight is not None:
            lease.flight.wait(lease.send_timeout_s)

    def resume(self, lease: Lease) -> None:
        """The report was not taken."""
        lease.held_until = 0.0
        if lease.is_held:
            lease.is_held = False
            self.track(lease)

    def has_lapsed(self, lease: Lease) -> bool:
        return lease.has_lapsed(self._clock(), self._wall())

    def give_up(self) -> None:
        """This platform does not know extendLease: to it each one means "put the task back"."""
        if not self._off:
            self._off = True
            text = "This platform hands out tasks again while they run: it does not know extendLease. No more are sent"
            log.warning("%s; tasks that run longer than their response timeout may run twice", text, extra=_ACTION)

    def _extend(self, lease: Lease) -> float | None:
        if self._off:
            return None
        flight = lease.flight = threading.Event()  # before a look at held_until: either sees the other
        try:
            sent_at = self._clock()
            if sent_at < lease.held_until:
                lease.is_held = True
                return lease.held_until - sent_at
            return self._extended(lease, sent_at)
        finally:
            flight.set()

    def _extended(self, lease: Lease, sent_at: float) -> float | None:
        outcome, before, lease.quiet_at = _BROKE_OFF, lease.quiet_at, float("inf")
        try:
            outcome = self._client.extend(lease.task_id, lease.workflow_id, lease.worker_id, lease.send_timeout_s)
        finally:
            lease.quiet_at = max(before, self._clock() + (LINGER_S if outcome.verdict is Verdict.MAYBE else 0.0))
        if outcome.verdict is Verdict.APPLIED:
            now = self._clock()
            lease.renewed(sent_at, now, self._wall())
            if self._failed:
                self._failed = False
                self._on_contact()
            return max(0.0, sent_at + lease.period_s - now)
        if outcome.verdict is Verdict.REFUSED:
            if not lease.was_refused:
                lease.was_refused = True
                log.warning("The lease of task %s can't be kept: %s", lease.task_id, outcome.reason, extra=_ACTION)
            if outcome.status == 404:
                return None  # there is no such task; any other refusal may be a gateway's
        self._failed = True
        log.debug("The lease of task %s was not extended: %s", lease.task_id, outcome.reason, extra=_ACTION)
        is_stalled = outcome.verdict is Verdict.MAYBE and self.has_lapsed(lease)
        return max(lease.retry_s, STALLED_S) if is_stalled else lease.retry_s


_BROKE_OFF = Outcome(Verdict.MAYBE, "the extension broke off")
_ACTION = {"action": "lease"}

# SPDX-License-Identifier: Apache-2.0
"""Every retry of a report: what a slot could not deliver at its first attempt comes here.

Retried for ever, each result on its own schedule; what the platform refuses for good three times over
at least a minute is kept as rejected, for a human. Only final statuses come here: a second COMPLETED
or FAILED changes nothing, a second IN_PROGRESS would hand the task to somebody else.
"""

from __future__ import annotations

import json
import logging
import random
import threading
import time
from typing import Callable

from ...conductor.client import Client, Outcome
from ...conductor.wire import REASON_MAX_CHARS, TaskStatus, Verdict, encode
from ..polling.backoff import Backoff, Outage
from ..watched import Counts
from .journal import Journal
from .journal_file import REJECTED, Entry
from .lease import Lease, LeaseKeeper
from .timetable import Timetable

log = logging.getLogger(__name__)

SENDERS = 4
REFUSALS = 3
REFUSED_FOR_S = 60.0
REFUSED_AGAIN_S = 30.0
SURE_AGAIN_S = 0.5


class Parcel:
    """A result on its way: its journal row, its lease, and what its attempts have met."""

    def __init__(self, row: int, entry: Entry, lease: Lease, sent_at: float, rand: Callable[[], float]) -> None:
        self.row = row
        self.entry = entry
        self.lease = lease
        self.sent_at = sent_at  # monotonic; the last attempt
        self.again_at = 0.0  # monotonic; not before, however all are hurried
        self.backoff = Backoff(rand)
        self.refusals = 0
        self.refused_at: float | None = None
        self.is_superseded = False
        self._end = threading.Lock()  # taken once, by whoever is the last to touch the row

    @property
    def ids(self) -> tuple[str, str]:
        return (self.entry.task_id, self.entry.workflow_id)

    def ends(self) -> bool:
        """True for the first caller only: it clears up."""
        return self._end.acquire(blocking=False)


class Delivery:
    """Owns its sender threads; slots hand it parcels and settle their own first attempts here.

    ``on_delivered`` hears the task id of each result that is delivered or rejected;
    ``on_contact`` that the platform took one.
    """

    def __init__(
        self,
        client: Client,
        journal: Journal,
        leases: LeaseKeeper,
        on_delivered: Callable[[str], None],
        *,
        on_contact: Callable[[], None] = lambda: None,
        counts: Counts | None = None,
        clock: Callable[[], float] = time.monotonic,
        rand: Callable[[], float] = random.random,
    ) -> None:
        self._client = client
        self._journal = journal
        self._leases = leases
        self._on_delivered = on_delivered
        self._on_contact = on_contact
        self._clock = clock
        self._counts = counts or Counts()
        self._rand = rand
        self._lock = threading.Lock()  # guards _outage
        self._outage = Outage(log, "Results can't be delivered")
        self._table: Timetable[Parcel] = Timetable("delivery", self._send, SENDERS, clock)
        self.start, self.close, self.join = self._table.start, self._table.close, self._table.join
        self.flush = self._table.wait_empty  # true once everything is delivered or rejected

    def __len__(self) -> int:
        return len(self._table)

    @property
    def next_at(self) -> float | None:
        """When the next try is due, on the clock."""
        return self._table.next_due()

    def parcel(self, row: int, entry: Entry, lease: Lease) -> Parcel:
        return Parcel(row, entry, lease, self._clock(), self._rand)

    def post(self, parcel: Parcel) -> None:
        """Deliver a result that no slot waits for: adopted, or of a function that ran out of time."""
        self._table.put(parcel.entry.task_id, parcel, 0.0)

    def begin(self, parcel: Parcel) -> None:
        """An attempt is about to be made."""
        self._leases.hold(parcel.lease)
        parcel.sent_at = self._clock()

    def settle(self, parcel: Parcel, outcome: Outcome) -> None:
        """What became of a slot's own attempt; retries go on here if they must."""
        delay_s = self._settled(parcel, outcome)
        if delay_s is not None:
            self._table.put(parcel.entry.task_id, parcel, delay_s)

    def supersede(self, task_id: str) -> None:
        """The platform retries ``task_id`` and the result held for it goes to the retry. It is still sent under
        the old id: an extension that meets the timeout was seen to bring that attempt back to life, and then
        nothing else would end it. But no lease is kept for it, and it is not kept as late."""
        self._journal.forget_late(task_id)
        parcel = self._table.drop(task_id)
        if parcel is not None:
            parcel.is_superseded = True
            self._leases.drop(parcel.lease)
            self._table.put(task_id, parcel, 0.0)

    def hurry(self) -> None:
        """The platform answers again: no need to wait."""
        if len(self._table):
            self._table.hurry()

    def _send(self, parcel: Parcel) -> float | None:
        parcel.sent_at = self._clock()
        if parcel.sent_at < parcel.again_at:
            return parcel.again_at - parcel.sent_at
        self.begin(parcel)
        outcome = self._client.report(parcel.entry.body, parcel.ids)
        self._counts.reported(parcel.entry.agent_id, self._clock() - parcel.sent_at, outcome.verdict)
        return self._settled(parcel, outcome)

    def _settled(self, parcel: Parcel, outcome: Outcome) -> float | None:
        """None when the parcel is done with, else the seconds to its next attempt."""
        now = self._clock()
        if outcome.verdict is Verdict.APPLIED:
            had_trouble = parcel.backoff.succeeded()
            again_s = self._unsure_s(parcel, now)
            if again_s is None:
                self._delivered(parcel)
            if had_trouble:
                self._table.hurry()
                self._recovered(now)
            self._on_contact()
            return again_s
        self._leases.resume(parcel.lease)
        if outcome.verdict is Verdict.REFUSED:
            return self._refused(parcel, outcome, now)
        with self._lock:
            self._outage.failed(outcome.reason, now, outcome.verdict is Verdict.AUTH)
        return max(parcel.backoff.failed(), outcome.retry_after_s or 0.0)

    def _unsure_s(self, parcel: Parcel, now: float) -> float | None:
        """Seconds until the result is sent once more; None when it is delivered. An extension that Conductor
        works on at the same time may undo the report: it says 200 to both, and the task is in progress again
        (seen: it timed out and ran twice). A second report changes nothing if all was well."""
        quiet_at = parcel.lease.quiet_at
        if quiet_at <= parcel.sent_at:
            return None
        self._leases.drop(parcel.lease)
        parcel.again_at = SURE_AGAIN_S + (quiet_at if now < quiet_at < float("inf") else now)
        return parcel.again_at - now

    def _recovered(self, now: float) -> None:
        """Over only when the last one got through: a single result that can't must not fill the log."""
        if len(self._table) <= 1:
            with self._lock:
                self._outage.succeeded(now)

    def _delivered(self, parcel: Parcel) -> None:
        if not parcel.ends():
            return
        self._leases.drop(parcel.lease)
        entry = parcel.entry
        is_wanted = entry.status == TaskStatus.COMPLETED and entry.input_hash and not parcel.is_superseded
        if is_wanted and self._leases.has_lapsed(parcel.lease):
            self._journal.keep_late(parcel.row, entry)
        else:
            self._journal.free(parcel.row)
        self._on_delivered(entry.task_id)

    def _refused(self, parcel: Parcel, outcome: Outcome, now: float) -> float | None:
        parcel.refusals += 1
        if parcel.refused_at is None:
            parcel.refused_at = now
        task_id, extra = parcel.entry.task_id, {"action": "result_refused"}
        if parcel.refusals < REFUSALS or now - parcel.refused_at < REFUSED_FOR_S:
            log.warning("The result of task %s is refused: %s; trying again", task_id, outcome.reason, extra=extra)
            return REFUSED_AGAIN_S
        if outcome.status == 413 and parcel.entry.status != TaskStatus.FAILED_WITH_TERMINAL_ERROR:
            parcel.entry = _too_large(parcel.entry, outcome.reason)
            self._journal.replace(parcel.row, parcel.entry)
            parcel.refusals, parcel.refused_at = 0, None
            return 0.0
        if parcel.ends():
            text = "The platform refuses the result of task %s for good: %s. It is kept in the journal"
            log.error(text, task_id, outcome.reason, extra=extra)
            self._counts.rejected(parcel.entry.agent_id)
            self._leases.drop(parcel.lease)
            self._journal.replace(parcel.row, parcel.entry._replace(state=REJECTED, reason=outcome.reason))
            self._on_delivered(task_id)
        return None


def _too_large(entry: Entry, reason: str) -> Entry:
    """The small report in place of one that the platform will not take."""
    report = json.loads(entry.body)
    why = f"the output is too large for the platform: {len(entry.body)} bytes, {reason}"
    report.update(
        status=TaskStatus.FAILED_WITH_TERMINAL_ERROR.value, outputData={}, reasonForIncompletion=why[:REASON_MAX_CHARS]
    )
    report.pop("logs", None)
    return entry._replace(status=TaskStatus.FAILED_WITH_TERMINAL_ERROR.value, body=encode(report))

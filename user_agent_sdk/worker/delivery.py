"""Every retry of a report: what a slot could not deliver at its first attempt comes here.

Retried for ever, each result on its own schedule; what the platform refuses for good three times over
at least a minute is kept as rejected, for a human. Only final statuses come here: a second COMPLETED
or FAILED changes nothing, a second IN_PROGRESS would hand the task to somebody else.
"""

from __future__ import annotations

import json
import logging
import random
import time
from typing import Callable

from ..conductor.client import Client, Outcome
from ..conductor.wire import REASON_MAX_CHARS, TaskStatus, Verdict, encode
from .backoff import Backoff, Outage
from .journal import REJECTED, Entry, Journal, Late
from .lease import Lease, LeaseKeeper
from .timetable import Timetable

log = logging.getLogger(__name__)

SENDERS = 4
REFUSALS = 3
REFUSED_FOR_S = 60.0
REFUSED_AGAIN_S = 30.0


class Parcel:
    """A result on its way: its journal row, its lease, and what its attempts have met."""

    def __init__(self, row: int, entry: Entry, lease: Lease, rand: Callable[[], float]) -> None:
        self.row = row
        self.entry = entry
        self.lease = lease
        self.backoff = Backoff(rand)
        self.refusals = 0
        self.refused_at = 0.0

    @property
    def ids(self) -> tuple[str, str]:
        return (self.entry.task_id, self.entry.workflow_id)


class Delivery:
    """Owns its sender threads; slots hand it parcels and settle their own first attempts here."""

    def __init__(
        self,
        client: Client,
        journal: Journal,
        leases: LeaseKeeper,
        on_delivered: Callable[[str], None],
        *,
        on_contact: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
        rand: Callable[[], float] = random.random,
    ) -> None:
        self._client = client
        self._journal = journal
        self._leases = leases
        self._on_delivered = on_delivered
        self._on_contact = on_contact
        self._clock = clock
        self._rand = rand
        self._outage = Outage(log, "Results can't be delivered")
        self._table: Timetable[Parcel] = Timetable("delivery", self._send, SENDERS, clock)

    def start(self) -> None:
        self._table.start()

    def __len__(self) -> int:
        return len(self._table)

    def parcel(self, row: int, entry: Entry, lease: Lease) -> Parcel:
        return Parcel(row, entry, lease, self._rand)

    def post(self, parcel: Parcel) -> None:
        """Deliver a result that no slot waits for: adopted, or of a function that ran out of time."""
        self._table.put(parcel.row, parcel, 0.0)

    def settle(self, parcel: Parcel, outcome: Outcome) -> None:
        """What became of a slot's own attempt; retries go on here if they must."""
        delay_s = self._settled(parcel, outcome)
        if delay_s is not None:
            self._table.put(parcel.row, parcel, delay_s)

    def hurry(self) -> None:
        """The platform answers again: no need to wait."""
        if len(self._table):
            self._table.hurry()

    def flush(self, timeout_s: float | None) -> bool:
        """Wait until everything is delivered or rejected. True when it is."""
        return self._table.wait_empty(timeout_s)

    def close(self) -> None:
        self._table.close()

    def join(self, timeout_s: float) -> None:
        self._table.join(timeout_s)

    def _send(self, parcel: Parcel) -> float | None:
        return self._settled(parcel, self._client.report(parcel.entry.body, parcel.ids))

    def _settled(self, parcel: Parcel, outcome: Outcome) -> float | None:
        """None when the parcel is done with, else the seconds to its next attempt."""
        now = self._clock()
        if outcome.verdict is Verdict.APPLIED:
            had_trouble = parcel.backoff.succeeded()
            self._outage.succeeded(now)
            self._delivered(parcel)
            if had_trouble:
                self._table.hurry()
                self._on_contact()
            return None
        if outcome.verdict is Verdict.REFUSED:
            return self._refused(parcel, outcome, now)
        self._outage.failed(outcome.reason, now)
        return max(parcel.backoff.failed(), outcome.retry_after_s or 0.0)

    def _delivered(self, parcel: Parcel) -> None:
        self._leases.drop(parcel.lease)
        entry = parcel.entry
        if entry.status == TaskStatus.COMPLETED and entry.input_hash and self._leases.has_lapsed(parcel.lease):
            late = Late(entry.agent_id, entry.input_hash, entry.body, int(time.time() * 1000))
            self._journal.keep_late(entry.task_id, late)
        self._journal.free(parcel.row)
        self._on_delivered(entry.task_id)

    def _refused(self, parcel: Parcel, outcome: Outcome, now: float) -> float | None:
        parcel.refusals += 1
        parcel.refused_at = parcel.refused_at or now
        if parcel.refusals < REFUSALS or now - parcel.refused_at < REFUSED_FOR_S:
            return REFUSED_AGAIN_S
        task_id = parcel.entry.task_id
        if outcome.reason.startswith("HTTP 413") and parcel.entry.status != TaskStatus.FAILED_WITH_TERMINAL_ERROR:
            parcel.entry = _too_large(parcel.entry, outcome.reason)
            self._journal.replace(parcel.row, parcel.entry)
            parcel.refusals, parcel.refused_at = 0, 0.0
            return 0.0
        text = "The platform refuses the result of task %s for good: %s. It is kept in the journal"
        log.error(text, task_id, outcome.reason, extra={"action": "result_rejected", "task_id": task_id})
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

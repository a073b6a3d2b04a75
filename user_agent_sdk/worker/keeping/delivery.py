# SPDX-License-Identifier: Apache-2.0
"""Every retry of a report: what a slot could not deliver at its first attempt comes here.

Retried for ever, each result on its own schedule; what the platform refuses for good three times over
at least a minute is kept as rejected, for a human. Only final statuses come here: a second COMPLETED
or FAILED changes nothing, a second IN_PROGRESS would hand the task to somebody else.
"""

from __future__ import annotations

import logging
import threading
from typing import Callable

from ...conductor.client import Client, Outcome
from ...conductor.wire import LARGE_BYTES, TaskStatus, Verdict
from ..polling.backoff import REPORT, Backoff, Outage, chance
from ..watched import Counts
from . import journal_file, retries
from .held import GONE, LATE, REPORTING, SUPERSEDED, Held, Register, State, failure
from .journal import Journal
from .lease import LeaseKeeper
from .timetable import Timetable

log = logging.getLogger(__name__)

SENDERS, SENDERS_MOST = 4, 32
REFUSALS, REFUSED_AGAIN_S, REFUSED_FOR_S, NO_STORE_FOR_S = 3, 30.0, 60.0, 600.0
SURE_AGAIN_S = 0.5


class Delivery:
    """Owns its sender threads; slots make the first attempt of a report themselves, and tell here what came of it.
    ``on_contact`` hears that the platform took a report."""

    def __init__(
        self, client: Client, register: Register, journal: Journal, leases: LeaseKeeper, counts: Counts,
        on_contact: Callable[[], None],
    ) -> None:  # fmt: skip
        self._client, self._register, self._journal, self._leases = client, register, journal, leases
        self._pace, self._clock, self._wall = leases.pace, leases.clock, leases.wall
        self._counts, self._on_contact = counts, on_contact
        self._lock = threading.Lock()  # guards the next two
        self._failing: set[Held] = set()  # results whose last report failed
        self._outage = Outage(log, "Results can't be delivered")
        self._table: Timetable[Held] = Timetable("delivery", self._send, SENDERS, self._clock, most=SENDERS_MOST)
        self.start, self.close, self.join = self._table.start, self._table.close, self._table.join
        self.flush = self._table.wait_empty  # true once everything is delivered or rejected
        self.hurry = self._table.hurry  # the platform answers again: no need to wait
        self.next_due = self._table.next_due

    def __len__(self) -> int:
        return len(self._table)

    def post(self, held: Held) -> None:
        """Deliver a result that no slot waits for: adopted, or of a function that ran out of time."""
        self._register.move(held, REPORTING)
        self._table.put(held, 0.0)

    def attempt_starts(self, held: Held) -> None:
        """A report is about to be sent."""
        self._register.move(held, REPORTING)
        self._leases.pause(held)
        held.sent_at = self._clock()

    def attempt_ended(self, held: Held, outcome: Outcome) -> None:
        """A slot's own attempt to report is over; further attempts, if needed, are made here."""
        delay_s = 0.0 if held.is_over else self._settled(held, outcome)
        if delay_s is not None:
            self._table.put(held, delay_s)

    def supersede(self, earlier: Held) -> None:
        """The result of ``earlier`` went to its retry too. It is still sent under the old id: an extension that meets
        the timeout was seen to bring that attempt back to life, and then nothing else would end it. But no lease is
        kept for it, and it is not kept as late."""
        if self._register.move(earlier, SUPERSEDED):
            self._leases.drop(earlier)
            self._table.hurry(earlier)
        elif earlier.state is LATE:
            self.forget(earlier)

    def forget(self, held: Held) -> None:
        """Nothing is owed for it any more."""
        if self._register.move(held, GONE):
            self._leases.drop(held)
            self._journal.free(held.row)
            if held in self._failing:
                self._ended(held)

    def watch(self) -> None:
        """Upkeep: more senders while reports are overdue; the late results that are kept no longer are forgotten."""
        self._table.watch()
        for held in retries.too_many(self._register.late(), self._wall()):
            self.forget(held)

    def _send(self, held: Held) -> float | None:
        if held.is_over:
            self.forget(held)
            return None
        wait_s = max(0.0, held.again_at - self._clock()) or self._pace.wait_s(REPORT)
        if wait_s > 0:
            return wait_s
        if held.is_recorded and held.entry.task:
            held.entry = held.entry._replace(task=b"")
            self._journal.write(held.entry, held.row)
        self.attempt_starts(held)
        if held.is_over:
            return 0.0
        outcome = self._client.report(held.entry.body, held.ids)
        self._counts.reported(held.entry.agent_id, self._clock() - held.sent_at, outcome.verdict)
        return self._settled(held, outcome)

    def _settled(self, held: Held, outcome: Outcome) -> float | None:
        """Seconds until the next attempt to report; None when the result needs none."""
        now = self._clock()
        if outcome.verdict is Verdict.APPLIED:
            self._pace.succeeded(REPORT)
            had_trouble = held.backoff is not None and held.backoff.succeeded()
            again_s = self._unsure_s(held, now)
            if again_s is None:
                self._delivered(held, held.lease.has_lapsed(now, self._wall()))
                if held.is_adopted:
                    extra = held.said("adopted_delivered")
                    log.info("Task %s: the result that an ended process left is delivered", held.ids[0], extra=extra)
            if had_trouble:
                self._table.hurry()
                self._ended(held)
            self._on_contact()
            return again_s
        self._leases.resume(held)
        if outcome.verdict is Verdict.REFUSED or self._meets_no_store(held, outcome, now):
            return self._refused(held, outcome, now)
        self._pace.failed(REPORT)
        with self._lock:
            self._failing.add(held)
            self._outage.failed(outcome.reason, now, outcome.verdict is Verdict.AUTH)
        held.backoff = held.backoff or Backoff(chance)
        return max(held.backoff.failed(), outcome.retry_after_s or 0.0)

    def _meets_no_store(self, held: Held, outcome: Outcome, now: float) -> bool:
        """Conductor 3.13 has no store for what is over its limit, and answers as in trouble. It is in none when it
        takes an extension of the task after that. A store may be in trouble alone: ten minutes decide."""
        if outcome.status != 500 or len(held.entry.body) <= LARGE_BYTES:
            return False
        held.refused_at = held.refused_at or now
        return held.lease.renewed_at > held.refused_at

    def _unsure_s(self, held: Held, now: float) -> float | None:
        """Seconds until the result is sent once more; None when it is delivered. An extension that Conductor
        works on at the same time may undo the report: it says 200 to both, and the task is in progress again
        (seen: it timed out and ran twice). Another report, within the lease, changes nothing if all was well."""
        quiet_at = held.lease.quiet_at
        if quiet_at <= held.sent_at:
            return None
        self._leases.drop(held)
        quiet_at = quiet_at if now < quiet_at < float("inf") else now
        held.again_at = min(quiet_at + SURE_AGAIN_S, now + held.lease.period_s)
        return held.again_at - now

    def _ended(self, held: Held) -> None:
        """Its report fails no more. The outage is over with the last one: a single result that can't be delivered must
        not fill the log."""
        with self._lock:
            self._failing.discard(held)
            if not self._failing:
                self._outage.succeeded(self._clock())

    def _delivered(self, held: Held, is_late: bool) -> None:
        """Forget a result, or keep one that is late and may answer a retry: its row is written before the register
        shows it, and :meth:`watch` may free it."""
        if held.state is SUPERSEDED or not is_late or not held.entry.work_hash or not retries.answers(held):
            self.forget(held)
            return
        self._leases.drop(held)
        held.entry = held.entry._replace(state=journal_file.LATE, task=b"", taken_ms=int(self._wall() * 1000))
        self._journal.write(held.entry, held.row)
        if self._register.move(held, LATE):
            self._ended(held)
        else:  # superseded meanwhile
            self.forget(held)

    def _refused(self, held: Held, outcome: Outcome, now: float) -> float | None:
        task_id, extra, is_sure = held.entry.task_id, held.said("result_refused"), outcome.verdict is Verdict.REFUSED
        if outcome.status == 404:  # it names the task or its workflow; a COMPLETED result stays for a retry, as if late
            text = "Nothing waits for the result of task %s any more: %s"
            log.warning(text, task_id, outcome.reason, extra=held.said("result_superseded"))
            self._delivered(held, is_late=True)
            return None
        held.refusals, held.refused_at = held.refusals + 1, held.refused_at or now
        if held.refusals < REFUSALS or now - held.refused_at < (REFUSED_FOR_S if is_sure else NO_STORE_FOR_S):
            log.warning("The result of task %s is refused: %s; trying again", task_id, outcome.reason, extra=extra)
            return REFUSED_AGAIN_S
        is_large = outcome.status == 413 or not is_sure
        if is_large and held.entry.status != TaskStatus.FAILED_WITH_TERMINAL_ERROR:
            why = f"the output is too large for the platform: {len(held.entry.body)} bytes, {outcome.reason}"
            held.encode(failure(held, TaskStatus.FAILED_WITH_TERMINAL_ERROR, why))
            self._journal.write(held.entry, held.row)
            held.refusals, held.refused_at = 0, None
            return 0.0
        if self._register.move(held, State.REJECTED):
            text = "The platform refuses the result of task %s for good: %s. It is kept in the journal"
            log.error(text, task_id, outcome.reason, extra=extra)
            self._counts.rejected(held.entry.agent_id)
            self._leases.drop(held)
            held.entry = held.entry._replace(state=journal_file.REJECTED, task=b"", reason=outcome.reason)
            self._journal.write(held.entry, held.row)
            self._ended(held)
        return None

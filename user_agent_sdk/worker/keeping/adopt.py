# SPDX-License-Identifier: Apache-2.0
"""What a process left that has ended: its results are delivered, and what it had started is reported as failed,
so that the platform decides about a retry at once, not when the response timeout is over."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping

from ...conductor.wire import TaskResult, TaskStatus
from ...logs import counted
from . import journal_file
from .custody import Custody
from .held import ENDED, Held, failure
from .journal_file import Entry
from .lease import Lease

log = logging.getLogger(__name__)


def take_over(custody: Custody, rows: Mapping[int, Entry]) -> None:
    """Hold what the journal has found, by row, and deliver what is pending; rejected results stay in the journal."""
    for row, entry in rows.items():
        held = Held(entry, Lease(entry.lease_s))
        held.row = row
        held.lease.adopted(entry.lease_until_ms, time.monotonic(), time.time())
        if entry.is_pending:
            _take_over(custody, held)
        elif entry.state == journal_file.LATE:
            replaced = custody.register.keep(held)
            if replaced is not None:
                custody.journal.free(replaced.row)
    pending = sum(entry.is_pending for entry in rows.values())
    if pending:
        log.info("Took over %s of an ended process", counted(pending, "task"), extra={"action": "adopted"})


def _take_over(custody: Custody, held: Held) -> None:
    # A row marked as sent must not be sent twice, and a task held here already came back to this process.
    if held.entry.state == journal_file.ONCE or not custody.register.hold(held):
        custody.journal.free(held.row)
        return
    held.is_adopted = True
    task = journal_file.task_of(held.entry)
    if held.entry.state == journal_file.TAKEN:
        result = failure(held, TaskStatus.FAILED, "the worker process ended while the task ran")
        custody.post(held, result)
        custody.record(held, task, result)
        return
    custody.register.move(held, ENDED)
    custody.leases.track(held)
    if held.entry.task:  # a row keeps its task until the run is recorded
        held.ended_s = held.started_s  # nobody knows when it ended
        custody.record(held, task, _reported(held.entry))
    custody.delivery.post(held)


def _reported(entry: Entry) -> TaskResult:
    """The result that an entry's report has; its log stays there."""
    report = journal_file.object_in(entry.body) or {}
    status = TaskStatus(entry.status) if entry.status in list(TaskStatus) else TaskStatus.FAILED
    reason = report.get("reasonForIncompletion")
    return TaskResult(
        status=status, output_data=report.get("outputData"), reason_for_incompletion=reason, worker_id=entry.worker_id
    )

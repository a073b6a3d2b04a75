# SPDX-License-Identifier: Apache-2.0
"""What a process left that has ended: its results are delivered, and what it had started is reported as failed,
so that the platform decides about a retry at once, not when the response timeout is over."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping

from ...conductor.wire import TaskResult, TaskStatus
from ...logs import counted
from ..slots import Services, finished
from . import journal_file
from .jobs import Execution, Job
from .journal_file import Entry
from .lease import Lease

log = logging.getLogger(__name__)


def take_over(services: Services, rows: Mapping[int, Entry]) -> None:
    """Deliver what the journal has found, by row; those that are kept for another reason stay as they are."""
    pending = {row: entry for row, entry in rows.items() if entry.is_pending}
    for row, entry in pending.items():
        # What is marked as sent must not be sent twice, and what is held here is somebody's already.
        if entry.state == journal_file.ONCE or not services.jobs.hold(entry.task_id):
            services.journal.free(row)
            continue
        lease = Lease(entry.task_id, entry.workflow_id, entry.worker_id, entry.lease_s)
        lease.until_ms = entry.lease_until_ms
        if entry.state == journal_file.TAKEN:
            entry = _died(services, row, entry, lease)
        else:
            services.leases.track(lease)
        services.delivery.post(services.delivery.parcel(row, entry, lease))
    if pending:
        log.info("Took over %s of an ended process", counted(len(pending), "task"), extra={"action": "adopted"})


def _died(services: Services, row: int, entry: Entry, lease: Lease) -> Entry:
    """The entry of a function that was started and never ended, with its failure."""
    reason = "the worker process ended while the task ran"
    result = TaskResult(status=TaskStatus.FAILED, reason_for_incompletion=reason, worker_id=entry.worker_id)
    job = Job(journal_file.task_of(entry), entry, lease, entry.taken_ms / 1000)
    entry = finished(job, result)
    services.journal.replace(row, entry)
    if services.on_execution is not None:
        try:
            times = (job.started_s, time.time())
            services.on_execution(Execution(entry.agent_id, entry.worker_id, job.task, result, *times))
        except Exception:
            log.exception("A died run was not recorded", extra={"action": "record_failed"})
    return entry

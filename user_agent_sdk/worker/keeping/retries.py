# SPDX-License-Identifier: Apache-2.0
"""Tasks that come twice and results that come late: what is done in each case.

A poll brings …                                              it is …
 (copy)  a task that is held here                            neither run nor reported again
 FAULTY  a malformed task whose ids are known                failed for good
 RUNS    a retry of the same work, which still runs here     not run: the function's result counts for the retry
 KNOWN   a retry of the same work, which is COMPLETED here   not run: that result is reported for the retry
 NEW     any other task, so a retry of a failure too         run

A COMPLETED result is …
 done with                when the platform took the report and its lease was kept, or a retry has the result already;
                          or when the work began anew: a first task of it came, or its own task again
 kept as late, for a day  when its lease may have lapsed: the platform answers 200, ignores it, and hands out the same
                          work again under a new id; or when the platform knows its task or workflow no longer

"The same work" is the same step of the same workflow, with the same agent and input. The attempt that a retry names
need not be the one that is held here: where replies to polls are lost or come too late, attempts lie between that no
worker ever had. But a restart or a rerun, which another process may have seen alone, removes the attempts of before:
the platform is asked for one that is not named. A failure answers no retry. Only the result's process can answer.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from typing import Callable

from ...conductor.wire import Task, TaskResult, TaskStatus, json_object
from .held import Held, Register
from .journal_file import Entry

LATE_KEPT_S = 24 * 3600
LATE_RESULTS = 1000
LATE_BYTES = 64 * 1024 * 1024


Case = enum.Enum("Case", "FAULTY RUNS KNOWN NEW")


def case_of(
    register: Register, held: Held, task: Task, now: float, wall_s: float, is_there: Callable[[Held], bool]
) -> tuple[Case, Held | None]:
    """Which case a task is that was just taken, and the earlier attempt that it is about. ``now`` is monotonic.
    ``is_there``: whether the platform still has an attempt, which the task does not name and whose result is here."""
    if task.fault:
        return Case.FAULTY, None
    for earlier in register.attempts(held) if task.retried_task_id else ():
        is_named = earlier.ids[0] == task.retried_task_id
        if not is_named and task.reference_task_name is None:
            continue  # it may be another step, with the same definition and input
        # One that is not named and has its lease is for the platform in progress too, and needs that lease.
        has_lapsed = (earlier.is_over or earlier.lease.has_lapsed(now, wall_s)) and not earlier.is_unknown
        if (is_named or has_lapsed) and register.inherit(earlier, held):
            return Case.RUNS, earlier
        if answers(earlier) and (is_named or (not earlier.is_unknown and is_there(earlier))):
            return Case.KNOWN, earlier
    return Case.NEW, None


def answers(held: Held) -> bool:
    """Whether the result of a Held may be reported for a retry of its task."""
    if held.is_of_before or held.is_over or (held.call is not None and held.call.is_told):
        return False  # it may be what a function had when it gave up
    return (held.result or reported(held.entry)).status is TaskStatus.COMPLETED


def result_again(earlier: Held, worker_id: str) -> TaskResult:
    """The result of an earlier attempt, to be reported for its retry."""
    output = (earlier.result or reported(earlier.entry)).output_data
    return TaskResult(status=TaskStatus.COMPLETED, output_data=output, worker_id=worker_id)


def reported(entry: Entry) -> TaskResult:
    """The result that an entry's report has; its log stays there. FAILED when the report is damaged."""
    report = json_object(entry.body)
    status = TaskStatus(entry.status) if report and entry.status in list(TaskStatus) else TaskStatus.FAILED
    output, reason = report.get("outputData"), report.get("reasonForIncompletion")
    return TaskResult("", "", status, output, reason, worker_id=entry.worker_id)


def too_many(late: Iterable[Held], now_s: float) -> list[Held]:
    """Late results to be forgotten: too old, or the oldest of too many. ``now_s``: wall clock."""
    now_ms, left_bytes, over = now_s * 1000, LATE_BYTES, []
    newest_first = sorted(late, key=lambda held: (held.entry.taken_ms, held.row), reverse=True)
    for number, held in enumerate(newest_first):
        left_bytes -= len(held.entry.body)
        if number >= LATE_RESULTS or left_bytes < 0 or abs(now_ms - held.entry.taken_ms) > LATE_KEPT_S * 1000:
            over.append(held)
    return over

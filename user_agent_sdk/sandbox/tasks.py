# SPDX-License-Identifier: Apache-2.0
"""The records of the sandbox, what they look like on the wire, and which reports it refuses."""

from __future__ import annotations

import uuid
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from ..conductor.wire import LogLine, TaskStatus
from ..errors import PlatformError

KEPT_LIVE_LINES = 1000  # of one attempt
_REPORTABLE = {status.value for status in TaskStatus}


class ReportRefused(PlatformError):
    """The platform refuses a request with the HTTP status ``http_status``; nothing was changed."""

    def __init__(self, http_status: int, message: str) -> None:
        super().__init__(message)
        self.http_status = http_status


@dataclass(eq=False)
class Attempt:
    """One task on the wire: one try of an execution. Times are epoch ms, 0 when not yet.

    ``status``: SCHEDULED (in the queue), IN_PROGRESS (leased until ``lease_until``, monotonic
    seconds), TIMED_OUT, CANCELED, or what was reported. ``place`` is the ticket of its last place in the queue, from
    which it is handed out at ``ready_at`` (monotonic) or later. ``live``: the lines of its log, each with its level,
    as a worker in this process writes them; ``logs`` those that were reported.
    """

    execution_id: str
    scheduled_ms: int
    retry_count: int = 0
    retried_task_id: str | None = None
    task_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    status: str = "SCHEDULED"
    worker_id: str | None = None
    poll_count: int = 0
    start_ms: int = 0
    update_ms: int = 0
    end_ms: int = 0
    callback_after_s: float = 0
    lease_until: float = 0
    ready_at: float = 0
    output: dict[str, Any] = field(default_factory=dict)
    reason: str | None = None
    logs: list[LogLine] = field(default_factory=list)
    live: deque[tuple[str, LogLine]] = field(default_factory=partial(deque, maxlen=KEPT_LIVE_LINES))
    place: int = 0


@dataclass(eq=False)
class Execution:
    """One submitted input and its attempts, oldest first. ``status``: RUNNING, COMPLETED, FAILED,
    TIMED_OUT or TERMINATED. ``output`` and ``reason`` are those of the attempt that ended it."""

    agent_id: str
    domain: str | None
    input: dict[str, Any]
    retries: int
    retry_delay_s: float
    response_timeout_s: float
    created_ms: int
    end_ms: int = 0
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    status: str = "RUNNING"
    output: dict[str, Any] = field(default_factory=dict)
    reason: str | None = None
    attempts: list[Attempt] = field(default_factory=list)
    size_bytes: int = 0
    brief: str = ""  # the beginning of the input as JSON

    def snapshot(self) -> Execution:
        """A copy that no later report changes."""
        return replace(self, attempts=[replace(one, live=one.live.copy()) for one in self.attempts])


def check_report(report: Mapping[str, Any]) -> None:
    """Raise ReportRefused for what the real server refuses, with its status."""
    status = report.get("status")
    if status is not None and (not isinstance(status, str) or status not in _REPORTABLE):
        raise ReportRefused(500, f"JSON parse error: {status!r} is not one of {sorted(_REPORTABLE)}")
    if not isinstance(report.get("outputData") or {}, dict):
        raise ReportRefused(500, "JSON parse error: outputData must be an object")
    callback = report.get("callbackAfterSeconds")
    if callback is not None and (not isinstance(callback, (int, float)) or isinstance(callback, bool)):
        raise ReportRefused(500, "JSON parse error: callbackAfterSeconds must be a number")
    for key, name in (("workflowInstanceId", "Workflow Id"), ("taskId", "Task ID")):
        if not report.get(key) or not isinstance(report[key], str):
            raise ReportRefused(400, f"Validation failed: {name} cannot be null or empty")
    if status is None:
        raise ReportRefused(500, "the status of the task is null")


def log_line(line: object) -> LogLine:
    if not isinstance(line, dict):
        return LogLine(str(line), 0)
    created = line.get("createdTime")
    return LogLine(str(line.get("log", "")), created if isinstance(created, int) else 0)


def to_wire(execution: Execution, attempt: Attempt) -> dict[str, Any]:
    """The Task that a poll is answered with: the fields of the real one that say something."""
    wire = {
        **_told(attempt, *_ON_THE_WIRE),
        "workflowInstanceId": execution.id,
        "taskType": execution.agent_id,
        "taskDefName": execution.agent_id,
        "domain": execution.domain,
        "inputData": execution.input,
        "outputData": attempt.output,
        "referenceTaskName": "step",
        "iteration": 0,
        "responseTimeoutSeconds": whole(execution.response_timeout_s),
        "workflowTask": {
            "taskDefinition": {
                "name": execution.agent_id,
                "retryCount": execution.retries,
                "retryDelaySeconds": whole(execution.retry_delay_s),
                "responseTimeoutSeconds": whole(execution.response_timeout_s),
            }
        },
    }
    return {key: value for key, value in wire.items() if value is not None}


def describe(execution: Execution, now_s: float) -> dict[str, Any]:
    """An execution for people, as JSON. ``now_s``: monotonic, for what is left of a lease."""
    attempts = []
    for attempt in execution.attempts:
        logs = [{"log": line.log, "createdTime": line.created_ms} for line in attempt.logs]
        told = _told(attempt, *_OF_ATTEMPT)
        attempts.append({**told, "logs": logs, "leaseLeftSeconds": lease_left_s(attempt, now_s)})
    return {**_told(execution, *_OF_EXECUTION), "attempts": attempts}


def lease_left_s(attempt: Attempt, now_s: float) -> float | None:
    return max(attempt.lease_until - now_s, 0) if attempt.status == "IN_PROGRESS" else None


_ON_THE_WIRE = ("task_id", "status", "worker_id", "retry_count", "retried_task_id", "poll_count", "callback_after_s",
                "scheduled_ms", "start_ms", "update_ms")  # fmt: skip
_OF_ATTEMPT = ("task_id", "status", "worker_id", "retry_count", "retried_task_id", "poll_count", "scheduled_ms",
               "start_ms", "end_ms", "output", "reason")  # fmt: skip
_OF_EXECUTION = ("id", "agent_id", "domain", "status", "created_ms", "end_ms", "input", "output", "reason", "retries",
                 "response_timeout_s")  # fmt: skip


def _told(record: Attempt | Execution, *names: str) -> dict[str, Any]:
    """These fields under the wire's kind of name: ``start_ms`` is startTime, ``delay_s`` delaySeconds."""
    told, units = {}, {"ms": "Time", "s": "Seconds"}
    for name in names:
        first, *others = name.split("_")
        told[first + "".join(units.get(part, part.capitalize()) for part in others)] = getattr(record, name)
    return told


def whole(value: float) -> float:
    """Whole seconds as the integer that the real server sends."""
    return int(value) if value == int(value) else value

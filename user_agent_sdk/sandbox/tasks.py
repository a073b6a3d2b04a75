"""The records of the sandbox, what they look like on the wire, and which reports it refuses."""

from __future__ import annotations

import copy
import threading
import uuid
from collections.abc import Mapping
from typing import Any

from ..conductor.wire import DEFAULT_RESPONSE_TIMEOUT_S, LogLine, TaskStatus
from ..errors import PlatformError

_REPORTABLE = {status.value for status in TaskStatus}


class ReportRefused(PlatformError):
    """The platform refuses a request with the HTTP status ``http_status``; nothing was changed."""

    def __init__(self, http_status: int, message: str) -> None:
        super().__init__(message)
        self.http_status = http_status


class Attempt:
    """One task on the wire: one try of an execution. Times are epoch ms, 0 when not yet.

    ``status``: SCHEDULED (in the queue), IN_PROGRESS (leased until ``lease_until``, monotonic
    seconds), TIMED_OUT, or what was reported. ``place`` is the ticket of its place in the queue.
    """

    __slots__ = ("callback_after_s", "end_ms", "execution_id", "lease_until", "logs", "output", "place",
                 "poll_count", "reason", "retried_task_id", "retry_count", "scheduled_ms", "start_ms",
                 "status", "task_id", "timed", "update_ms", "worker_id")  # fmt: skip

    def __init__(self, execution_id: str, retried: Attempt | None, now_ms: int) -> None:
        self.task_id = str(uuid.uuid4())
        self.execution_id = execution_id
        self.retry_count: int = retried.retry_count + 1 if retried else 0
        self.retried_task_id: str | None = retried.task_id if retried else None
        self.status = "SCHEDULED"
        self.worker_id: str | None = None
        self.poll_count = 0
        self.scheduled_ms = now_ms
        self.start_ms = 0
        self.update_ms = now_ms
        self.end_ms = 0
        self.callback_after_s = 0
        self.lease_until = 0.0
        self.timed = False  # it has an entry in the heap of leases
        self.output: dict[str, Any] = {}
        self.reason: str | None = None
        self.logs: list[LogLine] = []
        self.place: int | None = None


class Execution:
    """One submitted input and its attempts, oldest first. ``status``: RUNNING, COMPLETED, FAILED,
    TIMED_OUT or TERMINATED. ``output`` and ``reason`` are those of the attempt that ended it."""

    __slots__ = ("agent_id", "attempts", "changed", "created_ms", "domain", "ended_ms", "id", "input",
                 "output", "reason", "response_timeout_s", "retries", "retry_delay_s", "size_bytes",
                 "status")  # fmt: skip

    def __init__(self, agent_id: str, domain: str | None, given: dict[str, Any], now_ms: int) -> None:
        self.id = str(uuid.uuid4())
        self.agent_id = agent_id
        self.domain = domain
        self.input = given
        self.retries = 0
        self.retry_delay_s = 0.0
        self.response_timeout_s = DEFAULT_RESPONSE_TIMEOUT_S
        self.status = "RUNNING"
        self.created_ms = now_ms
        self.ended_ms = 0
        self.output: dict[str, Any] = {}
        self.reason: str | None = None
        self.attempts: list[Attempt] = []
        self.size_bytes = 0
        self.changed: threading.Condition | None = None  # made by the first call that waits for it

    def snapshot(self) -> Execution:
        """A copy that no later report changes."""
        twin = copy.copy(self)
        twin.attempts = [copy.copy(attempt) for attempt in self.attempts]
        twin.changed = None
        return twin


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
    for field, name in (("workflowInstanceId", "Workflow Id"), ("taskId", "Task ID")):
        if not report.get(field) or not isinstance(report[field], str):
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
    definition = {
        "name": execution.agent_id,
        "retryCount": execution.retries,
        "retryLogic": "FIXED",
        "retryDelaySeconds": whole(execution.retry_delay_s),
        "responseTimeoutSeconds": whole(execution.response_timeout_s),
        "timeoutSeconds": 0,
    }
    wire = {
        "taskType": execution.agent_id,
        "taskDefName": execution.agent_id,
        "status": attempt.status,
        "inputData": execution.input,
        "outputData": attempt.output,
        "referenceTaskName": "step",
        "workflowInstanceId": execution.id,
        "workflowType": "sandbox",
        "taskId": attempt.task_id,
        "retryCount": attempt.retry_count,
        "pollCount": attempt.poll_count,
        "responseTimeoutSeconds": definition["responseTimeoutSeconds"],
        "callbackAfterSeconds": attempt.callback_after_s,
        "scheduledTime": attempt.scheduled_ms,
        "startTime": attempt.start_ms,
        "updateTime": attempt.update_ms,
        "endTime": attempt.end_ms,
        "queueWaitTime": attempt.start_ms - attempt.scheduled_ms,
        "seq": attempt.retry_count + 1,
        "iteration": 0,
        "workflowTask": {
            "name": execution.agent_id,
            "taskReferenceName": "step",
            "type": "SIMPLE",
            "taskDefinition": definition,
        },
    }
    if attempt.retried_task_id:
        wire["retriedTaskId"] = attempt.retried_task_id
    if attempt.worker_id:
        wire["workerId"] = attempt.worker_id
    if execution.domain:
        wire["domain"] = execution.domain
    return wire


def whole(value: float) -> float:
    """Whole seconds as the integer that the real server sends."""
    return int(value) if value == int(value) else value


def describe(execution: Execution, now_s: float) -> dict[str, Any]:
    """An execution for people, as JSON. ``now_s``: monotonic, for what is left of a lease."""
    return {
        "id": execution.id,
        "agentId": execution.agent_id,
        "domain": execution.domain,
        "status": execution.status,
        "createdTime": execution.created_ms,
        "endTime": execution.ended_ms,
        "input": execution.input,
        "output": execution.output,
        "reason": execution.reason,
        "retries": execution.retries,
        "responseTimeoutSeconds": execution.response_timeout_s,
        "attempts": [
            {
                "taskId": attempt.task_id,
                "retriedTaskId": attempt.retried_task_id,
                "retryCount": attempt.retry_count,
                "status": attempt.status,
                "workerId": attempt.worker_id,
                "pollCount": attempt.poll_count,
                "scheduledTime": attempt.scheduled_ms,
                "startTime": attempt.start_ms,
                "endTime": attempt.end_ms,
                "leaseLeftSeconds": max(attempt.lease_until - now_s, 0) if attempt.status == "IN_PROGRESS" else None,
                "output": attempt.output,
                "reason": attempt.reason,
                "logs": [{"log": line.log, "createdTime": line.created_ms} for line in attempt.logs],
            }
            for attempt in execution.attempts
        ],
    }

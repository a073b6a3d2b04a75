# SPDX-License-Identifier: Apache-2.0
"""The records of the sandbox, what they look like on the wire, and which reports it refuses."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any, TypeVar

from ..conductor.fields import camel
from ..conductor.wire import LogLine, TaskStatus
from ..errors import PlatformError

_REPORTABLE = {status.value for status in TaskStatus}
Record = TypeVar("Record", "Attempt", "Execution")


class ReportRefused(PlatformError):
    """The platform refuses a request with the HTTP status ``http_status``; nothing was changed."""

    def __init__(self, http_status: int, message: str) -> None:
        super().__init__(message)
        self.http_status = http_status


class Attempt:
    """One task on the wire: one try of an execution. Times are epoch ms, 0 when not yet.

    ``status``: SCHEDULED (in the queue), IN_PROGRESS (leased until ``lease_until``, monotonic
    seconds), TIMED_OUT, CANCELED, or what was reported. ``place`` is the ticket of its last place in the queue, from
    which it is handed out at ``ready_at`` (monotonic) or later. ``live``: the lines of its log, each with its level,
    as a worker in this process writes them; ``logs`` those that were reported. Both lists are replaced, never changed.
    """

    def __init__(self, execution: Execution, scheduled_ms: int) -> None:
        self.execution = execution
        self.scheduled_ms = scheduled_ms
        self.retry_count = len(execution.attempts)
        self.retried_task_id = execution.attempts[-1].task_id if execution.attempts else None
        self.task_id: str = _new_id()
        self.status = "SCHEDULED"
        self.worker_id: str | None = None
        self.poll_count = self.start_ms = self.update_ms = self.end_ms = self.place = 0
        self.callback_after_s: float = 0
        self.lease_until = self.ready_at = 0.0
        self.output: dict[str, Any] = {}
        self.reason: str | None = None
        self.logs: list[LogLine] = []
        self.live: list[tuple[str, LogLine]] = []


class Execution:
    """One submitted input and its attempts, oldest first. ``status``: RUNNING, COMPLETED, FAILED,
    TIMED_OUT or TERMINATED. ``output`` and ``reason`` are those of the attempt that ended it."""

    def __init__(self, agent_id: str, domain: str | None, given: dict[str, Any], brief: str, retries: int,
                 retry_delay_s: float, response_timeout_s: float, created_ms: int) -> None:  # fmt: skip
        self.agent_id = agent_id
        self.domain = domain
        self.input = given
        self.brief = brief  # the beginning of the input as JSON
        self.retries = retries
        self.retry_delay_s = retry_delay_s
        self.response_timeout_s = response_timeout_s
        self.created_ms = created_ms
        self.end_ms = self.size_bytes = 0
        self.id = _new_id()
        self.status = "RUNNING"
        self.output: dict[str, Any] = {}
        self.reason: str | None = None
        self.attempts: list[Attempt] = []

    def snapshot(self) -> Execution:
        """A copy that no later report changes."""
        twin = _twin(self)
        twin.attempts = [_twin(attempt) for attempt in self.attempts]
        return twin


def _new_id() -> str:
    """A random UUID: to load the uuid module takes longer than all else that an id needs."""
    digits = os.urandom(16).hex()
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-a{digits[17:20]}-{digits[20:]}"


def _twin(record: Record) -> Record:
    twin = object.__new__(type(record))
    twin.__dict__.update(record.__dict__)
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


def to_wire(attempt: Attempt) -> dict[str, Any]:
    """The Task that a poll is answered with: the fields of the real one that say something."""
    execution = attempt.execution
    name, timeout_s, delay_s = execution.agent_id, whole(execution.response_timeout_s), whole(execution.retry_delay_s)
    definition = {"name": name, "retryCount": execution.retries, "retryDelaySeconds": delay_s,
                  "responseTimeoutSeconds": timeout_s}  # fmt: skip
    wire = {
        **_told(attempt, f"{_OF_ATTEMPT} callback_after_s update_ms"),
        "workflowInstanceId": execution.id, "taskType": name, "taskDefName": name, "domain": execution.domain,
        "referenceTaskName": "step", "iteration": 0, "inputData": execution.input, "outputData": attempt.output,
        "responseTimeoutSeconds": timeout_s, "workflowTask": {"taskDefinition": definition},
    }  # fmt: skip
    return {key: value for key, value in wire.items() if value is not None}


def describe(execution: Execution, now_s: float) -> dict[str, Any]:
    """An execution for people, as JSON. ``now_s``: monotonic, for what is left of a lease."""
    attempts = []
    for attempt in execution.attempts:
        logs = [{"log": line.log, "createdTime": line.created_ms} for line in attempt.logs]
        told = _told(attempt, f"{_OF_ATTEMPT} end_ms output reason")
        attempts.append({**told, "logs": logs, "leaseLeftSeconds": lease_left_s(attempt, now_s)})
    return {**_told(execution, _OF_EXECUTION), "attempts": attempts}


def lease_left_s(attempt: Attempt, now_s: float) -> float | None:
    return max(attempt.lease_until - now_s, 0) if attempt.status == "IN_PROGRESS" else None


_OF_ATTEMPT = "task_id status worker_id retry_count retried_task_id poll_count scheduled_ms start_ms"
_OF_EXECUTION = "id agent_id domain status created_ms end_ms input output reason retries response_timeout_s"


def _told(record: Attempt | Execution, names: str) -> dict[str, Any]:
    """These fields under the wire's kind of name: ``start_ms`` is startTime, ``delay_s`` delaySeconds."""
    keys = {name: camel(re.sub("_s$", "_seconds", re.sub("_ms$", "_time", name))) for name in names.split()}
    return {key: getattr(record, name) for name, key in keys.items()}


def whole(value: float) -> float:
    """Whole seconds as the integer that the real server sends."""
    return int(value) if value == int(value) else value

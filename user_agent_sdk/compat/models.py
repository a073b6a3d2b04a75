# SPDX-License-Identifier: Apache-2.0
"""Conductor's models as 0.2.0 had them. What a function returns is known by its shape, so these need no place in the
worker."""

from __future__ import annotations

from typing import Any

from ..conductor import wire

TaskResultStatus = wire.TaskStatus


class TaskExecLog:
    def __init__(self, log: str | None = None, task_id: str | None = None, created_time: int | None = None) -> None:
        self.log, self.task_id, self.created_time = log, task_id, created_time

    def to_dict(self) -> dict[str, Any]:
        return dict(vars(self))


class TaskResult:
    """``output_data``: a dict, or any value; ``logs``: texts or TaskExecLogs."""

    def __init__(
        self,
        workflow_instance_id: str | None = None,
        task_id: str | None = None,
        reason_for_incompletion: str | None = None,
        callback_after_seconds: int | None = None,
        worker_id: str | None = None,
        status: str | None = None,
        output_data: Any = None,
        logs: list[Any] | None = None,
        external_output_payload_storage_path: str | None = None,
        sub_workflow_id: str | None = None,
        extend_lease: bool = False,
    ) -> None:
        self.workflow_instance_id = workflow_instance_id
        self.task_id = task_id
        self.reason_for_incompletion = reason_for_incompletion
        self.callback_after_seconds = callback_after_seconds
        self.worker_id = worker_id
        self.status = status
        self.output_data = output_data
        self.logs = logs
        self.external_output_payload_storage_path = external_output_payload_storage_path
        self.sub_workflow_id = sub_workflow_id
        self.extend_lease = extend_lease

    def __repr__(self) -> str:
        return f"TaskResult(task_id={self.task_id!r}, status={self.status!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TaskResult) and vars(self) == vars(other)

    __hash__ = None  # type: ignore[assignment]

    def add_output_data(self, key: str, value: Any) -> TaskResult:
        self.output_data = {**(self.output_data or {}), key: value}
        return self

    def log(self, log: str) -> TaskResult:
        self.logs = [*(self.logs or ()), TaskExecLog(log)]
        return self

    def to_dict(self) -> dict[str, Any]:
        logs = self.logs and [line.to_dict() if isinstance(line, TaskExecLog) else line for line in self.logs]
        return {**vars(self), "logs": logs}

    def to_str(self) -> str:
        return str(self.to_dict())

    @staticmethod
    def new_task_result(status: str) -> TaskResult:
        return TaskResult(status=status)

    @staticmethod
    def complete() -> TaskResult:
        return TaskResult(status="COMPLETED")

    @staticmethod
    def failed(failure_reason: str | None = None) -> TaskResult:
        return TaskResult(status="FAILED", reason_for_incompletion=failure_reason)

    @staticmethod
    def in_progress() -> TaskResult:
        return TaskResult(status="IN_PROGRESS")

# SPDX-License-Identifier: Apache-2.0
"""Conductor's models, and where a platform is, as 0.2.0 and 0.3.0 had those. What a function returns is known by its
shape, so the models need no place in the worker."""

from __future__ import annotations

from dataclasses import dataclass
from pprint import pformat
from typing import Any

from ..conductor import wire
from ..credentials import DEFAULT_BASE_URL, derived

TaskResultStatus = wire.TaskStatus


@dataclass
class TaskExecLog:
    log: str | None = None
    task_id: str | None = None
    created_time: int | None = None

    def to_dict(self) -> dict[str, Any]:
        return dict(vars(self))

    def to_str(self) -> str:
        return pformat(self.to_dict())


@dataclass
class TaskResult:
    """``output_data``: a dict, or any value; ``logs``: texts or TaskExecLogs."""

    workflow_instance_id: str | None = None
    task_id: str | None = None
    reason_for_incompletion: str | None = None
    callback_after_seconds: int | None = None
    worker_id: str | None = None
    status: TaskResultStatus | str | None = None
    output_data: Any = None
    logs: list[Any] | None = None
    external_output_payload_storage_path: str | None = None
    sub_workflow_id: str | None = None
    extend_lease: bool = False

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, TaskResultStatus(value) if name == "status" and value is not None else value)

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
        return pformat(self.to_dict())

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


def generate_service_url(base_url: str) -> str:
    """Raises ValueError for what is no base URL, as the next one does."""
    return derived(base_url)[0]


def generate_auth_url(base_url: str) -> str:
    return derived(base_url)[1]


SERVICE_URL, AUTH_URL = derived(DEFAULT_BASE_URL)


class Credentials:
    """The third argument is 0.2.0's auth_url or 0.3.0's base_url."""

    def __init__(
        self, client_id: str, client_secret: str, auth_url: str | None = None, base_url: str | None = None
    ) -> None:
        if auth_url is not None and "/realms/" not in auth_url:
            auth_url, base_url = None, base_url or auth_url
        self.base_url = base_url and base_url.rstrip("/")
        self.key_id, self.key_secret = client_id, client_secret
        self.auth_url = generate_auth_url(base_url) if base_url else auth_url

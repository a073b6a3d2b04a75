# SPDX-License-Identifier: Apache-2.0
"""The sandbox does on the wire what the real server does, in both dialects."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any
from unittest import mock

from user_agent_sdk.sandbox import server

from . import conformance
from .support import executions


class SandboxPlatform(conformance.Platform):
    """``pass_time`` turns the sandbox's clock forward, so that nothing waits for a lease."""

    def __init__(self) -> None:
        self._ahead_s = 0.0
        self._sandbox = sandbox = server.Sandbox().__enter__()
        sandbox.engine.clock = lambda: time.monotonic() + self._ahead_s
        self.close = sandbox.close
        self.base_url = sandbox.url
        credentials = sandbox.credentials("")
        self.auth_url = credentials["authUrl"]
        self.client = credentials["clientId"], credentials["clientSecret"]

    def start(self, agent_id: str, given: Mapping[str, Any], **options: Any) -> str:
        return self._sandbox.submit(agent_id, given, **{"retries": 0, "response_timeout_s": 60, **options})

    def state(self, execution_id: str) -> tuple[str, list[dict[str, Any]]]:
        execution = self._sandbox.wait(execution_id, 0)
        return execution.status, [
            {
                "taskId": attempt.task_id,
                "status": attempt.status,
                "workerId": attempt.worker_id,
                "outputData": attempt.output,
                "reasonForIncompletion": attempt.reason,
            }
            for attempt in execution.attempts
        ]

    def logs(self, task_id: str) -> list[str]:
        attempts = [attempt for execution in executions(self._sandbox.engine) for attempt in execution.attempts]
        return [line.log for attempt in attempts if attempt.task_id == task_id for line in attempt.logs]

    def pass_time(self, seconds: float) -> None:
        self._ahead_s += seconds


class OnSandbox(conformance.Suite):
    @classmethod
    def setUpClass(cls) -> None:
        quick = mock.patch.object(server, "PLAIN_POLL_S", 0.01)
        quick.start()
        cls.addClassCleanup(quick.stop)
        cls.platform = platform = SandboxPlatform()
        cls.addClassCleanup(platform.close)


class SandboxAsConductor(conformance.Common, conformance.ConductorOnly, OnSandbox):
    pass


class SandboxAsAkabot(conformance.Common, conformance.AkabotOnly, OnSandbox):
    pass

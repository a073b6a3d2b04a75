# SPDX-License-Identifier: Apache-2.0
"""Conductor itself, and behind the gateway as akaBot, does on the wire what our sandbox does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .. import conformance, releases
from . import RealTestCase, servers
from .stack import Stack


class ConductorPlatform(conformance.Platform):
    def __init__(self, stack: Stack, *, akabot: bool) -> None:
        self._stack = stack
        self.base_url = stack.gateway.service_url if akabot else stack.conductor_url
        self.auth_url = stack.gateway.auth_url
        self.client = stack.client_id(), stack.client_secret

    def start(
        self,
        agent_id: str,
        given: Mapping[str, Any],
        *,
        retries: int = 0,
        retry_delay_s: float = 0,
        response_timeout_s: float = 60,
        domain: str | None = None,
    ) -> str:
        name = "conformance-" + agent_id.partition("#")[0]
        self._stack.register_task(
            agent_id,
            retry_count=retries,
            retry_delay_s=int(retry_delay_s),
            response_timeout_s=int(response_timeout_s),
        )
        self._stack.register_workflow(name, [agent_id], inputs=list(given))
        wanted = {
            "name": name,
            "version": 1,
            "input": dict(given),
            "taskToDomain": {agent_id: domain} if domain else {},
        }
        return str(self._stack.api("POST", "/workflow", wanted))

    def state(self, execution_id: str) -> tuple[str, list[dict[str, Any]]]:
        workflow = self._stack.workflow(execution_id)
        return workflow["status"], workflow["tasks"]

    def logs(self, task_id: str) -> list[str]:
        return self._stack.task_logs(task_id)


class ConductorItself(conformance.Common, conformance.ConductorOnly, RealTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.platform = ConductorPlatform(self.stack, akabot=False)


class ConductorAsAkabot(conformance.Common, conformance.AkabotOnly, RealTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.platform = ConductorPlatform(self.stack, akabot=True)


releases.hold_differences(servers.VERSION, ConductorItself, ConductorAsAkabot)

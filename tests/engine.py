# SPDX-License-Identifier: Apache-2.0
"""A real Conductor as the rows of ``tests.walk`` see the sandbox: the same few calls."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from tests.real.gateway import Gateway
from tests.real.stack import Stack
from tests.real.tokens import TokenCheck

REPORTS = ("report", "update-v2")  # the gateway's names for them


class Attempt(NamedTuple):
    status: str


class Execution(NamedTuple):
    output: dict[str, Any]
    attempts: list[Attempt]


class Engine(contextlib.ExitStack):
    """The one at ``url``, with an agent id of its own; ``gateway`` leads to it too, and can refuse reports."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self.agent_id = f"walk-{uuid.uuid4()}"
        self._stack = Stack()  # of which only the calls are wanted: the server runs
        self._stack.conductor_url = url
        self.gateway = Gateway(urlsplit(url).port or 80, 0, TokenCheck(dict, "", ()))
        self.gateway.start()
        self.callback(self.gateway.stop)
        self._stack.register_task(self.agent_id, retry_count=2)
        self._stack.register_workflow(self.agent_id, [self.agent_id], inputs=["n", "seconds", "pool"])

    def put(self, *, n: int = 0, seconds: float = 0, pool: int = 0) -> str:
        return self._stack.start_workflow(self.agent_id, {"n": n, "seconds": seconds, "pool": pool})

    def wait(self, task: str, timeout_s: float) -> Execution:
        tasks = self._stack.wait(task, timeout_s=timeout_s)["tasks"]
        return Execution(tasks[-1].get("outputData", {}), [Attempt(one["status"]) for one in tasks])

    @contextlib.contextmanager
    def down(self, kind: str) -> Iterator[None]:
        """While this lasts, the gateway refuses reports."""
        for route in REPORTS:
            self.gateway.fault("503", count=None, route=route)
        try:
            yield
        finally:
            self.gateway.clear()

    def await_calls(self, kind: str, count: int) -> None:
        """Wait until the gateway has answered so many reports."""
        assert self.gateway.wait_until(lambda gateway: sum(map(gateway.count, REPORTS)) >= count, 20)

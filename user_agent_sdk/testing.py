# SPDX-License-Identifier: Apache-2.0
"""For the unit tests of your own agents: run one as the worker would, without a platform.

    result = run_task(sum_agent, {"num1": 2, "num2": 3})
    assert result.output_data == {"result": 5}, result.reason_for_incompletion

Nothing is polled and nothing is sent.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any

from .agents import REGISTRY, Agent
from .conductor.wire import PLATFORM_AGENT_ID, PLATFORM_TASK_ID, Task, TaskResult, encode
from .errors import UsageError
from .worker.running.execute import execute


def run_task(
    func: Callable[..., Any], input_data: Mapping[str, Any] | None = None, *, attempt: int = 1,
    agent_id: str | None = None, platform_task_id: str | None = "test-platform-task",
    platform_agent_id: str | None = "test-platform-agent", output_data: Mapping[str, Any] | None = None,
    stopping: threading.Event | None = None,
) -> TaskResult:  # fmt: skip
    """Run an agent function, decorated or not, sync or async, for one task; returns what would be reported.

    Arguments, conversions and errors are the worker's own: an exception makes ``status`` FAILED. Look at it, at
    ``output_data``, ``reason_for_incompletion`` and ``logs`` (``[line.log for line in result.logs]``). The function
    gets a copy of ``input_data`` that went through JSON, as from the platform.

    ``attempt``: 2 for the first retry. ``output_data``: what an earlier IN_PROGRESS result had stored. ``stopping``: an
    Event that is set makes the worker look as if it were draining. ``timeout_s`` is not applied, and no hooks run.
    Raises AgentError for a function that can't be an agent, UsageError for an input that is not JSON."""
    import asyncio

    agent = next((known for known in reversed(REGISTRY) if known.func is func), None) or Agent(func)
    agent = agent.changed(agent_id=agent_id or agent.agent_id or "test-agent")
    given: dict[str, Any] = {PLATFORM_TASK_ID: platform_task_id, PLATFORM_AGENT_ID: platform_agent_id}
    wire = {
        "taskId": "test-task", "workflowInstanceId": "test-workflow", "referenceTaskName": "test-step",
        "taskType": agent.agent_id, "taskDefName": agent.agent_id,
        "status": "IN_PROGRESS", "retryCount": attempt - 1, "pollCount": 1,
        "inputData": {**given, **(input_data or {})}, "outputData": dict(output_data or {}),
    }  # fmt: skip
    try:
        task = Task(json.loads(encode(wire)))
    except (TypeError, ValueError) as error:
        raise UsageError(f"the input of the task is not JSON: {error}") from None
    run = partial(execute, agent, task, "test-worker", stopping=stopping or threading.Event())
    loop = None
    with suppress(RuntimeError):
        loop = asyncio.get_running_loop()
    if loop is None:
        return run()
    with ThreadPoolExecutor(1) as pool:  # in an async test a loop runs already, and no second one can run inside it
        return pool.submit(run).result()

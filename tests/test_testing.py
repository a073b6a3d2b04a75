# SPDX-License-Identifier: Apache-2.0
"""run_task: what people's own unit tests stand on."""

from __future__ import annotations

import logging
import threading
import unittest
from datetime import date
from typing import Any

from user_agent_sdk.agents import REGISTRY, user_agent
from user_agent_sdk.conductor.wire import Task, TaskResult
from user_agent_sdk.errors import AgentError, UsageError
from user_agent_sdk.testing import run_task
from user_agent_sdk.worker.running.context import AGENT_LOG, current_task


class RunTask(unittest.TestCase):
    def setUp(self) -> None:
        self.before = REGISTRY[:]
        AGENT_LOG.propagate = False
        AGENT_LOG.addHandler(logging.NullHandler())
        self.addCleanup(setattr, AGENT_LOG, "propagate", True)

    def tearDown(self) -> None:
        REGISTRY[:] = self.before

    def test_the_example_of_its_documentation(self) -> None:
        @user_agent()
        def sum_agent(input_data: dict[str, int], logger: logging.Logger) -> int:
            logger.info("Processing task input")
            return input_data["num1"] + input_data["num2"]

        result = run_task(sum_agent, {"num1": 2, "num2": 3})
        self.assertEqual(result.status, "COMPLETED")
        self.assertEqual(result.output_data, {"result": 5})
        self.assertEqual([line.log for line in result.logs], ["Processing task input"])

    def test_undecorated_and_async_functions_work_and_are_not_registered(self) -> None:
        async def agent(num1: int) -> int:
            return num1

        self.assertEqual(run_task(agent, {"num1": 1}).output_data, {"result": 1})
        self.assertEqual(REGISTRY, self.before)

    def test_an_exception_is_a_failed_result_as_for_the_platform(self) -> None:
        def agent() -> None:
            raise ValueError("no")

        result = run_task(agent)
        self.assertEqual((result.status, result.reason_for_incompletion), ("FAILED", "ValueError: no"))
        self.assertEqual(result.logs[-1].log.count("Traceback"), 1)
        self.assertEqual(run_task(lambda amount: amount).status, "FAILED_WITH_TERMINAL_ERROR")

    def test_the_input_is_what_json_makes_of_it_and_a_copy(self) -> None:
        given: dict[str, Any] = {"rows": (1, 2), "deep": {"a": 1}}

        def agent(input_data: dict[str, Any]) -> Any:
            rows = input_data["rows"]
            input_data["deep"].clear()
            return type(rows).__name__

        self.assertEqual(run_task(agent, given).output_data, {"result": "list"})
        self.assertEqual(given["deep"], {"a": 1})

    def test_an_input_that_is_not_json_is_the_tests_own_error(self) -> None:
        for value in (date(2026, 1, 2), float("nan"), "\ud800"):
            with self.assertRaises(UsageError):
                run_task(lambda: None, {"value": value})

    def test_a_function_that_can_not_be_an_agent_raises(self) -> None:
        with self.assertRaises(AgentError):
            run_task(int)  # it has no signature to read

    def test_a_retry_a_drain_and_a_callback_can_be_played(self) -> None:
        def agent(task: Task, platform_task_id: str) -> Any:
            now = current_task()
            if not task.output_data:
                return TaskResult(status="IN_PROGRESS", output_data={"page": 1}, callback_after_seconds=5)
            return [now.attempt, now.stopping.is_set(), now.agent_id, task.output_data["page"], platform_task_id]

        first = run_task(agent)
        self.assertEqual((first.status, first.callback_after_seconds), ("IN_PROGRESS", 5))
        stopping = threading.Event()
        stopping.set()
        again = run_task(
            agent, attempt=2, agent_id="x", output_data=first.output_data, stopping=stopping, platform_task_id="p"
        )
        self.assertEqual(again.output_data, {"result": [2, True, "x", 1, "p"]})


class RunTaskInAnAsyncTest(unittest.IsolatedAsyncioTestCase):
    async def test_an_async_agent_can_be_run_from_a_running_loop(self) -> None:
        async def agent(num1: int) -> int:
            return num1

        self.assertEqual(run_task(agent, {"num1": 1}).output_data, {"result": 1})


if __name__ == "__main__":
    unittest.main()

# SPDX-License-Identifier: Apache-2.0
"""The agents of 0.2.0's own documentation, to the letter, load and run."""

from __future__ import annotations

import json
import unittest
from typing import Any

from tests.cli import CliTest

QUICK_START = """
    from logging import Logger
    from user_agent_sdk import user_agent


    @user_agent()
    def sum_agent(input_data: dict, logger: Logger):
        # These logs will be visible in the akaBot 2.0 platform for monitoring
        logger.info("Processing task input")

        # Do some work with the input data
        num1 = input_data.get("num1", 0)
        num2 = input_data.get("num2", 0)
        total = num1 + num2

        return total
"""
ERROR_HANDLING = """
    from user_agent_sdk import user_agent
    from user_agent_sdk.utils.exception import NonRetryableException


    @user_agent()
    def my_agent(input_data):
        user_name = input_data.get("user_name")
        if not user_name:
            raise NonRetryableException("'user_name' is required")

        # Regular processing...
"""
ASYNC = """
    from user_agent_sdk import user_agent


    @user_agent()
    async def sum_agent():
        # async processing logic here
        pass
"""
WORKERS = """
    from user_agent_sdk import user_agent


    @user_agent(workers=4)
    def sum_agent():
        # processing logic here
        pass
"""
MULTIPLE = """
    from user_agent_sdk import user_agent


    @user_agent(agent_id="sum agent id")
    def sum_agent():
        # processing logic here
        pass


    @user_agent(agent_id="minus agent id")
    def minus_agent():
        # processing logic here
        pass
"""


class SeedScriptsTest(CliTest):
    def invoke(self, script: str, given: object = None, *words: str) -> tuple[int, Any, list[str]]:
        self.write("your_agent.py", script)
        ended = self.run_main("invoke", "your_agent.py", "--json", "-i", json.dumps(given or {}), *words)
        told = json.loads(ended.out)
        return ended.code, told["output"] if ended.code == 0 else (told["reason"], told["attempts"]), told["logs"]

    def test_quick_start(self) -> None:
        self.assertEqual(
            self.invoke(QUICK_START, {"num1": 2, "num2": 3}), (0, {"result": 5}, ["Processing task input"])
        )

    def test_custom_error_handling(self) -> None:
        self.assertEqual(self.invoke(ERROR_HANDLING, {"user_name": "an"})[:2], (0, {"result": None}))
        code, (reason, attempts), _ = self.invoke(ERROR_HANDLING)
        self.assertEqual((code, attempts), (1, 1))
        self.assertIn("'user_name' is required", reason)

    def test_async_support(self) -> None:
        self.assertEqual(self.invoke(ASYNC)[:2], (0, {"result": None}))

    def test_workers(self) -> None:
        self.assertEqual(self.invoke(WORKERS)[:2], (0, {"result": None}))

    def test_multiple_user_agents(self) -> None:
        for agent_id in ("sum agent id", "minus agent id"):
            self.assertEqual(self.invoke(MULTIPLE, None, "-a", agent_id)[:2], (0, {"result": None}))


if __name__ == "__main__":
    unittest.main()

# SPDX-License-Identifier: Apache-2.0
"""Workflows in the shapes that people give them: limits, sub-workflows, a wide dynamic fork, domains."""

from __future__ import annotations

import json
import time
import uuid
from typing import Any

from . import RealTestCase
from .worker import Worker

LONG_S = 60.0
WIDE = 1000
WIDE_S = 240.0
AGENT = """
    import pathlib, threading, time
    from user_agent_sdk import user_agent

    @user_agent(agent_id={agent_id!r}, workers=8)
    def run(number=0, seconds=0):
        began = time.time()
        threading.Event().wait(seconds)
        with open(pathlib.Path(__file__).with_name("runs"), "a") as runs:
            runs.write(f"{{began}} {{time.time()}}\\n")
        return number
    """
TWO_DOMAINS = """
    from user_agent_sdk import user_agent

    @user_agent(agent_id={agent_id!r}, domain="red")
    def red(number):
        return "red"

    @user_agent(agent_id={agent_id!r}, domain="blue")
    def blue(number):
        return "blue"
    """


class Shapes(RealTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.agent_id = f"shape-{uuid.uuid4().hex}"

    def define(self, **limits: int) -> None:
        self.stack.register_task(self.agent_id, response_timeout_s=30)
        if limits:
            definition = self.stack.api("GET", f"/metadata/taskdefs/{self.agent_id}")
            self.stack.api("PUT", "/metadata/taskdefs", {**definition, **limits})
        self.stack.register_workflow(self.agent_id, [self.agent_id], inputs=["number", "seconds"])

    def worker(self, script: str = AGENT) -> Worker:
        conductor = ("--conductor", self.stack.conductor_url, "--poll-interval", "200")
        return Worker(script.format(agent_id=self.agent_id), None, *conductor)

    def complete(self, count: int, seconds: float) -> list[tuple[float, float]]:
        """Run so many; when each began and ended, by the worker's clock."""
        with self.worker() as worker:
            ids = [self.start(number, seconds) for number in range(count)]
            for workflow_id in ids:
                self.assertEqual(self.stack.wait(workflow_id, timeout_s=LONG_S)["status"], "COMPLETED")
            lines = (worker.folder / "runs").read_text("utf-8").splitlines()
            self.assertEqual((len(lines), worker.stop()), (count, 0))
        times = [line.split() for line in lines]
        return [(float(began), float(ended)) for began, ended in times]

    def start(self, number: int, seconds: float = 0, **more: Any) -> str:
        wanted = {"name": self.agent_id, "version": 1, "input": {"number": number, "seconds": seconds}, **more}
        return str(self.stack.api("POST", "/workflow", wanted))

    def test_a_concurrency_limit_of_the_definition_is_kept_by_the_server(self) -> None:
        """The server counts what runs, then marks what it gives: two polls at one instant may pass together, as they
        once did on 3.13.8. Without a limit all eight run at once."""
        self.define(concurrentExecLimit=2)
        runs = self.complete(8, 0.5)
        most = max(sum(began <= at < ended for began, ended in runs) for at, _ in runs)
        print(json.dumps({"conductor": self.stack.version, "at_once": most}))
        self.assertLessEqual(most, 4)

    def test_a_rate_limit_of_the_definition_delays_and_loses_nothing(self) -> None:
        self.define(rateLimitPerFrequency=2, rateLimitFrequencyInSeconds=2)
        runs = sorted(self.complete(8, 0))
        print(json.dumps({"conductor": self.stack.version, "rate_took_s": round(runs[-1][0] - runs[0][0], 1)}))

    def test_a_step_of_a_sub_workflow(self) -> None:
        self.define()
        outer = f"outer-{self.agent_id}"
        step = {
            "name": "sub",
            "taskReferenceName": "sub",
            "type": "SUB_WORKFLOW",
            "inputParameters": {"number": 7, "seconds": 0},
            "subWorkflowParam": {"name": self.agent_id, "version": 1},
        }
        self.register(outer, [step])
        with self.worker():
            workflow = self.stack.wait(self.stack.start_workflow(outer), timeout_s=2 * LONG_S)  # 3.13.8 looks seldom
        self.assertEqual(workflow["status"], "COMPLETED")

    def test_a_dynamic_fork_of_a_thousand(self) -> None:
        self.define()
        fork = {
            "name": "fork",
            "taskReferenceName": "fork",
            "type": "FORK_JOIN_DYNAMIC",
            "inputParameters": {"tasks": "${workflow.input.tasks}", "inputs": "${workflow.input.inputs}"},
            "dynamicForkTasksParam": "tasks",
            "dynamicForkTasksInputParamName": "inputs",
        }
        wide = f"wide-{self.agent_id}"
        self.register(wide, [fork, {"name": "join", "taskReferenceName": "join", "type": "JOIN"}])
        names = [f"t{number}" for number in range(WIDE)]
        tasks = [{"name": self.agent_id, "taskReferenceName": name, "type": "SIMPLE"} for name in names]
        inputs = {name: {"number": number} for number, name in enumerate(names)}
        with self.worker() as worker:
            began = time.monotonic()
            workflow_id = self.stack.start_workflow(wide, {"tasks": tasks, "inputs": inputs})
            workflow = self.stack.wait(workflow_id, timeout_s=WIDE_S)
            took_s = time.monotonic() - began
            runs = len((worker.folder / "runs").read_text("utf-8").splitlines())
            self.assertEqual(worker.stop(), 0)
        print(json.dumps({"conductor": self.stack.version, "fork": WIDE, "took_s": round(took_s, 1)}))
        results = {task["outputData"]["result"] for task in workflow["tasks"] if task["taskType"] == self.agent_id}
        self.assertEqual((workflow["status"], runs, len(results)), ("COMPLETED", WIDE, WIDE))

    def register(self, name: str, tasks: list[dict[str, Any]]) -> None:
        definition = {"name": name, "version": 1, "schemaVersion": 2, "ownerEmail": "tests@example.com", "tasks": tasks}
        definition.update(timeoutPolicy="ALERT_ONLY", timeoutSeconds=0)
        self.stack.api("PUT", "/metadata/workflow", [definition])

    def test_one_id_in_two_domains_and_a_fallback(self) -> None:
        self.define()
        with self.worker(TWO_DOMAINS):
            for domains, result in (("red", "red"), ("blue", "blue"), ("nobody,blue", "blue")):
                workflow_id = self.start(1, taskToDomain={self.agent_id: domains})
                [task] = self.stack.wait(workflow_id, timeout_s=LONG_S)["tasks"]
                self.assertEqual(task["outputData"], {"result": result}, domains)

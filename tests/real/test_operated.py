# SPDX-License-Identifier: Apache-2.0
"""Workflows that people operate while a task of theirs runs here, waits in the queue, or waits for its delivery.

What comes of the function, the slot, the log and the history is told in the README's table; each row is a test here.
A function runs until its test lets it go on, so nothing depends on how fast a server is.
"""

from __future__ import annotations

import json
import re
import sqlite3
import uuid
from collections import Counter
from contextlib import closing
from typing import Any

from . import RealTestCase
from .stack import wait_until
from .worker import Worker

LONG_S = 60.0
BY_US = {"by": "the worker"}
AGENT = """
    import pathlib, threading
    from user_agent_sdk import user_agent

    HERE = pathlib.Path(__file__).parent

    @user_agent(agent_id={agent_id!r}, workers=6)
    def held(task, name):
        with open(HERE / "runs", "a") as runs:
            runs.write(f"{{name}} {{task.task_id}}\\n")
        while not (HERE / f"go-{{name}}").exists():
            threading.Event().wait(0.05)
        return {{"by": "the worker"}}
    """


class Operated(RealTestCase):
    """One worker for all; a workflow of two steps of its agent for each test."""

    worker: Worker
    agent_id: str

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.agent_id = f"held {uuid.uuid4().hex[:8]} é+&"  # an odd name, as people give them
        cls.stack.register_task(cls.agent_id, retry_count=1, response_timeout_s=30)
        cls.stack.register_workflow(cls.agent_id, [cls.agent_id, cls.agent_id], inputs=["name"])
        options = ("--conductor", cls.stack.gateway.conductor_url, "-r", "--poll-interval", "200")
        cls.worker = Worker(AGENT.format(agent_id=cls.agent_id), None, *options)
        cls.worker.start()
        cls.addClassCleanup(cls.worker.__exit__)

    def setUp(self) -> None:
        super().setUp()
        self.name = self.id().rpartition(".")[2]
        self.addCleanup(self.let_go)
        self.said_before = len(self.worker.log)

    # What people do

    def begin(self, name: str | None = None) -> str:
        """The id of a workflow whose first step runs here."""
        workflow_id = self.stack.start_workflow(self.agent_id, {"name": name or self.name})
        self.await_runs(1, name)
        return workflow_id

    def let_go(self, name: str | None = None) -> None:
        (self.worker.folder / f"go-{name or self.name}").touch()

    def do(self, method: str, workflow_id: str, action: str, body: object = None) -> None:
        self.stack.api(method, f"/workflow/{workflow_id}{action}", body)

    # What came of it

    def runs(self, name: str | None = None) -> list[str]:
        """The ids of the tasks that were run under a name, in order."""
        path = self.worker.folder / "runs"
        lines = path.read_text("utf-8").splitlines() if path.exists() else []
        return [line.split()[1] for line in lines if line.split()[0] == (name or self.name)]

    def await_runs(self, count: int, name: str | None = None) -> None:
        self.assertTrue(
            wait_until(lambda: len(self.runs(name)) >= count, LONG_S), f"{self.runs(name)}, not {count} runs"
        )

    def tasks(self, workflow_id: str) -> list[tuple[str, Any]]:
        return [(task["status"], task.get("outputData")) for task in self.stack.workflow(workflow_id)["tasks"]]

    def await_ends(self, workflow_id: str, status: str) -> list[tuple[str, Any]]:
        self.assertEqual(self.stack.wait(workflow_id, timeout_s=LONG_S)["status"], status)
        return self.tasks(workflow_id)

    def assert_said(self, *patterns: str) -> None:
        """What the worker warned of in this test: of each pattern at least once, and of nothing else."""
        mine, lines = set(self.runs()), (self.worker.folder / "runs").read_text("utf-8").splitlines()
        others = {line.split()[1] for line in lines} - mine
        said = [line for line in self.worker.log[self.said_before :] if re.search(r"WARNING|ERROR|CRITICAL", line)]
        said = [line for line in said if not any(task_id in line for task_id in others)]
        for pattern in patterns:
            self.assertTrue(any(re.search(pattern, line) for line in said), f"{pattern}: {said}")
        unmeant = [line for line in said if not any(re.search(pattern, line) for pattern in patterns)]
        self.assertEqual(unmeant, [])

    def await_said(self, text: str) -> None:
        said = lambda: any(text in line for line in self.worker.log[self.said_before :])  # noqa: E731
        self.assertTrue(wait_until(said, LONG_S), self.worker.log[self.said_before :])

    def assert_slots_are_free(self) -> None:
        """All six do work, at the same time."""
        name = f"{self.name}-after"
        ids = [self.stack.start_workflow(self.agent_id, {"name": name}) for _ in range(6)]
        self.await_runs(6, name)
        self.let_go(name)
        for workflow_id in ids:
            self.await_ends(workflow_id, "COMPLETED")

    def report_refused(self) -> None:
        """Until the next clear() results wait here for their delivery."""
        for route in ("report", "update-v2"):
            self.stack.gateway.fault("503", route=route, count=None)

    def await_undelivered(self) -> None:
        own = self.runs()[0]
        refused = lambda gateway: any(seen.task_id == own and seen.fault for seen in gateway.seen())  # noqa: E731
        self.assertTrue(self.stack.gateway.wait_until(refused, LONG_S), "no report of it was refused")

    # While it runs

    def test_terminated(self) -> None:
        workflow_id = self.begin()
        self.do("DELETE", workflow_id, "?reason=enough")
        self.let_go()
        self.assert_slots_are_free()
        self.assertEqual(self.await_ends(workflow_id, "TERMINATED"), [("CANCELED", {})])
        self.assertEqual(len(self.runs()), 1)
        self.assert_said()

    def test_terminated_and_restarted(self) -> None:
        workflow_id = self.begin()
        self.do("DELETE", workflow_id, "?reason=again")
        self.do("POST", workflow_id, "/restart")
        self.await_runs(2)
        self.let_go()
        self.assertEqual(self.await_ends(workflow_id, "COMPLETED"), [("COMPLETED", BY_US)] * 2)
        self.assertEqual(len(set(self.runs())), 3)
        self.assert_slots_are_free()
        self.await_said(self.runs()[0])
        self.assert_said("404: No such task")

    def test_terminated_and_rerun_from_that_task(self) -> None:
        """The server brings the same task back, and does not take the report of it that is under way for another's."""
        workflow_id = self.begin()
        self.do("DELETE", workflow_id, "?reason=again")
        self.do("POST", workflow_id, "/rerun", {"reRunFromWorkflowId": workflow_id, "reRunFromTaskId": self.runs()[0]})
        self.await_said("came again while it is held here")
        self.let_go()
        self.assertEqual(self.await_ends(workflow_id, "COMPLETED"), [("COMPLETED", BY_US)] * 2)
        self.assertEqual(len(self.runs()), 2)
        self.assert_slots_are_free()
        self.assert_said("came again while it is held here")

    def test_terminated_and_retried(self) -> None:
        workflow_id = self.begin()
        self.do("DELETE", workflow_id, "?reason=again")
        self.do("POST", workflow_id, "/retry")
        self.assert_result_counts_for_the_retry(workflow_id, "CANCELED")

    def test_failed_by_hand(self) -> None:
        workflow_id = self.begin()
        by_hand = {"taskId": self.runs()[0], "workflowInstanceId": workflow_id, "status": "FAILED"}
        self.stack.api("POST", "/tasks", {**by_hand, "reasonForIncompletion": "by hand"})
        self.assert_result_counts_for_the_retry(workflow_id, "FAILED")

    def assert_result_counts_for_the_retry(self, workflow_id: str, first: str) -> None:
        self.await_said("it is not run again, its result will count for the retry")
        self.let_go()
        tasks = self.await_ends(workflow_id, "COMPLETED")
        self.assertEqual(tasks, [(first, {}), ("COMPLETED", BY_US), ("COMPLETED", BY_US)])
        self.assertEqual(len(self.runs()), 2)
        self.assert_slots_are_free()
        self.assert_said("its result will count for the retry")

    def test_paused_and_resumed(self) -> None:
        workflow_id = self.begin()
        self.do("PUT", workflow_id, "/pause")
        self.let_go()
        self.assertTrue(wait_until(lambda: self.tasks(workflow_id)[0][0] == "COMPLETED", LONG_S))
        self.assertEqual((len(self.runs()), self.stack.workflow(workflow_id)["status"]), (1, "PAUSED"))
        self.do("PUT", workflow_id, "/resume")
        self.await_ends(workflow_id, "COMPLETED")
        self.assertEqual(len(self.runs()), 2)
        self.assert_said()

    def test_removed(self) -> None:
        workflow_id = self.begin()
        self.do("DELETE", workflow_id, "/remove?archiveWorkflow=false")
        self.let_go()
        self.assert_slots_are_free()
        self.await_said("404: No such workflow")

    def test_completed_by_hand(self) -> None:
        workflow_id = self.begin()
        by_hand = {"taskId": self.runs()[0], "workflowInstanceId": workflow_id, "status": "COMPLETED"}
        self.stack.api("POST", "/tasks", {**by_hand, "outputData": {"by": "hand"}, "workerId": "ui"})
        self.await_runs(2)
        self.let_go()
        done = self.await_ends(workflow_id, "COMPLETED")
        self.assertEqual(done, [("COMPLETED", {"by": "hand"}), ("COMPLETED", BY_US)])
        self.assertEqual(len(self.runs()), 2)
        self.assert_slots_are_free()
        self.assert_said()

    def test_its_definition_is_changed(self) -> None:
        workflow_id = self.begin()
        self.addCleanup(self.stack.register_task, self.agent_id, retry_count=1, response_timeout_s=30)
        self.addCleanup(self.stack.register_workflow, self.agent_id, [self.agent_id] * 2, inputs=["name"])
        self.stack.register_task(self.agent_id, retry_count=0, response_timeout_s=10)
        self.stack.register_workflow(self.agent_id, [self.agent_id], inputs=["name"])
        self.let_go()
        self.assertEqual(len(self.await_ends(workflow_id, "COMPLETED")), 2, "the steps are those it was started with")
        self.assertEqual(len(self.runs()), 2)
        self.assert_said()

    # While it waits in the queue

    def test_in_the_queue(self) -> None:
        """Nothing of what ended there comes here."""
        busy = f"{self.name}-busy"
        others = [self.begin(busy) for _ in range(1)] + [
            self.stack.start_workflow(self.agent_id, {"name": busy}) for _ in range(5)
        ]
        self.await_runs(6, busy)
        ids = [self.stack.start_workflow(self.agent_id, {"name": self.name}) for _ in range(4)]
        task_id = self.stack.workflow(ids[2])["tasks"][0]["taskId"]
        self.do("DELETE", ids[0], "?reason=enough")
        self.do("DELETE", ids[1], "/remove?archiveWorkflow=false")
        self.stack.api("POST", "/tasks", {"taskId": task_id, "workflowInstanceId": ids[2], "status": "COMPLETED"})
        self.let_go()
        self.let_go(busy)
        self.await_ends(ids[2], "COMPLETED")
        self.await_ends(ids[3], "COMPLETED")
        self.assertEqual(len(self.runs()), 1 + 2, "the second step of the third, both of the fourth")
        for workflow_id in others:
            self.await_ends(workflow_id, "COMPLETED")
        self.assert_said()

    def test_skipped_before_it_was_scheduled(self) -> None:
        workflow_id = self.begin()
        self.do("PUT", workflow_id, "/skiptask/step_2")
        self.let_go()
        ended = self.await_ends(workflow_id, "COMPLETED")
        self.assertEqual({status for status, _ in ended}, {"SKIPPED", "COMPLETED"})
        self.assertEqual(len(self.runs()), 1)

    # While its result waits for delivery

    def begin_waiting(self) -> str:
        """The id of a workflow whose first step has ended here, and is not reported."""
        workflow_id = self.begin()
        self.report_refused()
        self.let_go()
        self.await_undelivered()
        return workflow_id

    def test_terminated_while_the_result_waits(self) -> None:
        workflow_id = self.begin_waiting()
        self.do("DELETE", workflow_id, "?reason=enough")
        self.stack.gateway.clear()
        self.assert_slots_are_free()
        self.assertEqual(self.await_ends(workflow_id, "TERMINATED"), [("CANCELED", {})])

    def test_removed_while_the_result_waits(self) -> None:
        workflow_id = self.begin_waiting()
        self.do("DELETE", workflow_id, "/remove?archiveWorkflow=false")
        self.stack.gateway.clear()
        self.assert_slots_are_free()
        self.await_said("404: No such workflow")

    def test_completed_by_hand_while_the_result_waits(self) -> None:
        workflow_id = self.begin_waiting()
        by_hand = {"taskId": self.runs()[0], "workflowInstanceId": workflow_id, "status": "COMPLETED"}
        self.stack.api("POST", "/tasks", {**by_hand, "outputData": {"by": "hand"}})
        self.stack.gateway.clear()
        done = self.await_ends(workflow_id, "COMPLETED")
        self.assertEqual(done, [("COMPLETED", {"by": "hand"}), ("COMPLETED", BY_US)])

    def test_restarted_while_the_result_waits(self) -> None:
        workflow_id = self.begin_waiting()
        self.do("DELETE", workflow_id, "?reason=again")
        self.do("POST", workflow_id, "/restart")
        self.await_runs(2)
        self.stack.gateway.clear()
        self.assertEqual(self.await_ends(workflow_id, "COMPLETED"), [("COMPLETED", BY_US)] * 2)
        self.assertEqual(len(set(self.runs())), 3)

    def test_rerun_while_the_result_waits(self) -> None:
        workflow_id = self.begin_waiting()
        self.do("DELETE", workflow_id, "?reason=again")
        self.do("POST", workflow_id, "/rerun", {"reRunFromWorkflowId": workflow_id, "reRunFromTaskId": self.runs()[0]})
        self.await_said("came again while it is held here")
        self.stack.gateway.clear()
        self.assertEqual(self.await_ends(workflow_id, "COMPLETED"), [("COMPLETED", BY_US)] * 2)
        self.assertEqual(len(self.runs()), 2)

    def test_retried_while_the_result_waits(self) -> None:
        workflow_id = self.begin_waiting()
        self.do("DELETE", workflow_id, "?reason=again")
        self.do("POST", workflow_id, "/retry")
        self.await_said("that result is sent again")
        self.stack.gateway.clear()
        tasks = self.await_ends(workflow_id, "COMPLETED")
        self.assertEqual(tasks, [("CANCELED", {}), ("COMPLETED", BY_US), ("COMPLETED", BY_US)])
        self.assertEqual(len(self.runs()), 2)

    def test_paused_while_the_result_waits(self) -> None:
        workflow_id = self.begin_waiting()
        self.do("PUT", workflow_id, "/pause")
        self.stack.gateway.clear()
        self.assertTrue(wait_until(lambda: self.tasks(workflow_id)[0][0] == "COMPLETED", LONG_S))
        self.do("PUT", workflow_id, "/resume")
        self.await_ends(workflow_id, "COMPLETED")
        self.assertEqual(len(self.runs()), 2)

    # In the end

    def test_then_the_history_has_each_run(self) -> None:
        self.let_go()
        self.await_ends(self.stack.start_workflow(self.agent_id, {"name": self.name}), "COMPLETED")
        recorded = lambda: not self.all_runs() - self.recorded()  # noqa: E731
        self.assertTrue(wait_until(recorded, LONG_S), self.all_runs() - self.recorded())

    def all_runs(self) -> Counter[str]:
        """How often a function ran to its end, by name, in all tests so far."""
        lines = (self.worker.folder / "runs").read_text("utf-8").splitlines()
        names = [line.split()[0] for line in lines]
        return Counter(name for name in names if (self.worker.folder / f"go-{name}").exists())

    def recorded(self) -> Counter[str]:
        """The same, as the history has it."""
        with closing(sqlite3.connect(self.worker.folder / "execution_history.db", timeout=10)) as history:
            rows = history.execute("SELECT input_data FROM execution_history WHERE status = 'success'").fetchall()
        return Counter(json.loads(given)["name"] for (given,) in rows)

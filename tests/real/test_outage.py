# SPDX-License-Identifier: Apache-2.0
"""Outages, kills and stops by hand, one at a time. ``USERAGENT_LONG=1`` makes the outage 3 minutes long."""

from __future__ import annotations

import json
import os
import tempfile
import textwrap
import threading
import time
import uuid
from collections import Counter
from pathlib import Path
from typing import Any

from . import RealTestCase, chaos_agents
from .checker import Run, read_runs
from .stack import wait_until
from .worker import Worker

LONG = os.environ.get("USERAGENT_LONG") == "1"
OUTAGE_S = 180.0 if LONG else 20.0
PATIENCE_S = 60.0

AGENT = """
    import bodies
    from user_agent_sdk import user_agent

    @user_agent()
    def agent(task):
        result = bodies.ran("agent", task.task_id)
        bodies.NEVER.wait(task.input_data["lasts_s"])
        return result
    """


def pause(seconds: float) -> None:
    threading.Event().wait(seconds)


class OutageTestCase(RealTestCase):
    """One agent; its workers share a folder, and so a journal and the file of runs."""

    def setUp(self) -> None:
        super().setUp()
        owned = tempfile.TemporaryDirectory()
        self.addCleanup(owned.cleanup)
        self.folder = Path(owned.name)
        (self.folder / "bodies.py").write_text(chaos_agents.bodies(), "utf-8")
        self.addCleanup(self.listen)

    def prepare(self, *, response_timeout_s: int, retry_count: int = 5) -> None:
        self.agent_id = f"{uuid.uuid4()}#user-agent"
        self.stack.register_task(self.agent_id, retry_count=retry_count, response_timeout_s=response_timeout_s)
        self.stack.register_workflow(self.agent_id, [self.agent_id], inputs=["lasts_s"])

    def worker(self, *options: str) -> Worker:
        """Started, and killed at the end of the test if it still runs."""
        credentials = self.stack.credentials(self.agent_id, lifespan_s=20)
        worker = Worker(textwrap.dedent(AGENT), credentials, *options, folder=self.folder)
        self.addCleanup(self.end, worker)
        worker.start()
        return worker

    def listen(self) -> None:
        if not self.stack.gateway.listening:
            self.stack.gateway.start()

    def end(self, worker: Worker) -> None:
        if worker._process is not None:
            worker.kill()

    def begin(self, count: int, lasts_s: float) -> list[str]:
        return [self.stack.start_workflow(self.agent_id, {"lasts_s": lasts_s}) for _ in range(count)]

    def runs(self) -> list[Run]:
        return read_runs(self.folder / chaos_agents.RUNS)

    def wait_for_runs(self, count: int) -> None:
        self.assertTrue(wait_until(lambda: len(self.runs()) >= count, PATIENCE_S), f"{len(self.runs())} of {count} ran")

    def assert_each_ran_once(self, workflow_ids: list[str]) -> None:
        """One attempt each, COMPLETED by its own run, and the agents' file has no other run."""
        made = []
        for workflow_id in workflow_ids:
            workflow = self.stack.wait(workflow_id, timeout_s=PATIENCE_S)
            statuses = [task["status"] for task in workflow["tasks"]]
            self.assertEqual((workflow["status"], statuses), ("COMPLETED", ["COMPLETED"]), workflow_id)
            task = workflow["tasks"][0]
            self.assertEqual(task["outputData"], {"run": task["taskId"]})
            made.append(task["taskId"])
        self.assertEqual(sorted(run.task_id for run in self.runs()), sorted(made))


class SharedQueueTest(OutageTestCase):
    def test_four_processes_on_one_queue_and_one_folder_run_each_task_once(self) -> None:
        self.prepare(response_timeout_s=60)
        workers = [self.worker("-w", "4") for _ in range(4)]
        begun = self.begin(1000 if LONG else 200, 0.05)
        self.assert_each_ran_once(begun)
        self.assertGreaterEqual(len({run.pid for run in self.runs()}), 2, "several processes took part")
        self.assertEqual([worker.stop() for worker in workers], [0] * 4)
        reports = Counter(seen.task_id for seen in self.stack.gateway.seen("report") if seen.status == 200)
        self.assertEqual((len(reports), max(reports.values())), (len(begun), 1), "each result is stored once")


class ResultsInHandTest(OutageTestCase):
    def test_results_outlive_an_outage_with_a_kill_in_its_middle(self) -> None:
        self.prepare(response_timeout_s=3600, retry_count=0)
        workers = [self.worker("-w", "8") for _ in range(2)]
        begun = self.begin(16, 3.0)
        self.wait_for_runs(16)
        self.stack.gateway.fault("503", count=None)
        pause(OUTAGE_S / 2)
        self.stack.gateway.stop()
        self.stack.gateway.clear()
        workers[0].kill()
        workers[0].start()
        pause(OUTAGE_S / 2)
        self.assertEqual(self.completed(begun), 0)
        self.stack.gateway.start()
        ended = time.monotonic()
        self.assert_each_ran_once(begun)
        print(json.dumps({"outage_s": OUTAGE_S, "all delivered after_s": round(time.monotonic() - ended, 1)}))
        self.assertLess(time.monotonic() - ended, 60)
        self.assertEqual([worker.stop() for worker in workers], [0, 0])

    def completed(self, workflow_ids: list[str]) -> int:
        return sum(self.stack.workflow(one)["status"] == "COMPLETED" for one in workflow_ids)


class LateResultTest(OutageTestCase):
    """An outage of three response timeouts with a result in hand: the platform hands the work out again."""

    def result_in_hand(self) -> tuple[Worker, str]:
        """A worker with the result of a workflow's first attempt, cut off until the platform has retried it."""
        self.prepare(response_timeout_s=2)
        worker = self.worker()
        workflow_id = self.begin(1, 1.0)[0]
        self.wait_for_runs(1)
        self.stack.gateway.stop()
        return worker, workflow_id

    def attempts(self, workflow_id: str) -> list[dict[str, Any]]:
        attempts: list[dict[str, Any]] = self.stack.workflow(workflow_id)["tasks"]
        return attempts

    def wait_for_the_retry(self, workflow_id: str) -> str:
        """Its task id."""
        pause(6.0)
        self.assertTrue(wait_until(lambda: len(self.attempts(workflow_id)) == 2, PATIENCE_S))
        first, second = self.attempts(workflow_id)
        self.assertEqual((first["status"], second["status"]), ("TIMED_OUT", "SCHEDULED"))
        self.assertEqual(second["retriedTaskId"], first["taskId"])
        return str(second["taskId"])

    def assert_completed_by_the_first_run(self, workflow_id: str) -> None:
        workflow = self.stack.wait(workflow_id, timeout_s=PATIENCE_S)
        first, second = workflow["tasks"]
        self.assertEqual(workflow["status"], "COMPLETED")
        self.assertEqual([run.task_id for run in self.runs()], [first["taskId"]])
        self.assertEqual((second["status"], second["outputData"]), ("COMPLETED", {"run": first["taskId"]}))

    def test_the_retry_is_answered_by_the_process_that_has_the_result(self) -> None:
        worker, workflow_id = self.result_in_hand()
        self.wait_for_the_retry(workflow_id)
        self.stack.gateway.start()
        self.assert_completed_by_the_first_run(workflow_id)
        self.assertEqual(worker.stop(), 0)

    def test_the_retry_is_answered_by_the_process_that_took_over_from_a_killed_one(self) -> None:
        worker, workflow_id = self.result_in_hand()
        pause(3.0)  # the function has ended; its result is in the journal alone
        worker.kill()
        self.wait_for_the_retry(workflow_id)
        worker.start()
        self.stack.gateway.start()
        self.assert_completed_by_the_first_run(workflow_id)
        self.assertEqual(worker.stop(), 0)

    def test_a_retry_with_another_input_is_run(self) -> None:
        """A rerun of the retry gives it another input, and leaves its retriedTaskId."""
        worker, workflow_id = self.result_in_hand()
        retry = self.wait_for_the_retry(workflow_id)
        self.stack.api("DELETE", f"/workflow/{workflow_id}?reason=test")
        rerun = {"reRunFromWorkflowId": workflow_id, "reRunFromTaskId": retry, "taskInput": {"lasts_s": 0.5}}
        self.stack.api("POST", f"/workflow/{workflow_id}/rerun", rerun)
        first, second = self.attempts(workflow_id)
        self.assertEqual((second["status"], second["retriedTaskId"]), ("SCHEDULED", first["taskId"]))
        self.assertEqual(second["inputData"], {"lasts_s": 0.5})
        self.stack.gateway.start()
        workflow = self.stack.wait(workflow_id, timeout_s=PATIENCE_S)
        self.assertEqual((workflow["status"], workflow["tasks"][-1]["outputData"]), ("COMPLETED", {"run": retry}))
        self.assertEqual([run.task_id for run in self.runs()], [first["taskId"], retry])
        self.assertEqual(worker.stop(), 0)


class RestartTest(OutageTestCase):
    def test_results_in_hand_outlive_a_restart_of_conductor_and_are_its_last_word(self) -> None:
        """Extensions that meet Conductor's own timeout bring an ended attempt back to life. When nothing more
        was said of it, since its retry was answered, the workflow hung for three minutes.

        How soon the workflows end is Conductor's to say: its sweeper drops one whose lock is held, and comes back
        to it after one or two minutes (seen: all results were there, and one workflow ended after 96 s)."""
        self.prepare(response_timeout_s=2)
        worker = self.worker("-w", "8")
        begun = self.begin(8, 3.0)
        self.wait_for_runs(8)
        self.stack.restart_conductor()
        started = time.monotonic()
        workflows = [self.stack.wait(workflow_id, timeout_s=240) for workflow_id in begun]
        took_s = time.monotonic() - started
        attempts = Counter(task["status"] for workflow in workflows for task in workflow["tasks"])
        print(json.dumps({"after a restart of Conductor all ended after_s": round(took_s, 1), **attempts}))
        self.assertEqual([workflow["status"] for workflow in workflows], ["COMPLETED"] * 8)
        twice = [line for workflow in workflows if self.runs_of(workflow) > 1 for line in self.story(workflow)]
        self.assertEqual(len(self.runs()), 8, "\n".join(["no task was run twice", *twice]))
        self.assertEqual(worker.stop(), 0)
        for workflow in workflows:
            for task in workflow["tasks"]:
                with self.subTest(task=task["taskId"], status=task["status"]):
                    self.assert_was_reported_in_time(task["taskId"], task["status"], started)

    def runs_of(self, workflow: dict[str, Any]) -> int:
        attempts = {task["taskId"] for task in workflow["tasks"]}
        return sum(run.task_id in attempts for run in self.runs())

    def story(self, workflow: dict[str, Any]) -> list[str]:
        """What became of each attempt, and what the gateway saw of it; in epoch milliseconds."""
        skew_s, lines = time.time() - time.monotonic(), []
        for task in workflow["tasks"]:
            times = {name: task.get(name) for name in ("scheduledTime", "startTime", "updateTime", "endTime")}
            lines.append(f"{task['taskId']} of {task.get('retriedTaskId')}: {task['status']} {times}")
            for seen in self.stack.gateway.seen():
                if seen.task_id == task["taskId"]:
                    lines.append(f"  {int((seen.at_s + skew_s) * 1000)} {seen.route} {seen.result} -> {seen.status}")
        return lines

    def assert_was_reported_in_time(self, task_id: str, status: str, started: float) -> None:
        """Within 30 s of the restart, or of being handed out later; and no extension was sent after that."""
        said = [seen for seen in self.stack.gateway.seen() if seen.task_id == task_id and seen.status == 200]
        said.sort(key=lambda seen: seen.at_s)  # as they were sent: a server that starts may keep one for seconds
        if status == "TIMED_OUT" and [seen.route for seen in said] == ["poll"]:
            return  # the reply to the poll came too late for anybody
        given_at = next(seen.at_s for seen in said if seen.route == "poll")
        reported_at = [seen.at_s for seen in said if seen.route == "report"]
        self.assertEqual(said[-1].result, "COMPLETED", said)
        self.assertLess(reported_at[0] - max(given_at, started), 30, said)


class StopTest(OutageTestCase):
    def test_a_stop_with_eight_tasks_in_flight_delivers_them_all_within_three_seconds(self) -> None:
        self.prepare(response_timeout_s=60)
        worker = self.worker("-w", "8")
        self.stack.wait(self.begin(1, 0.0)[0])
        begun = self.begin(8, 2.0)
        self.wait_for_runs(9)
        started = time.monotonic()
        self.assertEqual(worker.stop(), 0, worker.log)
        took_s = time.monotonic() - started
        print(json.dumps({"stop with 8 tasks of 2 s took_s": round(took_s, 2)}))
        self.assertLess(took_s, 3.0)
        statuses = [self.stack.workflow(workflow_id)["status"] for workflow_id in begun]
        self.assertEqual(statuses, ["COMPLETED"] * 8)

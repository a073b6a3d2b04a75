# SPDX-License-Identifier: Apache-2.0
"""What the platform does on the wire, told as tests: one suite for the real server and for our sandbox.

A sentence here that the real server keeps and the sandbox does not is a defect of the sandbox; one that
the real server breaks is a defect of our knowledge. ``test_conformance.py`` runs the suite against the
sandbox, ``real/test_conformance.py`` against Conductor, by itself and behind a gateway that has akaBot's
paths and tokens. In what other releases than the newest differ is told in ``releases.py``.
"""

from __future__ import annotations

import http.client
import json
import threading
import time
import unittest
import uuid
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple
from urllib.parse import urlencode, urlsplit

from user_agent_sdk.conductor import paths, wire

PATIENCE_S = 20.0  # for what must come; nothing waits that long unless it fails


class Reply(NamedTuple):
    status: int
    media_type: str
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class Platform:
    """What the suite needs of a server: where it is, and the calls that are no worker's."""

    base_url = ""  # of both dialects, ends in /api
    auth_url = ""  # akaBot only
    client = ("", "")  # akaBot only: id and secret

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
        """Define the agent's task that way, start an execution of it, and return its id."""
        raise NotImplementedError

    def state(self, execution_id: str) -> tuple[str, list[dict[str, Any]]]:
        """The execution's status, and its tasks oldest first, under the names of the wire."""
        raise NotImplementedError

    def logs(self, task_id: str) -> list[str]:
        raise NotImplementedError

    def pass_time(self, seconds: float) -> None:
        """Let that much time pass on the server's clock."""
        threading.Event().wait(seconds)


def exchange(method: str, url: str, body: bytes | None, headers: Mapping[str, str]) -> Reply:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port or 80, timeout=60)
    try:
        connection.request(method, url[len(f"{parts.scheme}://{parts.netloc}") :], body, dict(headers))
        reply = connection.getresponse()
        return Reply(reply.status, (reply.getheader("Content-Type") or "").partition(";")[0], reply.read())
    finally:
        connection.close()


def nested(depth: int) -> str:
    return "[" * depth + "]" * depth


class Suite(unittest.TestCase):
    """The helpers."""

    platform: Platform
    dialect: paths.Dialect
    patience_s = PATIENCE_S

    def setUp(self) -> None:
        self.agent_id = f"{uuid.uuid4()}#user-agent"

    def headers(self) -> dict[str, str]:
        return {"Content-Type": "application/json", "Accept": "application/json, text/plain"}

    def call(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Reply:
        return exchange(method, self.platform.base_url + path, body, {**self.headers(), **headers})

    def start(self, **options: Any) -> str:
        given = options.pop("given", {"n": 1})
        return self.platform.start(self.agent_id, given, **options)

    def poll(self, worker_id: str = "w", domain: str | None = None) -> dict[str, Any] | None:
        reply = self.call("GET", self.dialect.poll_path(self.agent_id, worker_id, domain))
        self.assertIn(reply.status, (200, 204))
        task = reply.json() if reply.body.strip() else None
        self.assertIsInstance(task, (dict, type(None)))
        return task

    def take(self, worker_id: str = "w", domain: str | None = None) -> dict[str, Any]:
        """The next task; a real server shows one a moment after it was made."""
        found: list[dict[str, Any]] = []

        def polled() -> bool:
            task = self.poll(worker_id, domain)
            found.extend([task] if task else [])
            return bool(found)

        self.eventually(polled, "a poll finds the task")
        return found[0]

    def eventually(self, holds: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + self.patience_s
        while not holds():
            self.assertLess(time.monotonic(), deadline, f"not seen in time: {what}")
            threading.Event().wait(0.02)

    def report(self, task: Mapping[str, Any], status: str, **fields: Any) -> Reply:
        return self.send(self.dialect.report, task, status, **fields)

    def send(self, path: str, task: Mapping[str, Any], status: str, **fields: Any) -> Reply:
        ids = {"taskId": task["taskId"], "workflowInstanceId": task["workflowInstanceId"]}
        return self.call("POST", path, json.dumps({**ids, "status": status, **fields}).encode())

    def report_raw(self, task: Mapping[str, Any], output: str) -> Reply:
        """A COMPLETED whose outputData is ``output``, JSON or not."""
        ids = json.dumps({"taskId": task["taskId"], "workflowInstanceId": task["workflowInstanceId"]})
        return self.call(
            "POST", self.dialect.report, f'{ids[:-1]},"status":"COMPLETED","outputData":{output}}}'.encode()
        )

    def assert_applied(self, reply: Reply, task: Mapping[str, Any]) -> None:
        self.assertEqual((200, "text/plain", task["taskId"]), (reply.status, reply.media_type, reply.body.decode()))

    def assert_refused(self, reply: Reply, status: int) -> None:
        self.assertEqual((status, "application/json"), (reply.status, reply.media_type), reply.body[:300])
        self.assertIs(False, reply.json()["retryable"])

    def state(self, execution_id: str) -> tuple[str, list[dict[str, Any]]]:
        return self.platform.state(execution_id)

    def assert_ends(self, execution_id: str, status: str, tries: list[str]) -> list[dict[str, Any]]:
        self.eventually(lambda: self.state(execution_id)[0] != "RUNNING", f"the execution ends as {status}")
        ended_as, tasks = self.state(execution_id)
        self.assertEqual((status, tries), (ended_as, [task["status"] for task in tasks]))
        return tasks


class Common(Suite):
    """Both dialects."""

    # Poll

    def test_a_poll_that_finds_nothing_is_204_within_a_second(self) -> None:
        self.poll()
        began = time.monotonic()
        reply = self.call("GET", self.dialect.poll_path(self.agent_id, "w", None))
        self.assertEqual((204, b""), (reply.status, reply.body))
        self.assertLess(time.monotonic() - began, 1.0)

    def test_a_task_carries_what_a_worker_reads(self) -> None:
        before_ms = time.time() * 1000 - 1000
        execution_id = self.start(given={"n": 1, "deep": {"x": [1, None, "é"]}}, retries=2, response_timeout_s=30)
        task = self.take("worker-1")
        self.assertEqual(
            {
                "workflowInstanceId": execution_id,
                "taskType": self.agent_id,
                "taskDefName": self.agent_id,
                "status": "IN_PROGRESS",
                "retryCount": 0,
                "pollCount": 1,
                "responseTimeoutSeconds": 30,
                "workerId": "worker-1",
                "iteration": 0,
                "outputData": {},
                "callbackAfterSeconds": 0,
            },
            {key: task[key] for key in task if key in wire_fields()},
        )
        given = {key: value for key, value in task["inputData"].items() if not key.startswith("__")}
        self.assertEqual({"n": 1, "deep": {"x": [1, None, "é"]}}, given)
        self.assertFalse(task.get("retriedTaskId"))
        self.assertTrue(task["taskId"] and task["referenceTaskName"])
        definition = task["workflowTask"]["taskDefinition"]
        self.assertEqual((2, 30), (definition["retryCount"], definition["responseTimeoutSeconds"]))
        for moment in ("scheduledTime", "startTime", "updateTime"):
            self.assertGreater(task[moment], before_ms, moment)

    def test_what_was_polled_parses_as_our_task(self) -> None:
        execution_id = self.start(given={"n": 5})
        task = wire.Task(self.take())
        self.assertEqual((execution_id, {"n": 5}, 1), (task.workflow_instance_id, task.input_data, task.attempt))

    def test_a_task_is_handed_out_once(self) -> None:
        self.start()
        self.take("first")
        self.assertEqual([None, None], [self.poll("second"), self.poll("third")])

    def test_tasks_are_handed_out_to_their_own_agent_only(self) -> None:
        self.start()
        mine, self.agent_id = self.agent_id, f"{uuid.uuid4()}#user-agent"
        self.assertIsNone(self.poll())
        self.agent_id = mine
        self.take()

    def test_a_poll_sees_the_tasks_of_its_domain_and_no_others(self) -> None:
        self.start(domain="red")
        self.assertEqual([None, None], [self.poll(), self.poll(domain="blue")])
        self.assertEqual("red", self.take(domain="red")["domain"])
        self.start()
        self.assertIsNone(self.poll(domain="red"))
        self.assertFalse(self.take().get("domain"))

    def test_an_encoded_slash_in_a_path_is_a_400_with_a_page(self) -> None:
        reply = self.call("GET", self.dialect.poll + "a%2Fb?workerid=w")
        self.assertEqual((400, "text/html"), (reply.status, reply.media_type))

    # Report: how a task ends

    def test_a_completed_task_ends_the_execution_with_its_output(self) -> None:
        execution_id = self.start()
        task = self.take()
        self.assert_applied(self.report(task, "COMPLETED", outputData={"sum": 3, "é": None}), task)
        (ended,) = self.assert_ends(execution_id, "COMPLETED", ["COMPLETED"])
        self.assertEqual({"sum": 3, "é": None}, ended["outputData"])

    def test_a_failed_task_is_retried_under_a_new_id_until_the_definitions_count(self) -> None:
        execution_id = self.start(retries=1, given={"n": 7})
        first = self.take()
        self.assert_applied(self.report(first, "FAILED", reasonForIncompletion="no paper"), first)
        second = self.take()
        self.assertNotEqual(first["taskId"], second["taskId"])
        self.assertEqual(
            (first["taskId"], execution_id, 1, 1, first["inputData"], {}),
            tuple(
                second[key]
                for key in ("retriedTaskId", "workflowInstanceId", "retryCount", "pollCount", "inputData", "outputData")
            ),
        )
        self.report(second, "FAILED", reasonForIncompletion="still none")
        tasks = self.assert_ends(execution_id, "FAILED", ["FAILED", "FAILED"])
        self.assertEqual(["no paper", "still none"], [task["reasonForIncompletion"] for task in tasks])

    def test_a_retry_waits_for_the_definitions_delay(self) -> None:
        self.start(retries=1, retry_delay_s=2)
        failed = self.take()
        self.report(failed, "FAILED")
        self.assertIsNone(self.poll())
        self.platform.pass_time(2)
        self.assertEqual(failed["taskId"], self.take()["retriedTaskId"])

    def test_a_terminal_error_is_never_retried(self) -> None:
        execution_id = self.start(retries=3)
        self.report(self.take(), "FAILED_WITH_TERMINAL_ERROR", outputData={"a": 1}, reasonForIncompletion="hopeless")
        (task,) = self.assert_ends(execution_id, "FAILED", ["FAILED_WITH_TERMINAL_ERROR"])
        self.assertEqual(({"a": 1}, "hopeless"), (task["outputData"], task["reasonForIncompletion"]))

    def test_a_cancelled_task_terminates_the_execution_without_a_retry(self) -> None:
        execution_id = self.start(retries=3)
        self.report(self.take(), "CANCELED")
        self.assert_ends(execution_id, "TERMINATED", ["CANCELED"])

    def test_a_report_for_a_task_that_ended_is_a_200_and_ignored(self) -> None:
        execution_id = self.start(retries=3)
        task = self.take()
        self.report(task, "COMPLETED", outputData={"won": 1})
        self.assert_applied(self.report(task, "COMPLETED", outputData={"won": 2}), task)
        self.assert_applied(self.report(task, "FAILED"), task)
        self.assert_applied(self.report(task, "IN_PROGRESS", callbackAfterSeconds=0), task)
        self.assert_applied(self.report(task, "IN_PROGRESS", extendLease=True), task)
        self.assertIsNone(self.poll())
        (ended,) = self.assert_ends(execution_id, "COMPLETED", ["COMPLETED"])
        self.assertEqual({"won": 1}, ended["outputData"])

    def test_nobody_checks_who_reports(self) -> None:
        execution_id = self.start()
        self.report(self.take("owner"), "COMPLETED", workerId="stranger", outputData={"by": "stranger"})
        (task,) = self.assert_ends(execution_id, "COMPLETED", ["COMPLETED"])
        self.assertEqual(("stranger", {"by": "stranger"}), (task["workerId"], task["outputData"]))

    def test_a_task_can_be_completed_before_any_poll(self) -> None:
        execution_id = self.start()
        task = {"taskId": self.state(execution_id)[1][0]["taskId"], "workflowInstanceId": execution_id}
        self.assert_applied(self.report(task, "COMPLETED"), task)
        self.assert_ends(execution_id, "COMPLETED", ["COMPLETED"])
        self.assertIsNone(self.poll())

    def test_the_reason_is_cut_at_500_characters(self) -> None:
        execution_id = self.start()
        self.report(self.take(), "FAILED", reasonForIncompletion="é" * 600)
        (task,) = self.assert_ends(execution_id, "FAILED", ["FAILED"])
        self.assertEqual("é" * 500, task["reasonForIncompletion"])

    def test_logs_are_kept_in_order_over_all_reports_of_a_task(self) -> None:
        self.start()
        task = self.take()
        lines = [{"log": f"line {n}", "taskId": task["taskId"], "createdTime": 1_700_000_000_000 + n} for n in range(5)]
        self.report(task, "IN_PROGRESS", callbackAfterSeconds=0, logs=lines[:2])
        self.report(self.take(), "COMPLETED", logs=lines[2:])
        expected = [line["log"] for line in lines]
        self.eventually(lambda: self.platform.logs(task["taskId"]) == expected, "the logs in order")

    # Report: what is refused, and what is changed in silence

    def assert_nothing_changed(self, execution_id: str) -> None:
        status, (task,) = self.state(execution_id)
        self.assertEqual(("RUNNING", "IN_PROGRESS"), (status, task["status"]))

    def test_an_unknown_status_is_a_500_that_is_final(self) -> None:
        execution_id = self.start()
        task = self.take()
        for status in ("NOPE", "SCHEDULED", "TIMED_OUT"):
            self.assert_refused(self.report(task, status), 500)
        self.assert_refused(self.report(task, None), 500)  # type: ignore[arg-type]
        self.assert_nothing_changed(execution_id)

    def test_a_report_without_ids_is_a_400(self) -> None:
        execution_id = self.start()
        task = self.take()
        for missing in ("workflowInstanceId", "taskId"):
            for nothing in (None, ""):
                self.assert_refused(self.report({**task, missing: nothing}, "COMPLETED"), 400)
        self.assert_nothing_changed(execution_id)

    def test_an_unknown_id_is_a_404_that_names_it(self) -> None:
        task = {"taskId": str(uuid.uuid4()), "workflowInstanceId": self.start()}
        reply = self.report(task, "COMPLETED")
        self.assert_refused(reply, 404)
        self.assertIn(task["taskId"], reply.json()["message"])
        known = self.take()
        stranger = {"taskId": known["taskId"], "workflowInstanceId": str(uuid.uuid4())}
        reply = self.report(stranger, "COMPLETED")
        self.assert_refused(reply, 404)
        self.assertIn(stranger["workflowInstanceId"], reply.json()["message"])

    def test_nonsense_in_the_json_is_a_500_that_is_final(self) -> None:
        execution_id = self.start()
        task = self.take()
        for output in (
            '{"a":NaN}',
            '{"a":-Infinity}',
            f'{{"a":{nested(1001)}}}',
            f'{{"a":{"1" * 1001}}}',
            "[1]",
            '{"a"',
        ):
            self.assert_refused(self.report_raw(task, output), 500)
        self.assert_refused(self.call("POST", self.dialect.report, b"[]"), 500)
        self.assert_refused(self.call("POST", self.dialect.report, b""), 500)
        self.assert_nothing_changed(execution_id)

    def test_a_nesting_of_900_and_a_number_of_1000_digits_are_taken(self) -> None:
        execution_id = self.start()
        task = self.take()
        self.assert_applied(self.report_raw(task, f'{{"a":{nested(900)},"b":{"1" * 1000}}}'), task)
        self.assert_ends(execution_id, "COMPLETED", ["COMPLETED"])

    def test_a_report_that_does_not_say_it_is_json_is_a_500_that_is_final(self) -> None:
        execution_id = self.start()
        task = self.take()
        body = json.dumps({**task, "status": "COMPLETED"}).encode()
        reply = self.call("POST", self.dialect.report, body, **{"Content-Type": "text/plain"})
        self.assert_refused(reply, 500)
        self.assert_nothing_changed(execution_id)

    def test_fields_that_nobody_knows_are_ignored_and_null_is_absence(self) -> None:
        execution_id = self.start()
        task = self.take()
        nulls = {"outputData": None, "logs": None, "callbackAfterSeconds": None, "reasonForIncompletion": None}
        self.assert_applied(self.report(task, "COMPLETED", unheardOf={"a": [1]}, **nulls), task)
        self.assert_ends(execution_id, "COMPLETED", ["COMPLETED"])

    def test_a_lone_surrogate_and_a_number_too_large_are_changed_in_silence(self) -> None:
        execution_id = self.start()
        task = self.take()
        output = r'{"a":"x\ud800y","b":1e400,"c":-1e400,"d":"\ud83d\ude00","e":12345678901234567890123}'
        self.assert_applied(self.report_raw(task, output), task)
        (ended,) = self.assert_ends(execution_id, "COMPLETED", ["COMPLETED"])
        expected = {"a": "x?y", "b": "Infinity", "c": "-Infinity", "d": "\U0001f600", "e": 12345678901234567890123}
        self.assertEqual(expected, ended["outputData"])

    def test_an_output_over_10_mb_is_a_200_and_fails_the_task_for_good(self) -> None:
        execution_id = self.start(retries=3)
        task = self.take()
        self.assert_applied(self.report(task, "COMPLETED", outputData={"a": "x" * (10 * 1024 * 1024)}), task)
        (ended,) = self.assert_ends(execution_id, "FAILED", ["FAILED_WITH_TERMINAL_ERROR"])
        self.assertEqual({}, ended["outputData"])
        self.assertIn("10485760 bytes", ended["reasonForIncompletion"])

    # Report: leases, and tasks that are put back

    def test_a_task_not_reported_in_time_is_retried_and_its_late_result_ignored(self) -> None:
        execution_id = self.start(retries=1, response_timeout_s=2)
        first = self.take()
        self.assertIsNone(self.poll())
        self.platform.pass_time(2)
        second = self.take()
        self.assertEqual((first["taskId"], 1), (second["retriedTaskId"], second["retryCount"]))
        self.assert_applied(self.report(first, "COMPLETED", outputData={"late": True}), first)
        self.report(second, "COMPLETED", outputData={"late": False})
        tasks = self.assert_ends(execution_id, "COMPLETED", ["TIMED_OUT", "COMPLETED"])
        self.assertEqual([{}, {"late": False}], [task["outputData"] for task in tasks])

    def test_extend_lease_restarts_the_response_timeout_and_stores_nothing(self) -> None:
        execution_id = self.start(retries=1, response_timeout_s=2)
        task = self.take()
        for _ in range(6):  # three times as long as the lease
            self.platform.pass_time(1)
            self.assert_applied(self.report(task, "IN_PROGRESS", extendLease=True, outputData={"ignored": 1}), task)
        self.assertIsNone(self.poll())
        status, (running,) = self.state(execution_id)
        self.assertEqual(("RUNNING", "IN_PROGRESS", {}), (status, running["status"], running["outputData"]))
        self.report(task, "COMPLETED")
        self.assert_ends(execution_id, "COMPLETED", ["COMPLETED"])

    def test_in_progress_stores_the_output_and_is_polled_again_when_it_asked_to_be(self) -> None:
        execution_id = self.start(response_timeout_s=60)
        task = self.take("first")
        self.assert_applied(self.report(task, "IN_PROGRESS", callbackAfterSeconds=2, outputData={"page": 4}), task)
        self.assertEqual("SCHEDULED", self.state(execution_id)[1][0]["status"])
        self.assertIsNone(self.poll())
        self.platform.pass_time(2)
        again = self.take("second")
        self.assertEqual(
            (task["taskId"], 2, 0, {"page": 4}, "second"),
            tuple(again[key] for key in ("taskId", "pollCount", "retryCount", "outputData", "workerId")),
        )

    def test_a_task_handed_back_is_there_for_the_next_poll(self) -> None:
        self.start(response_timeout_s=60)
        task = self.take("first")
        self.report(task, "IN_PROGRESS", callbackAfterSeconds=0)
        again = self.take("second")
        self.assertEqual((task["taskId"], 2, 0), (again["taskId"], again["pollCount"], again["retryCount"]))

    def test_a_hand_back_sent_twice_gives_the_task_to_a_third_worker(self) -> None:
        self.start(response_timeout_s=60)
        task = self.take("first")
        self.report(task, "IN_PROGRESS", callbackAfterSeconds=0)
        self.take("second")
        self.report(task, "IN_PROGRESS", callbackAfterSeconds=0)
        third = self.take("third")
        self.assertEqual((task["taskId"], 3, "third"), (third["taskId"], third["pollCount"], third["workerId"]))

    def test_a_task_that_waits_in_the_queue_does_not_time_out(self) -> None:
        execution_id = self.start(retries=3, response_timeout_s=1)
        task = self.take()
        self.report(task, "IN_PROGRESS", callbackAfterSeconds=0)
        self.platform.pass_time(2)
        self.assertEqual(["SCHEDULED"], [tried["status"] for tried in self.state(execution_id)[1]])
        self.assertEqual(task["taskId"], self.take()["taskId"])


def wire_fields() -> set[str]:
    """The fields that the suite compares as a whole; a real server has about 45."""
    return {
        "workflowInstanceId", "taskType", "taskDefName", "status", "retryCount", "pollCount", "responseTimeoutSeconds",
        "workerId", "iteration", "outputData", "callbackAfterSeconds",
    }  # fmt: skip


class ConductorOnly(Suite):
    """Long polls, the report that brings the next task, and how a missing route is worded."""

    dialect = paths.CONDUCTOR

    def batch(self, **query: object) -> Reply:
        path = f"{self.dialect.batch_poll}{paths.segment(self.agent_id)}?{urlencode({'workerid': 'w', **query})}"
        return self.call("GET", path)

    def report_and_poll(self, task: Mapping[str, Any], status: str, **fields: Any) -> dict[str, Any] | None:
        reply = self.send(str(self.dialect.report_and_poll), task, status, workerId="w", **fields)
        self.assertIn(reply.status, (200, 204), reply.body)
        return reply.json() if reply.status == 200 else None

    def test_a_long_poll_that_finds_nothing_waits_and_is_an_empty_list(self) -> None:
        self.batch(count=1, timeout=10)
        began = time.monotonic()
        reply = self.batch(count=1, timeout=300)
        self.assertEqual((200, []), (reply.status, reply.json()))
        self.assertGreater(time.monotonic() - began, 0.25)

    def test_a_long_poll_gets_the_task_that_comes_while_it_waits(self) -> None:
        self.platform.start(self.agent_id, {"n": 0})  # the definition is there from now on
        self.take()
        replies: list[Reply] = []
        thread = threading.Thread(target=lambda: replies.append(self.batch(count=1, timeout=5000)))
        began = time.monotonic()
        thread.start()
        execution_id = self.start()
        thread.join(PATIENCE_S)
        self.assertLess(time.monotonic() - began, 4.5)
        self.assertEqual([execution_id], [task["workflowInstanceId"] for task in replies[0].json()])

    def test_a_long_poll_for_several_sits_on_what_it_has_until_its_time_is_up(self) -> None:
        self.start()
        timeout_ms = 500
        began = time.monotonic()
        found = self.batch(count=5, timeout=timeout_ms).json()
        self.assertGreater(time.monotonic() - began, timeout_ms / 1000 * 0.9)
        self.assertLessEqual(len(found), 1)

    def test_a_long_poll_brings_as_many_as_it_asks_for(self) -> None:
        started = {self.start() for _ in range(3)}
        taken: set[str] = set()

        def all_came() -> bool:
            taken.update(self.batch_ids(2))
            return taken == started

        self.eventually(all_came, "all three")

    def batch_ids(self, count: int) -> list[str]:
        tasks = self.batch(count=count, timeout=100).json()
        self.assertLessEqual(len(tasks), count)
        return [task["workflowInstanceId"] for task in tasks]

    def test_a_long_poll_may_ask_for_5_seconds_at_most(self) -> None:
        self.assert_refused(self.batch(count=1, timeout=wire.LONG_POLL_MAX_MS + 1), 400)

    def test_a_long_poll_for_none_or_for_no_time_is_answered_at_once(self) -> None:
        self.assertEqual([], self.batch(count=0, timeout=5000).json())
        self.assertEqual([], self.batch(count=1, timeout=0).json())

    def next_of(self, task: dict[str, Any], status: str, **options: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """Start another and report ``task``: that, and the task that came with the reply. A real server
        shows a task a moment after it was made: then the same is tried with the new one."""
        pairs: list[tuple[dict[str, Any], dict[str, Any]]] = []
        current = [task]

        def brought() -> bool:
            self.start(**options)
            following = self.report_and_poll(current[0], status)
            if following:
                pairs.append((current[0], following))
            else:
                current[0] = self.take(domain=options.get("domain"))
            return bool(pairs)

        self.eventually(brought, "the next task comes with the reply")
        return pairs[0]

    def test_report_and_poll_ends_one_task_and_leases_the_next(self) -> None:
        self.start()
        task, following = self.next_of(self.take(), "COMPLETED")
        self.assert_ends(task["workflowInstanceId"], "COMPLETED", ["COMPLETED"])
        self.assertNotEqual(task["taskId"], following["taskId"])
        self.assertEqual(("IN_PROGRESS", "w", 1), tuple(following[key] for key in ("status", "workerId", "pollCount")))
        self.assertIsNone(self.poll("other"))
        self.assertIsNone(self.report_and_poll(following, "COMPLETED"))

    def test_report_and_poll_brings_the_next_after_a_failure_too(self) -> None:
        self.start()
        self.next_of(self.take(), "FAILED_WITH_TERMINAL_ERROR")

    def test_report_and_poll_keeps_to_the_tasks_domain(self) -> None:
        self.start(domain="red")
        self.start()
        _, following = self.next_of(self.take(domain="red"), "COMPLETED", domain="red")
        self.assertEqual("red", following["domain"])

    def test_report_and_poll_brings_the_retry_of_what_it_reports_as_failed(self) -> None:
        self.start(retries=1)
        failed = self.take()
        retry = self.report_and_poll(failed, "FAILED")
        assert retry is not None
        self.assertEqual((failed["taskId"], "IN_PROGRESS"), (retry["retriedTaskId"], retry["status"]))

    def test_a_repeated_report_and_poll_takes_one_more_task(self) -> None:
        self.start()
        task, first = self.next_of(self.take(), "COMPLETED")
        more: list[dict[str, Any]] = []

        def brought() -> bool:
            self.start()
            found = self.report_and_poll(task, "COMPLETED")
            more.extend([found] if found else [])
            return bool(more)

        self.eventually(brought, "another task comes with the reply")
        self.assertNotEqual(first["taskId"], more[0]["taskId"])

    def test_report_and_poll_brings_nothing_for_a_lease_or_a_hand_back(self) -> None:
        self.start()
        task = self.take()
        waiting = self.start()
        self.report(self.take(), "IN_PROGRESS", callbackAfterSeconds=0)
        self.assertIsNone(self.report_and_poll(task, "IN_PROGRESS", extendLease=True))
        self.assertIsNone(self.report_and_poll(task, "IN_PROGRESS", callbackAfterSeconds=0))
        self.assertEqual({waiting, task["workflowInstanceId"]}, {self.take()["workflowInstanceId"] for _ in range(2)})

    def test_a_route_that_is_missing_is_a_404_that_names_no_task(self) -> None:
        reply = self.call("GET", "/nowhere/at-all")
        self.assert_refused(reply, 404)
        self.assertIn("No static resource", reply.json()["message"])

    def test_report_and_poll_refuses_what_a_report_refuses(self) -> None:
        task = {"taskId": str(uuid.uuid4()), "workflowInstanceId": self.start()}
        reply = self.send(str(self.dialect.report_and_poll), task, "COMPLETED")
        self.assert_refused(reply, 404)
        self.assertIn(task["taskId"], reply.json()["message"])


class AkabotOnly(Suite):
    """Tokens."""

    dialect = paths.AKABOT
    _token = ""

    def headers(self) -> dict[str, str]:
        if not self._token:
            type(self)._token = self.token(*self.platform.client).json()["access_token"]
        return {**super().headers(), "Authorization": f"Bearer {self._token}"}

    def token(self, client_id: str, secret: str) -> Reply:
        form = urlencode({"grant_type": "client_credentials", "client_id": client_id, "client_secret": secret})
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        return exchange("POST", self.platform.auth_url, form.encode(), headers)

    def test_a_token_says_how_long_it_lives(self) -> None:
        reply = self.token(*self.platform.client)
        self.assertEqual((200, "application/json"), (reply.status, reply.media_type))
        self.assertEqual("Bearer", reply.json()["token_type"])
        self.assertGreater(reply.json()["expires_in"], 0)
        self.assertTrue(reply.json()["access_token"])

    def test_a_wrong_secret_and_an_unknown_client_are_told_apart(self) -> None:
        wrong = self.token(self.platform.client[0], "not the secret")
        self.assertEqual((401, "unauthorized_client"), (wrong.status, wrong.json()["error"]))
        unknown = self.token("nobody", self.platform.client[1])
        self.assertEqual((401, "invalid_client"), (unknown.status, unknown.json()["error"]))

    def test_without_a_valid_token_nothing_is_handed_out_and_nothing_applied(self) -> None:
        execution_id = self.start()
        poll = self.dialect.poll_path(self.agent_id, "w", None)
        for header in ("", "Bearer nonsense", "Basic dTpw"):
            reply = self.call("GET", poll, Authorization=header)
            self.assertEqual((401, "INVALID_TOKEN"), (reply.status, reply.json()["error"]))
        task = self.take()
        body = json.dumps({**task, "status": "COMPLETED"}).encode()
        self.assertEqual(401, self.call("POST", self.dialect.report, body, Authorization="Bearer nonsense").status)
        self.assertEqual("RUNNING", self.state(execution_id)[0])

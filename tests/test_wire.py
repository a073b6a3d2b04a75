# SPDX-License-Identifier: Apache-2.0
"""Every fact of the protocol, and that nothing which comes over the wire can surprise the worker."""

from __future__ import annotations

import json
import random
import sys
import unittest
from typing import Any
from unittest import mock

from user_agent_sdk.conductor import wire
from user_agent_sdk.conductor.paths import AKABOT, CONDUCTOR, DIALECTS, segment
from user_agent_sdk.conductor.wire import (
    ID_MAX_CHARS,
    LogLine,
    Task,
    TaskResult,
    TaskStatus,
    Verdict,
    classify,
    encode,
    parse_tasks,
)
from user_agent_sdk.errors import PlatformError

IDS = {"taskId": "t-1", "workflowInstanceId": "w-1"}
JSON = "application/json"


def parse(value: Any) -> list[Task]:
    return parse_tasks(json.dumps(value).encode())


class Paths(unittest.TestCase):
    def test_akabot(self) -> None:
        self.assertEqual(
            AKABOT.poll_path("00-11#user-agent", "my host", None),
            "/tasks/external/poll/00-11%23user-agent?workerid=my%20host",
        )
        self.assertEqual(AKABOT.report, "/tasks/external")
        self.assertIsNone(AKABOT.report_and_poll)
        self.assertIsNone(AKABOT.batch_poll)

    def test_conductor(self) -> None:
        self.assertEqual(CONDUCTOR.poll_path("a", "w", "d&e"), "/tasks/poll/a?workerid=w&domain=d%26e")
        self.assertEqual(CONDUCTOR.report, "/tasks")
        self.assertEqual(CONDUCTOR.report_and_poll, "/tasks/update-v2")
        self.assertEqual(
            CONDUCTOR.poll_path("a", "w", "d", 4000),
            "/tasks/poll/batch/a?workerid=w&domain=d&count=1&timeout=4000",
        )
        self.assertEqual(set(DIALECTS), {"akabot", "conductor"})

    def test_a_host_name_that_is_no_text_does_not_stop_the_polling(self) -> None:
        """A worker is named after its host unless told otherwise, and a host may be called anything."""
        self.assertEqual(AKABOT.poll_path("a", "host\udcff", None), "/tasks/external/poll/a?workerid=host%3F")

    def test_an_id_stays_one_segment(self) -> None:
        for given, expected in (
            ("a/b", "a%2Fb"),
            ("../../x", "..%2F..%2Fx"),
            ("%2e", "%252e"),
            ("?x=1#y", "%3Fx%3D1%23y"),
            ("a b", "a%20b"),
            ("a;b", "a%3Bb"),
            ("việc", "vi%E1%BB%87c"),
            ("...", "..."),
        ):
            self.assertEqual(segment(given), expected)

    def test_an_id_that_is_none_is_refused(self) -> None:
        for given in ("", ".", "..", "a\rb", "a\nb", "a\r\nX: y", "a\ud800"):
            with self.subTest(given), self.assertRaises(PlatformError) as caught:
                segment(given)
            self.assertEqual(caught.exception.code, "config-invalid")
            self.assertNotIn("\n", str(caught.exception))


class TheTask(unittest.TestCase):
    def test_its_fields_in_snake_case(self) -> None:
        task = Task(
            {
                **IDS,
                "taskType": "a",
                "taskDefName": "d",
                "referenceTaskName": "r",
                "retriedTaskId": "t-0",
                "retryCount": 2,
                "pollCount": 3,
                "responseTimeoutSeconds": 30,
                "inputData": {"x": 1, "__task_id__": "p", "__deployed_workflow_id__": "q", "__more__": 2, "__": 3,
                              "___": 4, "__x": 5, "_": 6},
                "outputData": {"y": 2},
                "scheduledTime": 17,
                "workflowTask": {"taskDefinition": {}},
            }
        )
        self.assertEqual((task.task_id, task.workflow_instance_id, task.task_type), ("t-1", "w-1", "a"))
        self.assertEqual((task.task_def_name, task.reference_task_name, task.retried_task_id), ("d", "r", "t-0"))
        self.assertEqual((task.retry_count, task.attempt, task.poll_count), (2, 3, 3))
        self.assertEqual((task.response_timeout_s, task.key), (30.0, "w-1/r"))
        self.assertEqual((task.input_data, task.output_data), ({"x": 1, "__x": 5, "_": 6}, {"y": 2}))
        self.assertEqual((task.platform_task_id, task.platform_agent_id), ("p", "q"))
        self.assertEqual((task.scheduled_time, task.workflow_task), (17, {"taskDefinition": {}}))
        self.assertFalse(hasattr(task, "something_that_no_platform_sends"))
        self.assertIsNone(task.correlation_id)
        self.assertRaises(AttributeError, getattr, task, "_private")

    def test_what_is_missing_or_null_is_tolerated(self) -> None:
        names = ("taskType", "taskDefName", "referenceTaskName", "retriedTaskId", "retryCount", "pollCount", "domain")
        for extra in ({}, dict.fromkeys((*names, "responseTimeoutSeconds", "inputData", "outputData"))):
            (task,) = parse({**IDS, **extra})
            self.assertIsNone(task.fault)
            self.assertEqual((task.input_data, task.output_data, task.retry_count, task.attempt), ({}, {}, 0, 1))
            self.assertIsNone(task.response_timeout_s)

    def test_the_key_is_the_same_over_all_tries(self) -> None:
        tries = [Task({**IDS, "taskId": name, "taskDefName": "d", "retryCount": 1}) for name in ("t-1", "t-2")]
        self.assertEqual({task.key for task in tries}, {"w-1/d"})

    def test_a_timeout_that_makes_no_sense_is_none(self) -> None:
        for given in ("x", -1, 0, True, 1e18, 10**400, float("nan"), None, [1]):
            self.assertIsNone(Task({**IDS, "responseTimeoutSeconds": given}).response_timeout_s)
        self.assertEqual(Task({**IDS, "responseTimeoutSeconds": 2.5}).response_timeout_s, 2.5)

    def test_its_repr_is_its_ids_not_its_data(self) -> None:
        text = repr(Task({**IDS, "inputData": {"iban": "canary"}}))
        self.assertEqual(text, "Task(task_id='t-1', workflow_instance_id='w-1')")


class Polls(unittest.TestCase):
    def test_nothing(self) -> None:
        for body in (b"", b"  \r\n", b"[]"):
            self.assertEqual(parse_tasks(body), [])

    def test_one_or_several(self) -> None:
        self.assertEqual([task.task_id for task in parse(IDS)], ["t-1"])
        self.assertEqual([task.task_id for task in parse([IDS, {**IDS, "taskId": "t-2"}])], ["t-1", "t-2"])

    def test_of_several_the_good_ones_are_not_stranded_by_a_bad_one(self) -> None:
        self.assertEqual([task.task_id for task in parse([{}, IDS, 5, None])], ["t-1"])

    def test_what_is_no_task_is_an_error_not_an_idle_poll(self) -> None:
        for body in (
            b"null",
            b"{}",
            b"0",
            b"false",
            b'""',
            b'"x"',
            b"[null]",
            b"[[]]",
            b"<html>",
            b"{",
            b"\xff\xfe\xff",
        ):
            with self.subTest(body), self.assertRaises(PlatformError):
                parse_tasks(body)

    def test_encodings_that_json_allows_are_read(self) -> None:
        text = json.dumps({**IDS, "inputData": {"x": "việc"}}, ensure_ascii=False)
        for encoding in ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32"):
            self.assertEqual(parse_tasks(text.encode(encoding))[0].input_data, {"x": "việc"})

    def test_an_id_that_can_not_be_one_is_no_id(self) -> None:
        for name in IDS:
            for value in (None, 5, True, [], {}, "", "a" * (ID_MAX_CHARS + 1), "a\nb", "a\x1b[2J", "\ud800", "a\0"):
                with self.subTest(name, value=str(value)[:20].encode("ascii", "replace")):
                    self.assertRaises(PlatformError, parse, {**IDS, name: value})

    def test_odd_ids_are_kept_as_they_are(self) -> None:
        for name in ("..", "../../x", "a/b", "%2e", "?x=1#", "việc 7", "a" * ID_MAX_CHARS, "'; DROP TABLE"):
            self.assertEqual(parse({**IDS, "taskId": name})[0].task_id, name)

    def test_an_input_that_is_no_object_fails_that_task(self) -> None:
        for given in ([], "x", 5, True):
            (task,) = parse({**IDS, "inputData": given})
            self.assertIn("inputData is not an object", str(task.fault))

    def test_json_that_can_not_be_read_fails_the_task_that_it_names(self) -> None:
        """Left unanswered it would come back, and break the poll, after every lease."""
        ids = b'{"taskId": "t-1", "workflowInstanceId" : "w-1", "inputData": {"x": '
        bodies = [ids + b"[" * 100_000 + b"]" * 100_000 + b"}}", ids, ids + b'"\xff"}}']
        if hasattr(sys, "set_int_max_str_digits"):
            bodies.append(ids + b"9" * 5000 + b"}}")
        for body in bodies:
            with self.subTest(body[60:90]):
                (task,) = parse_tasks(body)
                self.assertEqual((task.task_id, task.workflow_instance_id, task.input_data), ("t-1", "w-1", {}))
                self.assertIn("can't be read", str(task.fault))

    def test_what_can_not_be_read_and_names_two_tasks_is_nobodys(self) -> None:
        for body in (
            b'[{"taskId":"t-1","workflowInstanceId":"w-1"},{"taskId":"t-2","workflowInstanceId":"w-1"',
            b'{"taskId":"t-1"',
            b'{"taskId":"","workflowInstanceId":"w-1"',
            b'{"taskId":"\xff\x1b","workflowInstanceId":"w-1"',
            b'{"taskId":"' + b"a" * 300 + b'","workflowInstanceId":"w-1"',
        ):
            with self.subTest(body), self.assertRaises(PlatformError):
                parse_tasks(body)

    def test_numbers_and_keys_that_json_should_not_have_do_not_stop_the_worker(self) -> None:
        body = (
            b'{"taskId":"t-0","taskId":"t-1","workflowInstanceId":"w-1","inputData":{"a":NaN,"b":1e999,"c":"\\ud800"}}'
        )
        (task,) = parse_tasks(body)
        self.assertEqual((task.task_id, sorted(task.input_data), task.fault), ("t-1", ["a", "b", "c"], None))

    def test_a_thousand_odd_replies_are_a_task_or_one_error(self) -> None:
        rand = random.Random(38)
        odd: list[Any] = [
            None,
            True,
            -1,
            0,
            7,
            2**70,
            1e18,
            "",
            "x",
            "x" * 9999,
            "\n",
            "\ud800",
            [],
            [[]],
            {},
            {"a": 1},
        ]
        names = [
            *("taskId", "workflowInstanceId", "inputData", "outputData", "responseTimeoutSeconds", "retryCount"),
            *("pollCount", "taskType", "taskDefName", "referenceTaskName", "retriedTaskId", "domain", "unheard-of"),
        ]
        tasks = errors = 0
        for seed in range(1000):
            reply = {**IDS, **{rand.choice(names): rand.choice(odd) for _ in range(rand.randrange(1, 6))}}
            body = json.dumps(
                rand.choice([reply, reply, [reply], [reply, rand.choice(odd)], rand.choice(odd)])
            ).encode()
            if rand.random() < 0.2:
                body = body[: rand.randrange(len(body))]
            try:
                found = parse_tasks(body)
            except PlatformError as error:
                errors += 1
                self.assertNotIn("\n", str(error), seed)
                continue
            tasks += len(found)
            for task in found:
                self.assert_sound(task, seed)
        self.assertGreater(tasks, 200)
        self.assertGreater(errors, 200)

    def assert_sound(self, task: Task, seed: int) -> None:
        self.assertTrue(task.task_id and task.workflow_instance_id, seed)
        self.assertTrue(isinstance(task.input_data, dict) and isinstance(task.output_data, dict), seed)
        self.assertTrue(0 <= task.retry_count < 2**31 and 0 <= task.poll_count < 2**31, seed)
        self.assertTrue(task.response_timeout_s is None or 0 < task.response_timeout_s <= 10**8, seed)
        for name in (task.task_id, task.workflow_instance_id, task.task_type, task.retried_task_id, task.key):
            self.assertTrue(name is None or (name.isprintable() and len(name.encode("utf-8")) < 5000), seed)
        encode(TaskResult(task.task_id, task.workflow_instance_id, "FAILED").to_wire())


class Results(unittest.TestCase):
    def test_what_is_none_is_left_out(self) -> None:
        self.assertEqual(
            TaskResult("t-1", "w-1", output_data={"a": None}).to_wire(),
            {"taskId": "t-1", "workflowInstanceId": "w-1", "status": "COMPLETED", "outputData": {"a": None}},
        )

    def test_all_fields(self) -> None:
        result = TaskResult("t", "w", "IN_PROGRESS", {}, "why", 0, "me", [LogLine("hello", 17)], True)
        self.assertEqual(
            result.to_wire(),
            {
                "taskId": "t",
                "workflowInstanceId": "w",
                "status": "IN_PROGRESS",
                "outputData": {},
                "reasonForIncompletion": "why",
                "callbackAfterSeconds": 0,
                "workerId": "me",
                "extendLease": True,
                "logs": [{"log": "hello", "taskId": "t", "createdTime": 17}],
            },
        )

    def test_the_body_is_the_same_whether_its_output_is_encoded_already_or_not(self) -> None:
        for lines in ([], [LogLine('a "line"', 17)]):
            result = TaskResult("t", "w", output_data={"a": ["ü", None, {}]}, worker_id="me", logs=lines)
            body = result.to_json()
            self.assertEqual(json.loads(body), result.to_wire())
            result.encoded_output = encode(result.output_data)
            self.assertEqual(json.loads(result.to_json()), result.to_wire())
            self.assertEqual(len(result.to_json()), len(body))

    def test_a_status_that_the_server_does_not_know_is_refused_here(self) -> None:
        self.assertRaises(ValueError, TaskResult, status="DONE")
        self.assertIs(TaskResult(status="FAILED").status, TaskStatus.FAILED)
        self.assertEqual(str(TaskStatus.COMPLETED), "COMPLETED")

    def test_output_can_be_added_key_by_key(self) -> None:
        result = TaskResult()
        result.add_output_data("a", 1)
        result.add_output_data("b", 2)
        self.assertEqual(result.output_data, {"a": 1, "b": 2})

    def test_its_repr_is_not_its_data(self) -> None:
        self.assertNotIn(
            "canary", repr(TaskResult("t", output_data={"iban": "canary"}, reason_for_incompletion="canary"))
        )

    def test_json_is_compact_utf_8_without_nan(self) -> None:
        self.assertEqual(encode({"a": ["việc", 1]}), '{"a":["việc",1]}'.encode())
        for value in (float("nan"), float("inf")):
            self.assertRaises(ValueError, encode, {"a": value})


class DidNotArrive(unittest.TestCase):
    """Conductor keeps an input over 3 MB in a store of its own: the function ran on nothing, and COMPLETED."""

    def fault(self, **fields: Any) -> str | None:
        (task,) = parse_tasks(json.dumps({"taskId": "t", "workflowInstanceId": "w", **fields}).encode())
        return task.fault

    def test_a_task_whose_data_lie_elsewhere_is_not_run(self) -> None:
        given = self.fault(inputData={}, externalInputPayloadStoragePath="x.json") or ""
        self.assertIn("the input did not arrive", given)
        self.assertIn("pass its path or address", given)
        stored = self.fault(inputData={"a": 1}, outputData={}, externalOutputPayloadStoragePath="x.json") or ""
        self.assertIn("the output of its last run did not arrive", stored)

    def test_one_whose_data_are_there_or_that_never_had_any_is(self) -> None:
        self.assertIsNone(self.fault(inputData={"a": 1}, externalInputPayloadStoragePath="x.json"))
        self.assertIsNone(self.fault(inputData={}, outputData={}, externalInputPayloadStoragePath=None))


class MoreThanWasAskedFor(unittest.TestCase):
    """16 MB of a list took 40 s, and 330,000 tasks in one reply were handed back one by one: no stop for hours."""

    def test_of_a_list_without_end_the_work_is_bounded(self) -> None:
        looked: list[object] = []
        real = wire._checked
        with mock.patch.object(wire, "_checked", lambda item: looked.append(item) or real(item)):
            tasks = parse_tasks(
                b"[%s]" % b",".join(b'{"taskId":"t%d","workflowInstanceId":"w"}' % n for n in range(5000))
            )
            self.assertRaises(PlatformError, parse_tasks, b"[%s]" % b",".join([b"{}"] * 5000))
        self.assertEqual([task.task_id for task in tasks], [f"t{n}" for n in range(wire.TASKS_MAX)])
        self.assertEqual(len(looked), 2 * wire.TASKS_MAX)


class Verdicts(unittest.TestCase):
    def verdict(self, status: int, body: Any = b"", media_type: str = JSON) -> Verdict:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        verdict, reason = classify(status, media_type, data, ("task-7", "flow-7", ""))
        self.assertEqual(bool(reason), verdict is not Verdict.APPLIED)
        self.assertTrue(reason.isprintable() and len(reason) < 300, reason)
        return verdict

    def test_a_success_is_applied_whatever_it_says(self) -> None:
        for status in (200, 201, 202, 204):
            for body in (b"", b"task-7", b"another-id", b"null", {"retryable": False}):
                self.assertIs(self.verdict(status, body, "text/plain"), Verdict.APPLIED)

    def test_a_web_page_is_somebody_elses_answer(self) -> None:
        self.assertIs(self.verdict(200, b"<html>log in", "text/html"), Verdict.MAYBE)
        self.assertIs(self.verdict(200, b"\n<!DOCTYPE html>", ""), Verdict.MAYBE)

    def test_refused_for_good(self) -> None:
        for status, body in (
            (400, {"message": "no workflowInstanceId"}),
            (413, b"<html>too large"),
            (500, {"message": "JSON parse error", "retryable": False}),
            (404, {"message": "No such task found by id: task-7", "retryable": False}),
            (404, {"message": "No such workflow: flow-7"}),
        ):
            with self.subTest(status=status, body=body):
                self.assertIs(self.verdict(status, body), Verdict.REFUSED)

    def test_later(self) -> None:
        for status, body in (
            (400, b"<html>Tomcat"),
            (404, {"message": "No static resource api/tasks", "retryable": False}),
            (404, b"<html>nginx"),
            (405, {}),
            (408, b""),
            (409, {}),
            (429, {}),
            (500, b""),
            (500, {"message": "x", "retryable": True}),
            (500, {"message": "Request method 'POST' not supported", "retryable": False}),  # Conductor 3.13
            (500, {"message": "Request method 'POST' is not supported", "retryable": False}),
            (500, {"message": "No static resource api/tasks.", "retryable": False}),
            (404, {"status": 404, "error": "Not Found", "path": "/api/tasks"}),  # a Spring gateway
            (500, {"message": "x"}),
            (500, b"[" * 100_000),
            (502, b"<html>"),
            (503, {"retryable": False}),
            (504, b""),
            (302, b""),
            (101, b""),
        ):
            with self.subTest(status=status, body=body[:20] if isinstance(body, bytes) else body):
                self.assertIs(self.verdict(status, body), Verdict.LATER)

    def test_auth(self) -> None:
        for status in (401, 403):
            for body in ({"error": "EXPIRED_TOKEN"}, {"error": "INVALID_TOKEN"}, b"<html>", b""):
                self.assertIs(self.verdict(status, body), Verdict.AUTH)

    def test_the_reason_says_what_the_platform_said(self) -> None:
        self.assertEqual(classify(401, JSON, b'{"error":"EXPIRED_TOKEN"}')[1], "HTTP 401: EXPIRED_TOKEN")
        self.assertIn("redirects are not followed", classify(302, "", b"")[1])

    def test_the_reason_of_a_refused_definition_says_what_is_wrong_with_it(self) -> None:
        """Conductor says so in a list beside its message; "Validation failed, check below errors" was all one saw."""
        message = "Validation failed, check below errors for detail."
        known = [{"path": "a", "message": text} for text in ("d is too low", "retryCount: 15 must be <= 10", "b", "c")]
        for errors, said in (
            (known[1:2], " retryCount: 15 must be <= 10"),
            (known, " b; c; d is too low"),  # of a set: in one order, or each time it were a new reason
            ([None, "x", {"path": "a"}, {"message": 1}, {"message": {}}, known[2]], " b"),
            ([], ""),
            ("abc", ""),
            ({"message": "b"}, ""),
            (None, ""),
            (7, ""),
        ):
            with self.subTest(errors):
                body = encode({"status": 400, "message": message, "validationErrors": errors})
                self.assertEqual(classify(400, JSON, body), (Verdict.REFUSED, f"HTTP 400: {message}{said}"))
        body = encode({"validationErrors": known[1:2]})
        self.assertEqual(classify(400, JSON, body)[1], "HTTP 400: retryCount: 15 must be <= 10")


if __name__ == "__main__":
    unittest.main()

# SPDX-License-Identifier: Apache-2.0
"""The real platform does what the tests of the package lean on: shown with raw HTTP, with none of our code."""

from __future__ import annotations

import hashlib
import hmac
import http.client
import json
import time
import urllib.parse
import urllib.request
import uuid
from typing import Any

from . import RealTestCase
from .faults import Faults
from .stack import LIFESPANS_S, STRANGER, wait_until
from .tokens import decode, encode


class Client:
    """A worker's HTTP by hand: one persistent connection to the gateway."""

    def __init__(self, port: int, token: str | None) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        self.token = token

    def call(self, method: str, path: str, body: object = None) -> tuple[int, bytes, http.client.HTTPMessage]:
        headers = {"Content-Type": "application/json"}
        if self.token is not None:
            headers["Authorization"] = f"Bearer {self.token}"
        try:
            self.connection.request(method, path, None if body is None else json.dumps(body), headers)
            reply = self.connection.getresponse()
            return reply.status, reply.read(), reply.headers
        except (OSError, http.client.HTTPException):
            self.connection.close()
            raise

    def poll(self, agent_id: str) -> dict[str, Any]:
        found: list[dict[str, Any]] = []

        def polled() -> bool:
            status, body, _ = self.call("GET", poll_path(agent_id))
            if status == 200 and body:
                found.append(json.loads(body))
            return bool(found)

        if not wait_until(polled, 15):
            raise AssertionError(f"no task for {agent_id} within 15 s")
        return found[0]

    def report(self, task: dict[str, Any], status: str = "COMPLETED", **more: Any) -> int:
        ids = {"workflowInstanceId": task["workflowInstanceId"], "taskId": task["taskId"]}
        return self.call("POST", "/api/tasks/external", {**ids, "status": status, "outputData": {}, **more})[0]


def poll_path(agent_id: str) -> str:
    return f"/api/tasks/external/poll/{urllib.parse.quote(agent_id, safe='')}?workerid=tests"


class PlatformCase(RealTestCase):
    """One agent with a workflow of its own, and a client with a good token."""

    retry_count = 0
    response_timeout_s = 60

    def setUp(self) -> None:
        super().setUp()
        self.agent_id = f"{uuid.uuid4()}#user-agent"
        self.stack.register_task(
            self.agent_id, retry_count=self.retry_count, response_timeout_s=self.response_timeout_s
        )
        self.stack.register_workflow(self.agent_id, [self.agent_id], inputs=["a", "b"])
        self.client = self.client_with(self.stack.token())

    def client_with(self, token: str | None) -> Client:
        client = Client(self.stack.gateway.port, token)
        self.addCleanup(client.connection.close)
        return client

    def started(self) -> str:
        return self.stack.start_workflow(self.agent_id, {"a": 1, "b": 2})

    def taken(self) -> dict[str, Any]:
        self.started()
        return self.client.poll(self.agent_id)


class TheWayOfATask(PlatformCase):
    def test_a_workflow_completes_through_the_gateway_and_keeps_output_and_logs(self) -> None:
        workflow_id = self.started()
        task = self.client.poll(self.agent_id)
        self.assertEqual(task["inputData"], {"a": 1, "b": 2})
        self.assertEqual(task["taskType"], self.agent_id)
        logs = [{"log": text, "taskId": task["taskId"], "createdTime": 1} for text in ("first", "second")]
        self.assertEqual(self.client.report(task, outputData={"result": 3}, logs=logs), 200)
        workflow = self.stack.wait(workflow_id)
        self.assertEqual(workflow["status"], "COMPLETED")
        self.assertEqual(workflow["tasks"][0]["outputData"], {"result": 3})
        self.assertTrue(wait_until(lambda: self.stack.task_logs(task["taskId"]) == ["first", "second"], 10))
        polled, reported = self.stack.gateway.seen("poll")[-1], self.stack.gateway.seen("report")[-1]
        self.assertEqual((polled.task_id, reported.task_id), (task["taskId"], task["taskId"]))
        self.assertEqual((reported.status, reported.result, reported.fault), (200, "COMPLETED", None))

    def test_a_workflow_of_two_steps_hands_out_one_after_the_other(self) -> None:
        self.stack.register_workflow(self.agent_id, [self.agent_id, self.agent_id])
        workflow_id = self.started()
        for step in ("step_1", "step_2"):
            task = self.client.poll(self.agent_id)
            self.assertEqual(task["referenceTaskName"], step)
            self.client.report(task)
        self.assertEqual(self.stack.wait(workflow_id)["status"], "COMPLETED")

    def test_a_client_keeps_its_one_connection(self) -> None:
        before = self.stack.gateway.connections
        for _ in range(20):
            self.assertEqual(self.client.call("GET", "/nowhere")[0], 404)
        self.assertEqual(self.stack.gateway.connections - before, 1)

    def test_conductors_own_dialect_passes_the_gateway_without_a_token(self) -> None:
        client = self.client_with(None)
        workflow_id = self.started()
        path = f"/conductor/api/tasks/poll/batch/{urllib.parse.quote(self.agent_id, safe='')}"
        status, body, _ = client.call("GET", f"{path}?workerid=tests&count=1&timeout=5000")
        (task,) = json.loads(body)
        result = {"workflowInstanceId": workflow_id, "taskId": task["taskId"], "status": "COMPLETED", "outputData": {}}
        status, body, _ = client.call("POST", "/conductor/api/tasks/update-v2", result)
        self.assertEqual((status, body), (204, b""))
        self.assertEqual(self.stack.wait(workflow_id)["status"], "COMPLETED")
        self.assertEqual(self.stack.gateway.seen("poll")[-1].task_id, task["taskId"])
        self.assertEqual(self.stack.gateway.count("update-v2", status=204), 1)


class AShortLease(PlatformCase):
    retry_count = 1
    response_timeout_s = 2

    def test_a_task_that_nobody_reports_is_handed_out_again_soon_after_its_timeout(self) -> None:
        first = self.taken()
        second = self.client.poll(self.agent_id)
        lapsed_s = (second["scheduledTime"] - first["startTime"]) / 1000  # by Conductor's clock, whatever a poll took
        self.assertEqual(second["retriedTaskId"], first["taskId"])
        self.assertGreaterEqual(lapsed_s, self.response_timeout_s)
        self.assertLess(lapsed_s, self.response_timeout_s + 5)
        self.assertEqual(self.client.report(second), 200)


class Tokens(PlatformCase):
    def refusal(self, token: str | None) -> object:
        status, body, _ = self.client_with(token).call("GET", poll_path(self.agent_id))
        return json.loads(body)["error"] if status == 401 else status

    def test_a_token_is_good_for_its_lifespan_and_then_refused_as_expired(self) -> None:
        token = self.stack.token(client_id=self.stack.client_id(min(LIFESPANS_S)))
        self.assertEqual(self.refusal(token), 204)
        self.assertTrue(wait_until(lambda: self.refusal(token) == "EXPIRED_TOKEN", min(LIFESPANS_S) + 5))
        self.assertEqual(self.refusal(self.stack.token()), 204)

    def test_a_token_that_keycloak_did_not_make_for_this_service_is_refused(self) -> None:
        head, body, signature = self.stack.token().split(".")
        claims = json.loads(decode(body))
        longer = encode(json.dumps({**claims, "exp": claims["exp"] + 3600}).encode())
        unsigned = encode(json.dumps({"alg": "none"}).encode())
        symmetric = encode(json.dumps({**json.loads(decode(head)), "alg": "HS256"}).encode())
        public = json.dumps(self.stack.jwks()).encode()
        by_public_key = encode(hmac.new(public, f"{symmetric}.{body}".encode(), hashlib.sha256).digest())
        other_end = "A" if signature[0] != "A" else "B"
        for name, token in {
            "changed claims": f"{head}.{longer}.{signature}",
            "no algorithm": f"{unsigned}.{body}.",
            "the public key as a secret": f"{symmetric}.{body}.{by_public_key}",
            "another signature": f"{head}.{body}.{other_end}{signature[1:]}",
            "cut short": f"{head}.{body}",
            "not a token": "x",
            "a client this service does not know": self.stack.token(client_id=STRANGER),
            "none": None,
        }.items():
            with self.subTest(name):
                self.assertEqual(self.refusal(token), "INVALID_TOKEN")
        self.assertEqual(self.refusal(f"{head}.{body}.{signature}"), 204)

    def test_a_token_comes_through_the_gateway_too_until_its_server_is_away(self) -> None:
        credentials = self.stack.credentials(self.agent_id)
        form = urllib.parse.urlencode(
            {
                "grant_type": "client_credentials",
                "client_id": credentials["clientId"],
                "client_secret": credentials["clientSecret"],
            }
        ).encode()

        def token() -> Any:
            opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
            with opener.open(credentials["authUrl"], form, timeout=30) as reply:
                return json.loads(reply.read())["access_token"]

        self.assertEqual(self.refusal(token()), 204)
        self.stack.gateway.fault("away", route="token", count=None)
        for _ in range(2):
            with self.assertRaises(OSError):
                token()
        self.assertEqual(self.refusal(self.stack.token()), 204, "only the token route is away")
        self.stack.gateway.clear()
        self.assertEqual(self.refusal(token()), 204)
        self.assertEqual(self.stack.gateway.count("token", fault="away"), 2)


class FaultsOnOrder(PlatformCase):
    def status_of(self, task: dict[str, Any]) -> object:
        return self.stack.api("GET", f"/tasks/{task['taskId']}")["status"]

    def test_503_is_refused_before_conductor_hears_of_it(self) -> None:
        task = self.taken()
        self.stack.gateway.fault("503", route="report", retry_after="7")
        self.stack.gateway.fault("503", route="report")
        for expected in ("7", None):
            status, _, headers = self.client.call("POST", "/api/tasks/external", {"taskId": task["taskId"]})
            self.assertEqual((status, headers.get("Retry-After")), (503, expected))
        self.assertEqual(self.status_of(task), "IN_PROGRESS")
        self.assertEqual(self.client.report(task), 200)
        self.assertEqual(self.stack.gateway.count("report", fault="503"), 2)

    def test_401_is_refused_with_a_good_token(self) -> None:
        self.stack.gateway.fault("401", count=2)
        for expected in (401, 401, 204):
            self.assertEqual(self.client.call("GET", poll_path(self.agent_id))[0], expected)

    def test_reset_and_away_and_hang_do_nothing_upstream(self) -> None:
        task = self.taken()
        self.stack.gateway.fault("reset", route="report")
        with self.assertRaises(ConnectionResetError) as caught:
            self.client.report(task)
        self.assertNotIsInstance(caught.exception, http.client.RemoteDisconnected)
        self.stack.gateway.fault("away", route="report")
        with self.assertRaises(http.client.RemoteDisconnected):
            self.client.report(task)
        self.stack.gateway.fault("hang", route="report", hang_s=0.3)
        began_s = time.monotonic()
        with self.assertRaises(http.client.RemoteDisconnected):
            self.client.report(task)
        self.assertGreaterEqual(time.monotonic() - began_s, 0.3)
        self.assertEqual(self.status_of(task), "IN_PROGRESS")
        self.assertEqual([one.fault for one in self.stack.gateway.seen("report")], ["reset", "away", "hang"])

    def test_lost_reply_loses_the_reply_after_the_report_is_stored(self) -> None:
        task = self.taken()
        self.stack.gateway.fault("lost-reply", route="report")
        with self.assertRaises(ConnectionResetError):
            self.client.report(task)
        self.assertEqual(self.status_of(task), "COMPLETED")
        (seen,) = self.stack.gateway.seen("report")
        self.assertEqual((seen.status, seen.fault), (200, "lost-reply"))

    def test_half_a_reply_breaks_off_after_the_report_is_stored(self) -> None:
        task = self.taken()
        self.stack.gateway.fault("half-reply", route="report")
        with self.assertRaises(http.client.IncompleteRead):
            self.client.report(task)
        self.assertEqual(self.status_of(task), "COMPLETED")

    def test_a_lost_poll_has_taken_its_task(self) -> None:
        workflow_id = self.started()
        self.assertTrue(wait_until(lambda: self.stack.workflow(workflow_id)["tasks"], 10))
        self.stack.gateway.fault("lost-reply", route="poll")
        with self.assertRaises(ConnectionResetError):
            self.client.call("GET", poll_path(self.agent_id))
        self.assertEqual(self.stack.workflow(workflow_id)["tasks"][0]["status"], "IN_PROGRESS")

    def test_an_extension_is_a_route_of_its_own(self) -> None:
        task = self.taken()
        self.stack.gateway.fault("503", route="extend", skip=1)
        self.assertEqual(self.client.report(task, "IN_PROGRESS", extendLease=True), 200)
        self.assertEqual(self.client.report(task, "IN_PROGRESS", extendLease=True), 503)
        self.assertEqual(self.client.report(task), 200)
        self.assertEqual([one.status for one in self.stack.gateway.seen("extend")], [200, 503])

    def test_a_gateway_that_stops_is_gone_and_comes_back_on_its_port(self) -> None:
        task = self.taken()
        self.stack.gateway.stop()
        self.addCleanup(self.back)
        for _ in range(2):  # the open connection was cut, and no new one is taken
            with self.assertRaises(OSError):
                self.client.report(task)
        self.stack.gateway.start()
        self.assertEqual(self.client.report(task), 200)

    def back(self) -> None:
        if not self.stack.gateway.listening:
            self.stack.gateway.start()

    def test_a_plan_draws_the_same_faults_for_the_same_seed_at_its_rates(self) -> None:
        def drawn(seed: int) -> list[str | None]:
            faults = Faults()
            faults.plan(seed, {"503": 0.2, "reset": 0.1}, ["poll"])
            self.assertIsNone(faults.drawn("report"))
            return [fault.name if fault else None for fault in (faults.drawn("poll") for _ in range(1000))]

        self.assertEqual(drawn(1), drawn(1))
        self.assertNotEqual(drawn(1), drawn(2))
        self.assertTrue(150 < drawn(1).count("503") < 250 and 60 < drawn(1).count("reset") < 140)
        self.stack.gateway.plan(1, {"503": 1.0}, ["poll"])
        self.assertEqual(self.client.call("GET", poll_path(self.agent_id))[0], 503)

    def test_a_fault_that_does_not_exist_is_not_ordered(self) -> None:
        with self.assertRaises(ValueError):
            self.stack.gateway.fault("504")


class ARestart(PlatformCase):
    response_timeout_s = 600  # a boot can take longer than a usual lease

    def test_a_killed_conductor_comes_back_with_its_workflows_and_their_leases(self) -> None:
        finished, running = self.started(), self.started()
        for_later = self.client.poll(self.agent_id)
        if for_later["workflowInstanceId"] == finished:
            finished, running = running, finished
        self.client.report(self.client.poll(self.agent_id))
        self.stack.wait(finished)
        self.stack.stop_conductor(kill=True)
        self.assertEqual(self.client.report(for_later), 502)
        self.stack.start_conductor()
        self.assertEqual(self.stack.workflow(finished)["status"], "COMPLETED")
        self.assertEqual(self.stack.workflow(running)["status"], "RUNNING")
        self.assertEqual(self.client.report(for_later), 200)
        self.assertEqual(self.stack.wait(running)["status"], "COMPLETED")

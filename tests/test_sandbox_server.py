# SPDX-License-Identifier: Apache-2.0
"""The sandbox's server: who may talk to it, its tokens, its own API, and that it leaves nothing behind."""

from __future__ import annotations

import gc
import http.client
import json
import socket
import ssl
import threading
import time
import unittest
import warnings
from typing import Any
from unittest import mock
from urllib.parse import urlencode

from tests.support import Arrivals, executions
from user_agent_sdk.errors import NotFoundError, UserAgentError
from user_agent_sdk.sandbox import exchange
from user_agent_sdk.sandbox.exchange import Reply, Request
from user_agent_sdk.sandbox.server import Sandbox

Headers = dict[str, str]


class ServerCase(unittest.TestCase):
    def setUp(self) -> None:
        self.ahead_s = 0.0
        self.sandbox = self.open(Sandbox())
        self.sandbox.engine.clock = lambda: time.monotonic() + self.ahead_s
        self.connection = self.connect()

    def open(self, sandbox: Sandbox) -> Sandbox:
        sandbox.__enter__()
        self.addCleanup(sandbox.close)
        return sandbox

    def connect(self, sandbox: Sandbox | None = None) -> http.client.HTTPConnection:
        connection = http.client.HTTPConnection("127.0.0.1", (sandbox or self.sandbox).port, timeout=10)
        self.addCleanup(connection.close)
        return connection

    def call(self, method: str, path: str, body: Any = None, headers: Headers | None = None) -> tuple[int, Any]:
        """Over one connection, for the whole test."""
        content = body if isinstance(body, (bytes, type(None))) else json.dumps(body).encode()
        self.connection.request(method, path, content, {"Content-Type": "application/json", **(headers or {})})
        reply = self.connection.getresponse()
        answer = reply.read()
        return reply.status, json.loads(answer) if reply.getheader("Content-Type") == "application/json" else answer

    def raw(self, request: bytes) -> bytes:
        """All that comes back until the server hangs up."""
        with socket.create_connection(("127.0.0.1", self.sandbox.port), timeout=10) as connection:
            connection.sendall(request)
            with connection.makefile("rb") as stream:
                return stream.read()


class WhoMayTalk(ServerCase):
    def test_it_listens_on_loopback_only(self) -> None:
        self.assertEqual("127.0.0.1", self.sandbox._listener.getsockname()[0])

    def test_a_host_that_is_not_ours_is_refused(self) -> None:
        """A page of evil.example whose name was made to resolve to 127.0.0.1 would otherwise take tasks."""
        self.sandbox.submit("a", {})
        for host in ("evil.example", f"evil.example:{self.sandbox.port}", "127.0.0.1:1", ""):
            self.assertEqual(421, self.call("GET", "/api/tasks/poll/a", headers={"Host": host})[0], host)
        self.assertEqual(1, self.sandbox.engine.agents()[0]["queued"])
        self.assertEqual(
            200, self.call("GET", "/api/tasks/poll/a", headers={"Host": f"LOCALHOST:{self.sandbox.port}"})[0]
        )

    def test_on_port_80_a_host_needs_no_port(self) -> None:
        """Browsers and curl leave ":80" out: of "sandbox --port 80" they were shown a 421 for a page."""
        request = Request("GET", "/api/sandbox/agents", {}, {"host": "localhost"}, b"")
        self.assertEqual(421, getattr(self.sandbox.handle(request), "status", None))
        try:
            with Sandbox(80) as sandbox:
                self.assertEqual(200, getattr(sandbox.handle(request), "status", None))
        except UserAgentError as error:
            self.skipTest(error.message)

    def test_a_request_with_two_hosts_or_origins_is_refused(self) -> None:
        """The last one counted, and who stands between may go by the first."""
        ours = f"127.0.0.1:{self.sandbox.port}"
        for fields, status in (
            (f"Host: evil.example\r\nHost: {ours}", 421),
            (f"host: {ours}\r\nHOST: {ours}", 421),
            (f"Host: {ours}\r\nOrigin: https://evil.example\r\nOrigin: http://{ours}", 403),
            (f"Host: {ours}\r\nAccept: a\r\nAccept: b\r\nConnection: close", 200),
        ):
            got = self.raw(f"GET /api/tasks/poll/batch/a HTTP/1.1\r\n{fields}\r\nConnection: close\r\n\r\n".encode())
            self.assertIn(f" {status} ".encode(), got[:14], fields)

    def test_a_request_without_a_host_is_refused(self) -> None:
        self.assertIn(b" 421 ", self.raw(b"GET /api/tasks/poll/a HTTP/1.0\r\n\r\n"))

    def test_pages_of_other_sites_are_refused(self) -> None:
        self.sandbox.submit("a", {})
        for headers in ({"Origin": "https://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"},
                        {"Sec-Fetch-Site": "same-site"}):  # fmt: skip
            for path in ("/api/tasks/poll/a", "/api/sandbox/agents"):
                self.assertEqual(403, self.call("GET", path, headers=headers)[0], headers)
        own = {"Origin": self.sandbox.origin, "Sec-Fetch-Site": "same-origin"}
        self.assertEqual(200, self.call("GET", "/api/sandbox/agents", headers=own)[0])
        self.assertEqual(1, self.sandbox.engine.agents()[0]["queued"])

    def test_no_browser_takes_a_task(self) -> None:
        """A poll is a GET: an <img> of a page on another port of this machine took one, and so did the address bar."""
        self.sandbox.submit("a", {})
        for headers in ({"Sec-Fetch-Site": "none"}, {"Sec-Fetch-Site": "same-origin"}, {"User-Agent": "Mozilla/5.0"}):
            for path in ("/api/tasks/poll/a", "/api/tasks/poll/batch/a", "/api/tasks/external/poll/a"):
                self.assertEqual(403, self.call("GET", path, headers=headers)[0], headers)
        self.assertEqual(1, self.sandbox.engine.agents()[0]["queued"])
        self.assertEqual(200, self.call("GET", "/api/tasks/poll/a")[0])

    def test_it_outlives_a_time_without_threads(self) -> None:
        """The acceptor died of the first RuntimeError, and the sandbox with it, while its page said nothing."""
        start, refused = threading.Thread.start, Arrivals()

        def poor(thread: threading.Thread) -> None:
            if thread.name == "sandbox-connection" and refused.arrived() < 3:
                raise RuntimeError("can't start new thread")
            start(thread)

        with mock.patch.object(threading.Thread, "start", poor):
            for _ in range(2):
                self.assertEqual(b"", self.raw(b""))
            self.assertEqual(404, self.call("GET", "/nowhere")[0])


class Tokens(ServerCase):
    def token(self, **form: str) -> tuple[int, Any]:
        credentials = self.sandbox.credentials("a")
        fields = {"grant_type": "client_credentials", "client_id": credentials["clientId"],
                  "client_secret": credentials["clientSecret"], **form}  # fmt: skip
        path = credentials["authUrl"][len(self.sandbox.origin) :]
        return self.call("POST", path, urlencode(fields).encode(),
                         {"Content-Type": "application/x-www-form-urlencoded"})  # fmt: skip

    def poll(self, token: str) -> tuple[int, Any]:
        return self.call("GET", "/api/tasks/external/poll/a", headers={"Authorization": f"Bearer {token}"})

    def test_an_expired_token_is_told_from_one_that_never_was(self) -> None:
        status, grant = self.token()
        self.assertEqual((200, 300, "Bearer"), (status, grant["expires_in"], grant["token_type"]))
        self.assertEqual(204, self.poll(grant["access_token"])[0])
        self.ahead_s = 300
        self.assertEqual((401, {"error": "EXPIRED_TOKEN"}), self.poll(grant["access_token"]))
        self.assertEqual((401, {"error": "INVALID_TOKEN"}), self.poll("made-up"))
        self.assertEqual(204, self.poll(self.token()[1]["access_token"])[0])

    def test_a_token_outlives_a_restart_with_the_same_secret_and_no_other(self) -> None:
        """A worker whose token was young asked for no other for 30 s, and said that its credentials must be mended."""
        token = self.token()[1]["access_token"]
        claim, _, seal = token.rpartition(".")
        for secret, status in ((self.sandbox._client_secret, 204), ("another", 401)):
            self.sandbox = self.open(Sandbox(client_secret=secret))
            self.connection = self.connect()
            self.assertEqual(status, self.poll(token)[0])
        for forged in (f"{claim}9.{seal}", f"{claim}.é", f".{seal}", seal, ""):
            self.assertEqual(401, self.poll(forged)[0], forged)

    def test_refusals_are_worded_as_keycloak_does(self) -> None:
        for form, expected in (({"client_secret": "é"}, (401, "unauthorized_client")),
                               ({"client_id": "nobody"}, (401, "invalid_client")),
                               ({"grant_type": "password"}, (400, "unsupported_grant_type"))):  # fmt: skip
            status, answer = self.token(**form)
            self.assertEqual(expected, (status, answer["error"]))

    def test_credentials_point_at_this_sandbox_and_no_other_opens_it(self) -> None:
        credentials = self.sandbox.credentials("me#user-agent")
        self.assertEqual({"clientId", "clientSecret", "agentId", "serviceUrl", "authUrl"}, set(credentials))
        self.assertEqual(("me#user-agent", self.sandbox.url), (credentials["agentId"], credentials["serviceUrl"]))
        self.assertNotEqual(credentials["clientSecret"], self.open(Sandbox()).credentials("")["clientSecret"])

    def test_akabots_tasks_carry_the_platforms_keys(self) -> None:
        given = {"n": 1, "__task_id__": "of a replayed execution"}
        first, second = self.sandbox.submit("0-1#user-agent", {"n": 1}), self.sandbox.submit("0-1#user-agent", given)
        headers = {"Authorization": f"Bearer {self.token()[1]['access_token']}"}
        inputs = {}
        for _ in range(2):
            task = self.call("GET", "/api/tasks/external/poll/0-1%23user-agent", headers=headers)[1]
            inputs[task["workflowInstanceId"]] = task["inputData"]
        keys = {"__task_id__": first, "__deployed_workflow_id__": "0-1"}
        self.assertEqual({first: {"n": 1, **keys}, second: {**keys, **given}}, inputs)


class ItsOwnApi(ServerCase):
    def test_what_is_submitted_over_http_can_be_waited_for(self) -> None:
        policy = {"domain": "red", "retries": 0, "retryDelaySeconds": 1, "responseTimeoutSeconds": 7}
        status, answer = self.call("POST", "/api/sandbox/executions", {"agentId": "a", "input": {"n": 1}, **policy})
        self.assertEqual(201, status)
        task = self.call("GET", "/api/tasks/poll/a?domain=red&workerid=w")[1]
        self.assertEqual(({"n": 1}, 7), (task["inputData"], task["responseTimeoutSeconds"]))
        path = f"/api/sandbox/executions/{answer['id']}"
        status, running = self.call("GET", path)
        self.assertEqual((200, "RUNNING", "IN_PROGRESS"), (status, running["status"], running["attempts"][0]["status"]))
        self.assertTrue(6 < running["attempts"][0]["leaseLeftSeconds"] <= 7)
        ids = {"taskId": task["taskId"], "workflowInstanceId": task["workflowInstanceId"]}
        logs = [{"log": "hello", "createdTime": 5}]
        waited: list[Any] = []
        waiter = threading.Thread(target=lambda: waited.append(self.call("GET", path + "?wait_ms=10000")))
        waiter.start()
        self.sandbox.engine.update({**ids, "status": "COMPLETED", "outputData": {"sum": 3}, "logs": logs})
        waiter.join(10)
        ((status, ended),) = waited
        self.assertEqual((200, "COMPLETED", {"sum": 3}), (status, ended["status"], ended["output"]))
        self.assertEqual(logs, ended["attempts"][0]["logs"])

    def test_a_task_comes_to_the_only_domain_in_which_workers_poll_for_its_agent(self) -> None:
        """An agent with a domain never got a task of the page's form, nor of "submit" as "dev --sandbox" showed it."""
        engine = self.sandbox.engine
        for polled, named, domain in (
            ((), {}, None), (("far",), {}, "far"), ((), {"domain": None}, "far"), ((), {"domain": "near"}, "near"),
            (("near",), {}, None), ((), {"domain": "far"}, "far"),
        ):  # fmt: skip
            for one in polled:
                engine.poll("a", "here", one)
            engine.poll("another", "here", "elsewhere")
            self.assertEqual(201, self.call("POST", "/api/sandbox/executions", {"agentId": "a", **named})[0])
            self.assertEqual(domain, executions(self.sandbox.engine)[0].domain, (polled, named))

    def test_a_submission_that_makes_no_sense_is_a_400_that_says_why(self) -> None:
        nonsense: list[dict[str, Any]] = [
            {"input": {}},
            {"agentId": 5},
            {"agentId": "a", "input": [1]},
            {"agentId": "a", "domain": {}},
            {"agentId": "a", "retries": "many"},
            {"agentId": "a", "responseTimeoutSeconds": -1},
        ]
        for wrong in nonsense:
            status, answer = self.call("POST", "/api/sandbox/executions", wrong)
            self.assertEqual(400, status, wrong)
            self.assertTrue(answer["message"])
        self.assertEqual([], executions(self.sandbox.engine))

    def test_an_unknown_execution_is_a_404(self) -> None:
        status, answer = self.call("GET", "/api/sandbox/executions/nobody")
        self.assertEqual(404, status)
        self.assertIn("nobody", answer["message"])
        with self.assertRaises(NotFoundError):
            self.sandbox.wait("nobody", 0)

    def test_a_route_can_be_added_and_gets_its_last_segment_decoded(self) -> None:
        self.sandbox.route("GET", "/hello/*", lambda request, last: Reply.of([last, dict(request.query)]))
        self.sandbox.route("GET", "/", lambda request, last: Reply(200, b"<p>", "text/html; charset=utf-8"))
        self.assertEqual((200, ["a b#", {"x": "1"}]), self.call("GET", "/hello/a%20b%23?x=1"))
        self.assertEqual((200, b"<p>"), self.call("GET", "/"))
        for none in ("/hello", "/hello/", "/hello/a/b"):
            self.assertEqual(404, self.call("GET", none)[0])
        self.assertEqual(404, self.call("GET", "/elsewhere")[0])
        self.assertEqual(405, self.call("POST", "/hello/x", {})[0])


class Http(ServerCase):
    def request(self, *lines: str, body: bytes = b"") -> bytes:
        head = "\r\n".join([*lines, f"Host: 127.0.0.1:{self.sandbox.port}", "", ""])
        return self.raw(head.encode("latin-1") + body)

    def test_a_connection_serves_many_requests(self) -> None:
        for _ in range(3):
            self.assertEqual(404, self.call("GET", "/nowhere")[0])
        self.assertEqual(1, len(self.sandbox._connections))

    def test_requests_sent_in_one_go_are_answered_in_order(self) -> None:
        self.sandbox.route("GET", "/say/*", lambda _, last: Reply(200, last.encode(), "text/plain"))
        host = f"Host: 127.0.0.1:{self.sandbox.port}\r\n"
        got = self.raw(
            f"GET /say/one HTTP/1.1\r\n{host}\r\nGET /say/two HTTP/1.1\r\nConnection: Close\r\n{host}\r\n".encode()
        )
        self.assertEqual(2, got.count(b"HTTP/1.1 200 OK"))
        self.assertLess(got.index(b"one"), got.index(b"two"))

    def test_the_connection_of_an_older_client_is_closed_after_the_reply(self) -> None:
        self.assertIn(b"Connection: close", self.request("GET /nowhere HTTP/1.0"))

    def test_what_cannot_be_read_is_refused_and_the_connection_ended(self) -> None:
        for expected, lines in (
            (b" 400 ", ["nonsense"]),
            (b" 400 ", ["GET /\xe9 HTTP/1.1"]),
            (b" 501 ", ["HEAD / HTTP/1.1"]),
            (b" 400 ", ["GET / HTTP/1.1", "X: " + "a" * 70_000]),
            (b" 411 ", ["POST /api/tasks HTTP/1.1", "Transfer-Encoding: chunked"]),
            (b" 400 ", ["POST /api/tasks HTTP/1.1", "Content-Length: -1"]),
            (b" 400 ", ["POST /api/tasks HTTP/1.1", "Content-Length: 2", "Content-Length: 0"]),
            (b" 413 ", ["POST /api/tasks HTTP/1.1", f"Content-Length: {exchange.BODY_MAX_BYTES + 1}"]),
            (b" 413 ", ["POST /api/tasks HTTP/1.1", f"Content-Length: 1{'0' * 5000}"]),
        ):
            with self.subTest(lines=lines[-1][:40]):
                self.assertIn(expected, self.request(*lines).partition(b"\r\n")[0])

    def test_a_client_that_wants_tls_is_refused_at_once(self) -> None:
        """It waited until its timeout for the answer to its handshake, which is the beginning of no request."""
        began = time.monotonic()
        context = ssl.create_default_context()
        connection = socket.create_connection(("127.0.0.1", self.sandbox.port), timeout=10)
        with connection, self.assertRaises(ssl.SSLError):
            context.wrap_socket(connection, server_hostname="localhost")
        self.assertLess(time.monotonic() - began, 5)

    def test_a_client_that_waits_to_be_asked_for_its_body_is_asked(self) -> None:
        got = self.request("POST /api/tasks HTTP/1.1", "Content-Type: application/json", "Connection: close",
                           "Expect: 100-continue", "Content-Length: 2", body=b"{}")  # fmt: skip
        self.assertTrue(got.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 400 "))

    def test_a_client_that_leaves_in_the_middle_harms_nobody(self) -> None:
        host = f"Host: 127.0.0.1:{self.sandbox.port}".encode()
        for start in (b"GET /api", b"POST /api/tasks HTTP/1.1\r\n" + host + b"\r\nContent-Length: 50\r\n\r\n{"):
            with socket.create_connection(("127.0.0.1", self.sandbox.port)) as connection:
                connection.sendall(start)
        self.assertEqual(404, self.call("GET", "/nowhere")[0])

    def test_a_bug_in_a_handler_is_a_500_and_the_server_lives(self) -> None:
        def broken(_: Request, __: str) -> Reply:
            raise ZeroDivisionError

        self.sandbox.route("GET", "/broken", broken)
        with self.assertLogs("user_agent_sdk.sandbox", "ERROR") as logs:
            self.assertEqual(500, self.call("GET", "/broken")[0])
        self.assertEqual("sandbox_error", logs.records[0].__dict__["action"])
        self.assertEqual(404, self.call("GET", "/nowhere")[0])

    def test_a_test_can_answer_in_the_servers_place_or_hang_up(self) -> None:
        moods = [Reply.error(503, "not now"), None]

        class Moody(Sandbox):
            def handle(self, request: Request) -> Reply | None:
                return moods.pop(0) if moods else super().handle(request)

        self.connection = self.connect(self.open(Moody()))
        self.assertEqual(503, self.call("GET", "/nowhere")[0])
        with self.assertRaises(http.client.RemoteDisconnected):
            self.call("GET", "/nowhere")
        self.assertEqual(404, self.call("GET", "/nowhere")[0])


class Ending(unittest.TestCase):
    def test_close_ends_open_polls_and_idle_connections_and_leaves_no_thread(self) -> None:
        before = set(threading.enumerate())
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", ResourceWarning)
            with Sandbox() as sandbox:
                idle = http.client.HTTPConnection("127.0.0.1", sandbox.port)
                idle.request("GET", "/nowhere")
                idle.getresponse().read()
                polling = http.client.HTTPConnection("127.0.0.1", sandbox.port)
                polling.request("GET", "/api/tasks/poll/batch/a?count=1&timeout=5000")
                self.wait_for_poll(sandbox)
                began = time.monotonic()
            self.assertLess(time.monotonic() - began, 4)
            self.assertEqual(before, set(threading.enumerate()))
            sandbox.close()
            idle.close()
            polling.close()
            del sandbox
            gc.collect()
        self.assertEqual([], [str(warning.message) for warning in caught])

    def wait_for_poll(self, sandbox: Sandbox) -> None:
        deadline = time.monotonic() + 5
        while not sandbox.engine.agents():
            self.assertLess(time.monotonic(), deadline)
            threading.Event().wait(0.005)

    def test_its_port_can_be_taken_again_at_once(self) -> None:
        with Sandbox() as first:
            port = first.port
            connection = http.client.HTTPConnection("127.0.0.1", port)
            connection.request("GET", "/nowhere")
            connection.getresponse().read()
            self.addCleanup(connection.close)
        with Sandbox(port) as second:
            self.assertEqual(port, second.port)

    def test_a_port_that_is_taken_is_said_with_what_to_do(self) -> None:
        with Sandbox() as first, self.assertRaises(UserAgentError) as caught, Sandbox(first.port):
            pass
        self.assertEqual("io", caught.exception.code)
        self.assertIn(str(first.port), caught.exception.message)
        self.assertIn("--port", caught.exception.hints[0])

    def test_one_that_was_never_opened_can_be_closed(self) -> None:
        Sandbox().close()

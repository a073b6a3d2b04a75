# SPDX-License-Identifier: Apache-2.0
"""One attempt a call, over a real socket: what each answer, and each way of not answering, comes to."""

from __future__ import annotations

import gzip
import io
import json
import logging
import socket
import threading
import time
import traceback
import unittest
from typing import Any, Callable
from unittest import mock

from user_agent_sdk.conductor import client as rooms
from user_agent_sdk.conductor import connection as connection_rooms
from user_agent_sdk.conductor.auth import Fetched, TokenSource, client_credentials
from user_agent_sdk.conductor.client import Client, Outcome, PollError, retry_after_s
from user_agent_sdk.conductor.connection import Connection
from user_agent_sdk.conductor.paths import AKABOT, CONDUCTOR, Dialect
from user_agent_sdk.conductor.renewal import Secret
from user_agent_sdk.conductor.reply import Response
from user_agent_sdk.conductor.transport import Transport
from user_agent_sdk.conductor.wire import TaskResult, Verdict, encode
from user_agent_sdk.errors import ConfigError

from .support import FakeClock, Handler, Peer, Request, Server, answering, at_once

IDS = {"taskId": "t-1", "workflowInstanceId": "w-1"}
TASK = json.dumps({**IDS, "inputData": {"x": 1}}).encode()
REPORT = encode(TaskResult("t-1", "w-1").to_wire())
OF = ("t-1", "w-1")
TOKEN, SECRET = "canary-token-1", "canary-secret-2"


class ClientTest(unittest.TestCase):
    def serve(self, handler: Handler) -> Server:
        server = Server(handler)
        self.addCleanup(server.close)
        return server

    def client(self, server: Server, dialect: Dialect = AKABOT, auth: TokenSource | None = None) -> Client:
        transport = Transport()
        self.addCleanup(transport.close)
        return Client(transport, dialect, server.url + "/api", auth)

    def says(self, body: bytes, status: int = 200, head: str = "Content-Type: application/json") -> Server:
        return self.serve(answering(lambda request: (status, body, head)))

    def assert_poll_fails(self, server: Server) -> PollError:
        with self.assertRaises(PollError) as caught:
            self.client(server).send_poll("a", "w", None).fetch()
        self.assertTrue(str(caught.exception).isprintable(), str(caught.exception))
        self.assertLess(len(str(caught.exception)), 300)
        return caught.exception


class Reasons(ClientTest):
    def test_the_platforms_own_words_are_one_line_of_bounded_length(self) -> None:
        server = self.says(json.dumps({"message": "line one\n\tline two \x1b[2J" + "x" * 500_000}).encode(), 500)
        for reason in (self.client(server).report(REPORT, OF).reason, str(self.assert_poll_fails(server))):
            self.assertTrue(reason.startswith("HTTP 500: line one line two"), reason)
            self.assertTrue(reason.isprintable() and len(reason) <= 200, reason)


class Polls(ClientTest):
    def test_a_task(self) -> None:
        server = self.says(TASK)
        (task,) = self.client(server).send_poll("id#user-agent", "my host", "d").fetch()
        self.assertEqual((task.task_id, task.input_data), ("t-1", {"x": 1}))
        (request,) = server.requests
        path = "/api/tasks/external/poll/id%23user-agent?workerid=my%20host&domain=d"
        self.assertEqual((request.method, request.target), ("GET", path))
        self.assertNotIn("content-type", request.headers)

    def test_no_task(self) -> None:
        for status, body in ((204, b""), (200, b""), (200, b"[]")):
            self.assertEqual(self.client(self.says(body, status)).send_poll("a", "w", None).fetch(), [])

    def test_only_conductor_can_be_asked_to_wait(self) -> None:
        for dialect, wait_ms, path in (
            (AKABOT, 0, "/api/tasks/external/poll/a?workerid=w"),
            (CONDUCTOR, 5000, "/api/tasks/poll/batch/a?workerid=w&count=1&timeout=5000"),
        ):
            server = self.says(b"[]")
            client = self.client(server, dialect)
            client.send_poll("a", "w", None, wait_ms).fetch()
            self.assertEqual(server.requests[0].target, path)
            self.assertEqual(client.can_wait, dialect is CONDUCTOR)

    def test_its_deadline_is_what_the_server_may_hold_it_and_some_more(self) -> None:
        for dialect, wait_ms, expected_s in ((AKABOT, 0, 10.1), (CONDUCTOR, 5000, 15.0), (CONDUCTOR, 0, 10.1)):
            client = self.client(self.says(b"[]"), dialect)
            answer = mock.Mock(age_s=0.0, **{"fetch.return_value": Response(204, {}, b"")})
            with mock.patch.object(Transport, "send", return_value=answer) as send:
                client.send_poll("a", "w", None, wait_ms).fetch()
            self.assertEqual(send.call_args[1]["timeout_s"], expected_s)

    def test_an_answer_that_is_not_the_platforms_is_an_error_not_an_idle_poll(self) -> None:
        page = "Content-Type: text/html; charset=utf-8"
        for name, status, body, head in (
            ("a portal", 200, b"<html>log in", page),
            ("a portal without a type", 200, b"<!doctype html>", ""),
            ("null", 200, b"null", ""),
            ("not an object", 200, b'"t-1"', ""),
            ("truncated", 200, b'{"taskId": "t-', ""),
            ("without an id", 200, b'{"inputData": {}}', ""),
            ("a redirect", 302, b"", "Location: http://127.0.0.1:9/x"),
            ("somebody's 201", 201, TASK, ""),
            ("gone", 404, b"<html>", page),
            ("broken", 500, b'{"message": "line\\nbreak \\u001b[2J"}', ""),
            ("too large", 200, b"x" * 17_000_000, ""),
            ("a bomb", 200, gzip.compress(bytes(17_000_000)), "Content-Encoding: gzip"),
            ("not gzip", 200, b"abc", "Content-Encoding: gzip"),
        ):
            with self.subTest(name):
                self.assert_poll_fails(self.says(body, status, head))

    def test_of_a_reply_whose_length_nobody_told_only_a_whole_document_is_taken(self) -> None:
        """HTTP/1.0, closed early: what was cut at a bracket failed its task for good."""
        task = json.dumps({**IDS, "inputData": {"a": {"b": [1, {}]}, "c": [{}, {}]}}).encode()
        for body in (task, b"[" + task + b"]"):
            for kept in range(1, len(body)):

                def handle(peer: Peer, body: bytes = body[:kept]) -> None:
                    peer.request()
                    peer.send(b"HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n" + body)
                    peer.close()

                if body[kept - 1 : kept] in b"}]" or kept in (1, 9):
                    with self.subTest(kept=body[:kept]):
                        self.assertIn("cut off", str(self.assert_poll_fails(self.serve(handle))))
        whole = self.serve(lambda peer: (peer.request(), peer.send(b"HTTP/1.0 200 OK\r\n\r\n" + task), peer.close()))
        self.assertEqual([each.task_id for each in self.client(whole).send_poll("a", "w", None).fetch()], ["t-1"])

    def test_however_it_breaks_off_it_is_a_poll_error_and_is_not_repeated(self) -> None:
        """A poll that may have taken a task must not take a second one by itself."""
        whole = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(TASK), TASK)
        for end in (Peer.close, Peer.reset):
            for kept in (0, 5, 17, 40, len(whole) - 1):

                def handle(peer: Peer, kept: int = kept, end: Callable[[Peer], None] = end) -> None:
                    peer.request()
                    peer.send(whole[:kept])
                    end(peer)

                with self.subTest(kept=kept, end=end.__name__):
                    server = self.serve(handle)
                    self.assert_poll_fails(server)
                    self.assertEqual(len(server.requests), 1)

    def test_a_silent_server_ends_at_the_deadline(self) -> None:
        start = time.monotonic()
        with mock.patch.object(rooms, "POLL_SLACK_S", 0.05):
            self.assertIn("no answer in time", str(self.assert_poll_fails(self.serve(Peer.until_left))))
        self.assertLess(time.monotonic() - start, 1.2)

    def test_the_wish_of_a_busy_server_is_passed_on(self) -> None:
        for status in (429, 503):
            self.assertEqual(self.assert_poll_fails(self.says(b"", status, "Retry-After: 7")).retry_after_s, 7.0)
        self.assertIsNone(self.assert_poll_fails(self.says(b"", 503)).retry_after_s)

    def test_after_any_of_it_the_next_poll_works(self) -> None:
        def handle(peer: Peer) -> None:
            while (request := peer.request()) is not None and len(peer._server.requests) < 5:
                if len(peer._server.requests) == 1:
                    return peer.reset()
                if len(peer._server.requests) == 2:
                    return peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n{")
                if len(peer._server.requests) == 3:
                    peer.reply(b"<html>", 503)
                else:
                    peer.reply(TASK)
            return None if request is None else peer.reply(TASK)

        client = self.client(self.serve(handle))
        for _ in range(3):
            self.assertRaises(PollError, client.send_poll("a", "w", None).fetch)
        self.assertEqual([len(client.send_poll("a", "w", None).fetch()) for _ in range(2)], [1, 1])


class Reports(ClientTest):
    def test_it_is_posted_as_it_is(self) -> None:
        for dialect, path in ((AKABOT, "/api/tasks/external"), (CONDUCTOR, "/api/tasks")):
            server = self.says(b"t-1", head="Content-Type: text/plain")
            self.assertEqual(self.client(server, dialect).report(REPORT, OF), Outcome(Verdict.APPLIED, status=200))
            (request,) = server.requests
            self.assertEqual((request.method, request.target, request.body), ("POST", path, REPORT))
            self.assertEqual(request.headers["content-type"], "application/json")
            self.assertIn("text/plain", request.headers["accept"])

    def test_the_answer_is_classed_and_never_acted_on_here(self) -> None:
        for status, body, verdict in (
            (200, b"somebody else's id", Verdict.APPLIED),
            (204, b"", Verdict.APPLIED),
            (200, b"<html>log in", Verdict.MAYBE),
            (302, b"", Verdict.LATER),
            (400, b'{"message": "no"}', Verdict.REFUSED),
            (400, b"<html>", Verdict.LATER),
            (404, b'{"message": "No such task t-1"}', Verdict.REFUSED),
            (404, b'{"message": "No static resource"}', Verdict.LATER),
            (413, b"", Verdict.REFUSED),
            (500, b'{"retryable": false}', Verdict.REFUSED),
            (500, b"{}", Verdict.LATER),
            (503, b"", Verdict.LATER),
            (401, b"", Verdict.AUTH),
        ):
            with self.subTest(status=status, body=body):
                server = self.says(body, status)
                self.assertIs(self.client(server).report(REPORT, OF).verdict, verdict)
                self.assertEqual(len(server.requests), 1)

    def test_a_reply_that_was_lost_may_have_been_applied(self) -> None:
        for name, handler in (
            ("reset", lambda peer: (peer.request(), peer.reset())),
            ("closed", lambda peer: peer.request()),
            ("cut", lambda peer: (peer.request(), peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nt"))),
            ("garbage", lambda peer: (peer.request(), peer.send(b"\0\1\2\r\n\r\n"))),
        ):
            with self.subTest(name):
                server = self.serve(handler)
                self.assertIs(self.client(server).report(REPORT, OF).verdict, Verdict.MAYBE)
                self.assertEqual(len(server.requests), 1)
        client = self.client(self.serve(Peer.until_left))
        self.assertIs(client.report(REPORT, OF, timeout_s=0.05).verdict, Verdict.MAYBE)

    def test_what_never_left_was_not_applied(self) -> None:
        server = self.serve(Peer.close)
        client = self.client(server)
        server.close()
        self.assertIs(client.report(REPORT, OF).verdict, Verdict.LATER)
        client.base_url = "http://localhost:1/api"
        with mock.patch.object(socket, "getaddrinfo", side_effect=socket.gaierror(-3, "no network")):
            outcome = client.report(REPORT, OF)
            with self.assertRaises(PollError) as caught:
                client.send_poll("a", "w", None).fetch()
        self.assertIs(outcome.verdict, Verdict.LATER)
        for said in (outcome.reason, str(caught.exception)):  # in the log: what to do was left out
            self.assertIn("no network (check the host name and DNS)", said)

    def test_the_wish_of_a_busy_server_is_passed_on(self) -> None:
        outcome = self.client(self.says(b"", 503, "Retry-After: 3")).report(REPORT, OF)
        self.assertEqual((outcome.verdict, outcome.retry_after_s), (Verdict.LATER, 3.0))

    def test_an_extension_stores_nothing_else(self) -> None:
        server = self.says(b"t-1")
        self.assertIs(self.client(server).extend("t-1", "w-1", "me", 5.0).verdict, Verdict.APPLIED)
        self.assertEqual(
            json.loads(server.requests[0].body),
            {**IDS, "workerId": "me", "status": "IN_PROGRESS", "extendLease": True},
        )


class Age(ClientTest):
    """A laptop slept, or SIGSTOP came, during a long poll: the task that arrived meanwhile ran after its lease."""

    def tasks_after(self, slept_s: float, dialect: Dialect, response_timeout_s: int | None = 60) -> list[str]:
        body = json.dumps({**IDS, "responseTimeoutSeconds": response_timeout_s}).encode()
        client = self.client(self.says(body), dialect)
        with mock.patch.object(Connection, "age_s", slept_s):
            found = [client.send_poll("a", "w", None, 5000).fetch()]
            found.append(client.report_and_poll(REPORT, OF)[1])
        return [task.task_id for tasks in found for task in tasks]

    def test_a_task_whose_lease_is_over_when_it_reaches_us_is_not_taken(self) -> None:
        with self.assertLogs("user_agent_sdk.conductor.client", "WARNING") as said:
            self.assertEqual(self.tasks_after(60.0, CONDUCTOR), [])
        self.assertEqual(len(said.output), 2)
        self.assertIn("Task t-1 came up to 60 s ago, and its response timeout is 60 s", said.output[0])

    def test_one_whose_lease_is_not_over_or_has_no_end_is(self) -> None:
        self.assertEqual(self.tasks_after(59.0, CONDUCTOR), ["t-1", "t-1"])
        self.assertEqual(self.tasks_after(1e9, CONDUCTOR, None), ["t-1", "t-1"])

    def test_a_reply_that_was_long_on_its_way_is_as_old_as_its_poll(self) -> None:
        """The platform gives a task away before it answers. A reply that a gateway sat on was dated by its coming: its
        task ran after its lease, and its result was forgotten as one in time, so that the retry ran too."""
        body = json.dumps({**IDS, "responseTimeoutSeconds": 60}).encode()
        for took_s, wait_ms, taken in ((59.0, 0, 1), (61.0, 0, 0), (64.0, 5000, 1), (66.0, 5000, 0)):
            poll = self.client(self.says(body), CONDUCTOR).send_poll("a", "w", None, wait_ms)
            clock = mock.Mock(return_value=poll._connection.sent_at + took_s)
            with self.subTest(took_s=took_s), mock.patch.object(rooms, "time", mock.Mock(monotonic=clock)):
                self.assertEqual(len(poll.fetch()), taken)
                self.assertAlmostEqual(poll.age_s, took_s - poll.hold_s)

    def test_what_passes_before_a_poll_is_sent_is_no_part_of_its_tasks_age(self) -> None:
        """A token endpoint or a look-up took longer than a task's lease: the task that the poll brought was new, and
        was left to the platform as too old, after each connection that was opened anew."""
        body = json.dumps({**IDS, "responseTimeoutSeconds": 60}).encode()
        slept_s = [0.0]
        clock = mock.Mock(time=time.time, monotonic=lambda: time.monotonic() + slept_s[0])

        def fetch() -> Fetched:
            slept_s[0] += 61.0
            return Fetched("token", 300.0)

        def look_up(host: str, *args: Any) -> Any:
            slept_s[0] += 9.0
            return real("127.0.0.1", *args)

        real, server = socket.getaddrinfo, self.says(body)
        server.url = f"http://slow.example:{server.port}"
        with mock.patch.object(rooms, "time", clock), mock.patch.object(connection_rooms, "time", clock):
            client = self.client(server, CONDUCTOR, TokenSource(fetch, "X-Authorization"))
            with mock.patch.object(socket, "getaddrinfo", look_up):
                poll = client.send_poll("a", "w", None, 0)
                self.assertEqual(len(poll.fetch()), 1)
        self.assertEqual(slept_s, [70.0])
        self.assertLess(poll.age_s, 9.0)


class ReportAndPoll(ClientTest):
    def exchange(self, server: Server) -> tuple[Client, Outcome, list[str]]:
        client = self.client(server, CONDUCTOR)
        outcome, tasks = client.report_and_poll(REPORT, OF)
        return client, outcome, [task.task_id for task in tasks]

    def test_the_next_task_comes_with_the_answer(self) -> None:
        for body, expected in ((TASK, ["t-1"]), (b"", [])):
            server = self.says(body, 200 if body else 204)
            client, outcome, tasks = self.exchange(server)
            self.assertEqual((outcome.verdict, tasks), (Verdict.APPLIED, expected))
            self.assertEqual([request.target for request in server.requests], ["/api/tasks/update-v2"])
            self.assertTrue(client.can_report_and_poll)

    def test_where_the_joint_call_is_not_known_reports_are_plain_from_then_on(self) -> None:
        """Conductor 3.13 says it with a 500 that is final: each result came 30 s late, by way of a refusal."""
        for status, body in (
            (500, b'{"status":500,"message":"Request method \'POST\' not supported","retryable":false}'),
            (404, b'{"status":404,"message":"No static resource api/tasks/update-v2.","retryable":false}'),
            (404, b'{"timestamp":"2026","status":404,"error":"Not Found","path":"/api/tasks/update-v2"}'),
            (404, b"<!doctype html><title>HTTP Status 404"),
            (405, b"<html><head><title>405 Not Allowed</title>"),
            (403, b"<html><head><title>403 Forbidden</title>"),
            (500, b"nobody knows this one"),
            (501, b""),
        ):
            with self.subTest(status=status, body=body):
                server = self.serve(
                    answering(lambda request, reply=(status, body): reply if "v2" in request.target else (200, b""))
                )
                client, outcome, tasks = self.exchange(server)
                self.assertEqual((outcome.verdict, tasks), (Verdict.APPLIED, []))
                client.report_and_poll(REPORT, OF)
                paths = [request.target.rpartition("/")[2] for request in server.requests]
                self.assertEqual(paths, ["update-v2", "tasks", "tasks"])
                self.assertFalse(client.can_report_and_poll)
                self.assertEqual(client.can_wait, b"Request method" not in body)  # the first task was all that was late

    def test_what_the_plain_report_meets_too_is_not_the_joint_calls_fault(self) -> None:
        """One bad result, or a server in trouble, must not cost the process its faster call."""
        for status, body, verdict in (
            (500, b'{"message":"JSON parse error","retryable":false}', Verdict.REFUSED),
            (500, b"", Verdict.LATER),
            (403, b"", Verdict.AUTH),
        ):
            with self.subTest(status=status, body=body):
                client, outcome, _ = self.exchange(self.says(body, status))
                self.assertIs(outcome.verdict, verdict)
                self.assertTrue(client.can_report_and_poll)

    def test_a_passing_trouble_is_answered_by_no_second_request(self) -> None:
        for status, body in ((502, b""), (503, b""), (504, b""), (429, b""), (401, b"")):
            with self.subTest(status=status):
                server = self.says(body, status)
                client, _, _ = self.exchange(server)
                self.assertEqual((1, True), (len(server.requests), client.can_report_and_poll))

    def test_a_task_that_is_not_known_is_no_older_server(self) -> None:
        server = self.says(b'{"message": "No such task found by id: t-1"}', 404)
        client, outcome, _ = self.exchange(server)
        self.assertEqual((outcome.verdict, client.can_report_and_poll), (Verdict.REFUSED, True))
        self.assertEqual(len(server.requests), 1)

    def test_it_is_never_repeated_by_itself(self) -> None:
        for handler in (lambda peer: (peer.request(), peer.reset()), answering(lambda request: (503, b""))):
            server = self.serve(handler)
            client, outcome, tasks = self.exchange(server)
            self.assertIn(outcome.verdict, (Verdict.MAYBE, Verdict.LATER))
            self.assertEqual((tasks, len(server.requests), client.can_report_and_poll), ([], 1, True))

    def test_a_next_task_that_can_not_be_read_does_not_undo_the_report(self) -> None:
        with self.assertLogs(rooms.log, "WARNING") as logs:
            _, outcome, tasks = self.exchange(self.says(b'{"taskId": 5}'))
        self.assertEqual((outcome.verdict, tasks, len(logs.output)), (Verdict.APPLIED, [], 1))

    def test_akabot_has_no_such_exchange(self) -> None:
        server = self.says(b"t-1")
        client = self.client(server)
        self.assertEqual(client.report_and_poll(REPORT, OF), (Outcome(Verdict.APPLIED, status=200), []))
        self.assertEqual((server.requests[0].target, client.can_report_and_poll), ("/api/tasks/external", False))


class Guarded:
    """A service that takes one token at a time, and the endpoint that gives them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # guards tokens
        self.tokens = 0
        self.good = 0  # the number of the token that is taken; 0 takes none
        self.endpoint_status = 200
        self.refusal = 401
        self.clock = FakeClock()
        self.server = Server(answering(self._answer))
        self.transport = Transport()
        fetch = client_credentials(self.transport, self.server.url + "/token", "me", Secret(SECRET))._fetch
        self.auth = TokenSource(fetch, "Authorization", "Bearer ", clock=self.clock, wall=self.clock)
        self.client = Client(self.transport, AKABOT, self.server.url + "/api", self.auth)

    def _answer(self, request: Request) -> Any:
        if request.target == "/token":
            with self._lock:
                self.tokens += 1
                number = self.tokens
            body = json.dumps({"access_token": f"{TOKEN}{number}", "expires_in": 300, "error": "x"})
            return self.endpoint_status, body.encode()
        if request.headers.get("authorization") != f"Bearer {TOKEN}{self.good}":
            return self.refusal, b'{"error": "EXPIRED_TOKEN"}'
        return 200, TASK if request.method == "GET" else b"t-1"

    def calls(self) -> int:
        return len(self.server.requests) - self.tokens

    def close(self) -> None:
        self.transport.close()
        self.server.close()


class Tokens(ClientTest):
    def setUp(self) -> None:
        self.platform = Guarded()
        self.addCleanup(self.platform.close)

    def poll(self) -> Any:
        return self.platform.client.send_poll("a", "w", None).fetch()

    def settle(self) -> None:
        self.platform.good = 1
        self.poll()
        self.assertEqual((self.platform.tokens, self.platform.calls()), (1, 1))

    def test_a_token_goes_with_every_request(self) -> None:
        self.settle()
        self.assertIs(self.platform.client.report(REPORT, OF).verdict, Verdict.APPLIED)
        self.assertEqual((self.platform.tokens, self.platform.calls()), (1, 2))

    def test_a_refused_one_is_replaced_and_the_request_made_again(self) -> None:
        for refusal in (401, 403):
            with self.subTest(refusal):
                self.setUp()
                self.platform.refusal = refusal
                self.settle()
                self.platform.clock.advance(100)
                self.platform.good = 2
                self.assertIs(self.platform.client.report(REPORT, OF).verdict, Verdict.APPLIED)
                self.assertEqual((self.platform.tokens, self.platform.calls()), (2, 3))

    def test_sixteen_threads_refused_at_once_make_one_token_request_and_one_retry_each(self) -> None:
        self.settle()
        self.platform.clock.advance(100)
        self.platform.good = 2
        results = at_once(16, self.poll)
        self.assertEqual([len(result) for result in results], [1] * 16)
        self.assertEqual(self.platform.tokens, 2)
        self.assertLessEqual(self.platform.calls(), 1 + 2 * 16)

    def test_refused_for_good_a_call_is_made_twice_at_most_and_one_token_fetched(self) -> None:
        self.settle()
        self.platform.clock.advance(100)
        self.platform.good = 0
        for result in at_once(16, self.poll):
            self.assertRegex(str(result), "HTTP 401: EXPIRED_TOKEN")
        self.assertEqual(self.platform.tokens, 2)
        self.assertLessEqual(self.platform.calls(), 1 + 2 * 16)
        for _ in range(3):
            self.assertIs(self.platform.client.report(REPORT, OF).verdict, Verdict.AUTH)
        self.assertEqual(self.platform.tokens, 2, "the new one is young: its age is not why it is refused")

    def test_no_request_goes_without_a_token(self) -> None:
        """A peer goes on without Authorization, for ever, once its credentials were refused."""
        for status, verdict in ((401, Verdict.AUTH), (500, Verdict.LATER), (404, Verdict.LATER)):
            with self.subTest(status):
                self.setUp()
                self.platform.endpoint_status = status
                self.assertRaises(PollError, self.poll)
                self.assertIs(self.platform.client.report(REPORT, OF).verdict, verdict)
                self.assertEqual(self.platform.calls(), 0)

    def test_a_token_that_is_due_between_a_report_and_the_poll_beside_it_costs_no_reply(self) -> None:
        """Where one server gives tokens and tasks, it was asked for over the connection of the report. Its slot
        waited for the report's reply until a deadline, and the report was sent again."""
        self.settle()
        report = self.platform.client.send_report(REPORT, OF)
        self.platform.clock.advance(270)
        poll = self.platform.client.send_poll("a", "w", None)
        self.assertEqual((report.fetch().verdict, self.platform.tokens), (Verdict.APPLIED, 2))
        self.assertRaises(PollError, poll.fetch)  # 2 is not good yet
        self.assertEqual(self.platform.server.connections.count, 2)

    def test_an_outage_of_the_endpoint_is_not_noticed_while_the_old_token_lives(self) -> None:
        self.settle()
        self.platform.endpoint_status = 503
        self.platform.clock.advance(270)
        with self.assertLogs("user_agent_sdk", "WARNING"):
            self.assertEqual(len(self.poll()), 1)
        self.assertEqual(len(self.poll()), 1)
        self.platform.clock.advance(40)
        self.assertRaises(PollError, self.poll)
        self.platform.endpoint_status = 200
        self.platform.clock.advance(60)
        self.platform.good = self.platform.tokens + 1
        self.assertEqual(len(self.poll()), 1)

    def test_an_extension_does_not_stop_for_an_early_refresh(self) -> None:
        self.settle()
        self.platform.clock.advance(270)
        self.assertIs(self.platform.client.extend("t-1", "w-1", "me", 5.0).verdict, Verdict.APPLIED)
        self.assertEqual(self.platform.tokens, 1)
        self.assertIs(self.platform.client.report(REPORT, OF).verdict, Verdict.AUTH)  # refreshed: 2 is not good yet
        self.assertEqual(self.platform.tokens, 2)


class RetryAfter(unittest.TestCase):
    def test_numbers_dates_and_nonsense(self) -> None:
        wall = 1_800_000_000.0  # Fri, 15 Jan 2027 08:00:00 GMT
        for given, expected in (
            ("7", 7.0),
            ("0.5", 0.5),
            ("-5", 0.0),
            ("1e12", 60.0),
            ("inf", 60.0),
            ("nan", None),
            ("", None),
            ("soon", None),
            ("7, 9", None),
            ("Fri, 15 Jan 2027 08:00:10 GMT", 10.0),
            ("Fri, 15 Jan 2027 15:00:10 +0700", 10.0),
            ("Fri, 15 Jan 2027 07:00:00 GMT", 0.0),
            ("Fri, 15 Jan 2038 08:00:00 GMT", 60.0),
            ("Fri, 99 Jan 2027 08:00:10 GMT", None),
            ("Fri, 15 Jan 0001 00:00:00 +1400", 0.0),
            ("Fri, 15 Jan 99999 08:00:10 GMT", None),
        ):
            with self.subTest(given):
                self.assertEqual(retry_after_s(Response(503, {"retry-after": given}, b""), wall), expected)
        self.assertIsNone(retry_after_s(Response(503, {}, b"")))


class Construction(ClientTest):
    def test_a_target_that_can_not_be_reached_in_principle_is_said_at_once(self) -> None:
        for options, url in (
            ({"proxy": "socks5://p:1"}, "https://a.example/api"),
            ({"ca_file": "/nowhere.pem"}, "https://a.example/api"),
            ({}, "file:///etc"),
        ):
            with self.subTest(url, **options):
                self.assertRaises(ConfigError, Client, Transport(**options), AKABOT, url, None)


class Secrets(ClientTest):
    def test_no_fault_brings_a_token_a_secret_or_a_password_into_a_log_a_repr_or_a_traceback(self) -> None:
        shown = io.StringIO()
        handler = logging.StreamHandler(shown)
        root = logging.getLogger()
        level = root.level
        root.addHandler(handler)
        root.setLevel(logging.DEBUG)
        self.addCleanup(root.setLevel, level)
        self.addCleanup(root.removeHandler, handler)
        shows: list[Any] = []

        def attempt(call: Callable[[], Any]) -> None:
            try:
                shows.append(call())
            except Exception as error:
                shows.append(traceback.format_exc())
                shows.append((error, error.args, getattr(error, "hints", ())))

        endings: list[Handler] = [
            lambda peer: (peer.request(), peer.reset()),
            lambda peer: (peer.request(), peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n{")),
            lambda peer: (peer.request(), peer.send(f"garbage {SECRET[:6]}\r\n\r\n".encode())),
            answering(lambda request: (401, b'{"error": "INVALID_TOKEN"}')),
            answering(lambda request: (500, b"")),
            answering(lambda request: (407, b"")),
            answering(lambda request: TASK),
        ]
        for ending in endings:
            platform = Guarded()
            self.addCleanup(platform.close)
            service = self.serve(ending)
            for proxy in (None, f"http://user:{SECRET}@127.0.0.1:{service.port}"):
                transport = Transport(proxy=proxy)
                self.addCleanup(transport.close)
                address = "http://a.example/api" if proxy else service.url + "/api"
                client = Client(transport, AKABOT, address, platform.auth)
                attempt(lambda: client.send_poll("a", "w", None).fetch())  # noqa: B023
                attempt(lambda: client.report(REPORT, OF))  # noqa: B023
                shows += [client, transport, platform.auth, platform.auth.__dict__.get("_failure")]
            platform.endpoint_status = 401
            platform.clock.advance(400)
            attempt(platform.auth.headers)
        text = shown.getvalue() + "".join(f"{item!r} {item}" for item in shows)
        self.assertIn("HTTP 401", text)
        for canary in (TOKEN, SECRET, "Bearer"):
            self.assertNotIn(canary, text)


if __name__ == "__main__":
    unittest.main()

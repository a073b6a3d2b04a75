# SPDX-License-Identifier: Apache-2.0
"""What comes over the wire: replies to a poll, to a report that asks for the next task, to a plea for a token.

The bytes go through the real transport, connection and decoder; only the socket is played.
"""

from __future__ import annotations

import gzip
import json
import socket
import threading
import time
from collections.abc import Callable
from random import Random
from typing import Any, NamedTuple
from unittest import mock

from user_agent_sdk import logs
from user_agent_sdk.agents import Agent
from user_agent_sdk.conductor import auth, connection, paths, wire
from user_agent_sdk.conductor.client import Client, PollError
from user_agent_sdk.conductor.renewal import Secret
from user_agent_sdk.conductor.transport import Transport
from user_agent_sdk.errors import PlatformError
from user_agent_sdk.watching.metrics import Metrics
from user_agent_sdk.worker.keeping.custody import Custody
from user_agent_sdk.worker.keeping.journal import Journal
from user_agent_sdk.worker.keeping.timetable import Timetable
from user_agent_sdk.worker.polling.intake import Poll
from user_agent_sdk.worker.running.event_loop import SharedLoop
from user_agent_sdk.worker.slots import Services, Slot

from . import mutate
from .core import Target, Wrong

TASK: dict[str, Any] = {
    "taskId": "task-1",
    "workflowInstanceId": "flow-1",
    "taskType": "reader",
    "taskDefName": "reader",
    "referenceTaskName": "reader_ref",
    "status": "IN_PROGRESS",
    "retryCount": 1,
    "retriedTaskId": "task-0",
    "pollCount": 1,
    "responseTimeoutSeconds": 60,
    "scheduledTime": 1763776800000,
    "inputData": {"__task_id__": "platform-1", "__deployed_workflow_id__": "deployed-1", "num1": 2, "who": {"é": [1]}},
    "outputData": {},
    "workflowTask": {"taskDefinition": {"name": "reader", "retryCount": 3}},
}
BODIES: tuple[Any, ...] = (TASK, TASK, [TASK, {**TASK, "taskId": "task-2"}], {"taskId": "a", "workflowInstanceId": "b"})
STATUSES = (200,) * 40 + (204, 201, 301, 400, 401, 404, 413, 429, 500, 503)
TYPES = ("application/json",) * 16 + ("text/plain", "text/html", "", "application/json;charset=é")


class Reply(NamedTuple):
    """``body`` is None where nobody can say what the bytes mean."""

    raw: bytes
    body: bytes | None

    def ids(self) -> set[str] | None:
        """The tasks that any reader finds in it; None where readers may differ."""
        if self.body is None or self.body.count(b"[") + self.body.count(b"{") > 100:
            return None
        try:
            value = json.loads(self.body)
        except (ValueError, RecursionError):
            return None
        items = value if isinstance(value, list) else [value]
        return {item["taskId"] for item in items if isinstance(item, dict) and _names(item)}


def _names(item: dict[str, Any]) -> bool:
    ids = (item.get("taskId"), item.get("workflowInstanceId"))
    return all(isinstance(one, str) and one and len(one) <= 255 and one.isprintable() for one in ids)


def framed(rng: Random, body: bytes) -> Reply:
    """A reply with this body, mostly well-formed."""
    status, media_type = rng.choice(STATUSES), rng.choice(TYPES)
    head, sent = f"HTTP/1.1 {status} Said\r\nContent-Type: {media_type}\r\n", body
    if rng.random() < 0.1:
        when = rng.choice(("1", "-1", "9" * 40, "soon", "Fri, 31 Dec 1999 23:59:59 GMT", "²", ""))
        head += f"Retry-After: {when}\r\n"
    if rng.random() < 0.15:
        sent = gzip.compress(body, 1, mtime=0)  # a case depends on its number alone
        head += "Content-Encoding: gzip\r\n"
    if rng.random() < 0.15:
        head += "Transfer-Encoding: chunked\r\n"
        sent = b"%x\r\n%s\r\n0\r\n\r\n" % (len(sent), sent) if sent else b"0\r\n\r\n"
    elif rng.random() < 0.95:
        head += f"Content-Length: {len(sent)}\r\n"
    whole = head.encode("utf-8") + b"\r\n" + sent
    if rng.random() < 0.2:
        return Reply(mutate.raw(rng, whole, (b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.0 200\n\n{}")), None)
    is_plain = status == 200 and media_type != "text/html" and not body[:64].lstrip().startswith(b"<")
    return Reply(whole, body if is_plain else None)


class _Played(socket.socket):
    """A connection of which only the bytes are real. It is never at rest, so each exchange gets one of its own."""

    def __init__(self, answer: Callable[[bytes], bytes]) -> None:
        ours, other = socket.socketpair()  # an unconnected one is readable for poll(), and never for select()
        super().__init__(fileno=ours.detach())
        other.close()
        self._answer = answer
        self._coming: list[bytes] = []

    def setsockopt(self, *_: Any) -> None:
        """A pair's end is no TCP socket everywhere."""

    def send(self, request: Any, flags: int = 0) -> int:
        raw = self._answer(bytes(request))
        self._coming = [raw[start : start + 4096] for start in range(0, len(raw), 4096)]
        return len(request)

    def recv(self, size: int, flags: int = 0) -> bytes:
        return self._coming.pop(0) if self._coming else b""


class _Wire(Target):
    """Targets that play replies. ``requests`` holds what was sent since the case began."""

    reply: Reply

    def __enter__(self) -> _Wire:
        self.requests: list[bytes] = []
        self.transport = Transport()
        self.callback(self.transport.close)
        self.enter_context(mock.patch.object(connection, "_connect", lambda *_: _Played(self._heard)))
        return self

    def _heard(self, request: bytes) -> bytes:
        self.requests.append(request)
        return self.answer(request)

    def answer(self, request: bytes) -> bytes:
        return self.reply.raw


class _OneTurn:
    """A gate that polls once."""

    agent_id, worker_id = "reader", "worker-1"

    def __init__(self, client: Client, chains: bool) -> None:
        self._client = client
        self._turns, self._chains = 1, int(chains)

    def take(self) -> tuple[list[wire.Task], float] | None:
        self._turns -= 1
        if self._turns < 0:
            return None
        try:
            return self._client.send_poll("reader", "worker-1", None, 5000).fetch(), time.monotonic()
        except PollError:
            return [], 0.0

    def go_on(self, is_quick: bool) -> Poll | None:
        self._chains -= 1
        return Poll(0.0, 0, False, False) if self._chains >= 0 else None

    def chained(self, tasks: int) -> None:
        pass


def echo(input_data: Any, task: Any, logger: Any) -> Any:
    logger.info("%s, attempt %s", task.key, task.attempt)
    return {"given": input_data, "type": task.task_type, "flow": str(task.workflow_task), "left": task.output_data}


class Polls(_Wire):
    """Whatever a poll brings ends in a run, a failure that is reported, or a PollError; the slot goes on."""

    name = "polls"
    chains = False

    def __enter__(self) -> Polls:
        super().__enter__()
        self.agent = Agent(echo)
        self._begin()
        return self

    def _begin(self) -> None:
        client = Client(self.transport, paths.CONDUCTOR, "http://127.0.0.1:9/api", None)
        upkeep: Timetable[Any] = Timetable("upkeep", lambda call: call(), 1)
        stopping, metrics = threading.Event(), Metrics()
        custody = Custody(client, Journal(None), stopping, metrics, on_run=lambda _: None)
        self.services = Services(client, custody, upkeep, stopping, metrics, SharedLoop())

    def make(self, rng: Random) -> Reply:
        return framed(rng, mutate.json_bytes(rng, rng.choice(BODIES)))

    def answer(self, request: bytes) -> bytes:
        return self.reply.raw if request.startswith(b"GET") else _DONE

    def run(self, case: Reply) -> None:
        self.reply = case
        self.requests.clear()
        self.services.client.can_report_and_poll = True
        gate = _OneTurn(self.services.client, self.chains)
        try:
            Slot(self.agent, gate, None, self.services)._take_and_work()  # type: ignore[arg-type]
            self._judge(case)
        except BaseException:
            self._begin()
            raise

    def _judge(self, case: Reply) -> None:
        reports = _reports(self.requests)
        reported = [report["taskId"] for report in reports]
        if len(reported) != len(set(reported)):
            raise Wrong(f"a task was reported twice: {reported}")
        states = {report["status"] for report in reports}
        if not states <= {"COMPLETED", "FAILED_WITH_TERMINAL_ERROR", "IN_PROGRESS"}:
            raise Wrong(f"reported as {states}")
        expected = case.ids()
        if expected is not None and expected != set(reported):
            raise Wrong(f"the reply has the tasks {expected}, reported are {reported}")
        if self._kept() or self._held():
            raise Wrong(f"left behind: {self._kept()}, {self._held()}")

    def _held(self) -> set[str]:
        return {held.entry.task_id for held in self.services.custody.register.pending()}

    def _kept(self) -> set[str]:
        """What is still to be delivered; a late result stays for a day, and a lease may be tiny here."""
        return {entry.task_id for entry in self.services.custody.journal.live().values() if entry.is_pending}


def _reports(requests: list[bytes]) -> list[dict[str, Any]]:
    return [json.loads(request.partition(b"\r\n\r\n")[2]) for request in requests if request.startswith(b"POST")]


_DONE = b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n1"
_FIRST = {**TASK, "taskId": "the first", "retriedTaskId": None}
_FIRST_BODY = json.dumps([_FIRST]).encode()
_FIRST_REPLY = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(_FIRST_BODY), _FIRST_BODY)


class Updates(Polls):
    """The same for the reply to a report that asks for the next task; and the report itself is not lost."""

    name = "updates"
    chains = True

    def answer(self, request: bytes) -> bytes:
        if request.startswith(b"GET"):
            return _FIRST_REPLY
        return self.reply.raw if b"/update-v2 " in request[:100] else _DONE

    def _judge(self, case: Reply) -> None:
        reports = _reports(self.requests)
        first = [report for report in reports if report["taskId"] == "the first"]
        if not first or first[0]["status"] != "COMPLETED":
            raise Wrong(f"the result was not sent: {reports}")
        live = self._kept()
        if live != self._held() or not live <= {"the first"}:
            raise Wrong(f"kept are {live}, held are {self._held()}")
        expected = case.ids()
        others = {report["taskId"] for report in reports} - {"the first"}
        if expected is not None and (live or expected - {"the first"} != others):
            raise Wrong(f"the reply has the tasks {expected}, reported are {others}, kept is {live}")
        if live:
            self._begin()


class Tokens(_Wire):
    """A reply to a plea for a token gives one that can be sent, or a PlatformError that names no secret."""

    name = "tokens"
    SECRET = "s3cret-never-shown"
    ANSWERS: tuple[Any, ...] = (
        {"access_token": "eyJh.eyJz.c2ln", "expires_in": 300, "token_type": "Bearer", "scope": "email"},
        {"token": "eyJh.eyJz.c2ln", "expires_in": "300"},
        {"error": "unauthorized_client", "error_description": "Invalid client or Invalid client credentials"},
    )

    def __enter__(self) -> Tokens:
        super().__enter__()
        self.enter_context(mock.patch.object(logs, "redactor", logs.Redactor()))
        return self

    def make(self, rng: Random) -> tuple[bool, Reply]:
        return rng.random() < 0.3, framed(rng, mutate.json_bytes(rng, rng.choice(self.ANSWERS)))

    def run(self, case: tuple[bool, Reply]) -> None:
        is_key, self.reply = case
        self.requests.clear()
        url = "http://127.0.0.1:9/token"
        if is_key:
            source = auth.conductor_key(self.transport, "http://127.0.0.1:9", "key-1", self.SECRET)
        else:
            source = auth.client_credentials(self.transport, url, "client-1", Secret(self.SECRET))
        try:
            headers = source.headers()
        except PlatformError as error:
            self._fits(error)
            return
        if not source.left_s or not 1 <= source._current[1]._life_s <= 86400:  # type: ignore[index]
            raise Wrong(f"a token that lives {source._current!r}")
        self.reply = Reply(_DONE, None)
        self.transport.send("GET", url, headers=headers, timeout_s=5.0).fetch()  # what was got is fit to be sent

    def _fits(self, error: PlatformError) -> None:
        told = " ".join([error.message, *error.hints])
        if self.SECRET in told or "\n" in told:
            raise Wrong(f"said of the token: {told!r}")

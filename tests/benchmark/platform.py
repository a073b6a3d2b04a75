# SPDX-License-Identifier: Apache-2.0
"""An in-memory platform in a process of its own: both dialects, a token endpoint, and a delay for
every exchange. One thread, one selector, no parsing that is not needed, so that it is not the limit.

It prints two ports, of plain HTTP and of TLS. ``GET /control`` tells what happened; ``POST /control``
with a JSON object starts a new round: ``{"tasks": 1000, "skip": 100, "delay_ms": 0, "input": {...}}``.
The rate that it tells leaves out the first ``skip`` reports.
"""

from __future__ import annotations

import contextlib
import heapq
import json
import re
import selectors
import socket
import ssl
import sys
import time
from pathlib import Path
from typing import Any

_HEAD = (
    b"HTTP/1.1 %d OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n"
    b"Date: Mon, 23 Nov 2026 00:00:00 GMT\r\nKeep-Alive: timeout=60\r\nConnection: keep-alive\r\n\r\n"
)
CERTIFICATE = Path(__file__).resolve().parents[1] / "data" / "server.pem"
_WORD = "t" * 900  # as long as a real token
_TOKEN = json.dumps({"access_token": _WORD, "token": _WORD, "expires_in": 3600, "token_type": "Bearer"}).encode()
_TASK = b"""
{"taskType":"bench","status":"IN_PROGRESS","inputData":%s,"referenceTaskName":"bench_ref","retryCount":0,
"pollCount":1,"taskDefName":"bench","scheduledTime":1795392000000,"startTime":1795392000000,
"updateTime":1795392000000,"responseTimeoutSeconds":3600,"workflowInstanceId":"w-%d","taskId":"t-%d",
"callbackAfterSeconds":0,"workflowTask":{"name":"bench","taskReferenceName":"bench_ref","type":"SIMPLE"},
"retriedTaskId":null,"iteration":0}
"""


class Round:
    """One measured round: tasks handed out and reported, with times on this process's clock."""

    def __init__(self, tasks: int = 0, skip: int = 1, delay_ms: float = 0.0, given: Any = None) -> None:
        self.tasks = tasks
        self.delay_s = delay_ms / 1000
        self._given = json.dumps(given if given is not None else {"num1": 2, "num2": 3}).encode()
        self._skipped = skip  # reports while the contender is still getting started
        self._from = self._until = (0.0, 0.0)  # seconds of wall and of this process's CPU
        self.handed_out = self.reported = self.polls = self.tokens = 0
        self.first_poll_at = 0.0  # of the clock that all processes share

    def task(self) -> bytes | None:
        if self.handed_out >= self.tasks:
            return None
        self.handed_out += 1
        return _TASK % (self._given, self.handed_out, self.handed_out)

    def polled(self) -> None:
        self.polls += 1
        if self.polls == 1:
            self.first_poll_at = time.time()

    def report(self) -> None:
        self.reported += 1
        self._until = (time.perf_counter(), time.process_time())
        if self.reported == self._skipped:
            self._from = self._until

    def summary(self) -> dict[str, Any]:
        """tasks_per_s over the reports that count, and how busy this process was meanwhile."""
        span_s = self._until[0] - self._from[0]
        is_known = self.reported > self._skipped and span_s > 0
        return {
            "tasks": self.tasks,
            "reported": self.reported,
            "polls": self.polls,
            "tokens": self.tokens,
            "first_poll_at": self.first_poll_at,
            "tasks_per_s": (self.reported - self._skipped) / span_s if is_known else 0.0,
            "busy": (self._until[1] - self._from[1]) / span_s if is_known else 0.0,
        }


class Platform:
    def __init__(self) -> None:
        self.round = Round()
        self._selector = selectors.DefaultSelector()
        self._pending: dict[socket.socket, bytes] = {}
        self._later: list[tuple[float, int, socket.socket, bytes]] = []
        self._number = 0
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._tls.load_cert_chain(CERTIFICATE)
        self._listeners = [socket.create_server(("127.0.0.1", 0), backlog=256) for _ in range(2)]
        for listener in self._listeners:
            self._selector.register(listener, selectors.EVENT_READ)
        self.ports = [listener.getsockname()[1] for listener in self._listeners]

    def run(self) -> None:
        while True:
            wait_s = max(0.0, self._later[0][0] - time.perf_counter()) if self._later else None
            for key, _ in self._selector.select(wait_s):
                if key.fileobj in self._listeners:
                    self._accept(key.fileobj)
                else:
                    self._read(key.fileobj)  # type: ignore[arg-type]
            while self._later and self._later[0][0] <= time.perf_counter():
                _, _, connection, reply = heapq.heappop(self._later)
                self._write(connection, reply)

    def _accept(self, listener: socket.socket) -> None:
        connection, _ = listener.accept()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if listener is self._listeners[1]:
            try:
                connection = self._tls.wrap_socket(connection, server_side=True)
            except OSError:
                return
        self._selector.register(connection, selectors.EVENT_READ)
        self._pending[connection] = b""

    def _read(self, connection: socket.socket) -> None:
        try:
            data = connection.recv(262144)
        except OSError:
            data = b""
        if not data:
            self._selector.unregister(connection)
            self._pending.pop(connection)
            connection.close()
            return
        data = self._pending[connection] + data
        end = data.find(b"\r\n\r\n")
        if end >= 0:
            head = data[:end].lower()
            at = head.find(b"content-length:")
            length = int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
            if len(data) >= end + 4 + length:
                self._answer(connection, data[:end].split(b"\r\n", 1)[0], data[end + 4 : end + 4 + length])
                data = data[end + 4 + length :]
        self._pending[connection] = data

    def _answer(self, connection: socket.socket, line: bytes, body: bytes) -> None:
        status, reply = self._handle(line, body)
        delay_s = 0.0 if b"control" in line or b"token" in line else self.round.delay_s
        if reply == b"[]":  # a batch poll that finds nothing is held as long as it says, as Conductor does
            delay_s += int(_parameter(line, b"timeout") or b"100") / 1000
        reply = _HEAD % (status, len(reply)) + reply
        if delay_s:
            self._number += 1
            heapq.heappush(self._later, (time.perf_counter() + delay_s, self._number, connection, reply))
        else:
            self._write(connection, reply)

    def _write(self, connection: socket.socket, reply: bytes) -> None:
        with contextlib.suppress(OSError):
            connection.sendall(reply)

    def _handle(self, line: bytes, body: bytes) -> tuple[int, bytes]:
        method, target, _ = line.split(b" ", 2)
        current = self.round
        if method == b"GET" and b"/poll/" in target:
            current.polled()
            return self._batch(target) if b"/batch/" in target else self._hand_out()
        if target.endswith((b"/tasks/external", b"/tasks", b"/update-v2")):
            if b'"IN_PROGRESS"' not in body:
                current.report()
            return self._hand_out() if target.endswith(b"v2") else (200, b"t-1")
        if b"token" in target:
            current.tokens += 1
            return 200, _TOKEN
        if target == b"/control":
            if method == b"POST":
                wanted = json.loads(body)
                self.round = Round(
                    wanted["tasks"], wanted.get("skip", 1), wanted.get("delay_ms", 0.0), wanted.get("input")
                )
            return 200, json.dumps(self.round.summary()).encode()
        return 404, b'{"message":"No static resource","retryable":false}'

    def _hand_out(self) -> tuple[int, bytes]:
        task = self.round.task()
        return (204, b"") if task is None else (200, task)

    def _batch(self, target: bytes) -> tuple[int, bytes]:
        tasks = [self.round.task() for _ in range(int(_parameter(target, b"count") or b"1"))]
        return 200, b"[" + b",".join(filter(None, tasks)) + b"]"


def _parameter(line: bytes, name: bytes) -> bytes:
    return re.split(b"[& ]", line.partition(name + b"=")[2], maxsplit=1)[0]


if __name__ == "__main__":
    platform = Platform()
    print(*platform.ports, flush=True)
    try:
        platform.run()
    except KeyboardInterrupt:
        sys.exit(0)

"""An in-memory platform in a process of its own: both dialects, a token endpoint, and a delay for
every exchange. One thread, one selector, no parsing that is not needed, so that it is not the limit.

``GET /control`` tells what happened; ``POST /control`` with a JSON object starts a new round:
``{"tasks": 1000, "delay_ms": 0, "input": {...}}``.
"""

from __future__ import annotations

import contextlib
import heapq
import json
import selectors
import socket
import sys
import time
from typing import Any

_HEAD = (
    b"HTTP/1.1 %d OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n"
    b"Date: Mon, 23 Nov 2026 00:00:00 GMT\r\nKeep-Alive: timeout=60\r\nConnection: keep-alive\r\n\r\n"
)
_WORD = "t" * 900  # as long as a real token
_TOKEN = json.dumps({"access_token": _WORD, "token": _WORD, "expires_in": 3600, "token_type": "Bearer"}).encode()
_TASK = """
{"taskType":"bench","status":"IN_PROGRESS","inputData":%s,"referenceTaskName":"bench_ref","retryCount":0,
"pollCount":1,"taskDefName":"bench","scheduledTime":1795392000000,"startTime":1795392000000,
"updateTime":1795392000000,"responseTimeoutSeconds":3600,"workflowInstanceId":"w-%d","taskId":"t-%d",
"callbackAfterSeconds":0,"workflowTask":{"name":"bench","taskReferenceName":"bench_ref","type":"SIMPLE"},
"retriedTaskId":null,"iteration":0}
"""


class Round:
    """One measured round: tasks handed out and reported, with times on this process's clock."""

    def __init__(self, tasks: int = 0, delay_ms: float = 0.0, given: Any = None) -> None:
        self.tasks = tasks
        self.delay_s = delay_ms / 1000
        self.given = json.dumps(given if given is not None else {"num1": 2, "num2": 3})
        self.handed_out = self.reported = self.polls = self.tokens = 0
        self.times: list[float] = []
        self.started = time.perf_counter()
        self.cpu = time.process_time()

    def task(self) -> bytes | None:
        if self.handed_out >= self.tasks:
            return None
        self.handed_out += 1
        number = self.handed_out
        return (_TASK % (self.given, number, number)).encode()

    def summary(self) -> dict[str, Any]:
        """tasks_per_s over the last nine tenths of the reports, and how busy this process was meanwhile."""
        skip = len(self.times) // 10
        span_s = self.times[-1] - self.times[skip] if len(self.times) > 10 else 0.0
        elapsed_s = time.perf_counter() - self.started
        return {
            "tasks": self.tasks,
            "reported": self.reported,
            "polls": self.polls,
            "tokens": self.tokens,
            "tasks_per_s": (len(self.times) - 1 - skip) / span_s if span_s else 0.0,
            "busy": (time.process_time() - self.cpu) / elapsed_s,
            "elapsed_s": elapsed_s,
        }


class Platform:
    def __init__(self) -> None:
        self.round = Round()
        self._selector = selectors.DefaultSelector()
        self._pending: dict[socket.socket, bytes] = {}
        self._later: list[tuple[float, int, socket.socket, bytes]] = []
        self._number = 0
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self._selector.register(self._listener, selectors.EVENT_READ)
        self.port = self._listener.getsockname()[1]

    def run(self) -> None:
        while True:
            wait_s = max(0.0, self._later[0][0] - time.perf_counter()) if self._later else None
            for key, _ in self._selector.select(wait_s):
                if key.fileobj is self._listener:
                    connection, _ = self._listener.accept()
                    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    self._selector.register(connection, selectors.EVENT_READ)
                    self._pending[connection] = b""
                else:
                    self._read(key.fileobj)  # type: ignore[arg-type]
            while self._later and self._later[0][0] <= time.perf_counter():
                _, _, connection, reply = heapq.heappop(self._later)
                self._write(connection, reply)

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
        reply = _HEAD % (status, len(reply)) + reply
        if self.round.delay_s and b"control" not in line and b"token" not in line:
            self._number += 1
            heapq.heappush(self._later, (time.perf_counter() + self.round.delay_s, self._number, connection, reply))
        else:
            self._write(connection, reply)

    def _write(self, connection: socket.socket, reply: bytes) -> None:
        with contextlib.suppress(OSError):
            connection.sendall(reply)

    def _handle(self, line: bytes, body: bytes) -> tuple[int, bytes]:
        method, target, _ = line.split(b" ", 2)
        current = self.round
        if method == b"GET" and b"/poll/" in target:
            current.polls += 1
            return self._hand_out(batch=b"/batch/" in target)
        if target.endswith((b"/tasks/external", b"/tasks", b"/update-v2")):
            if b'"IN_PROGRESS"' not in body:
                current.reported += 1
                current.times.append(time.perf_counter())
            return self._hand_out(batch=False) if target.endswith(b"v2") else (200, b"t-1")
        if b"token" in target:
            current.tokens += 1
            return 200, _TOKEN
        if target == b"/control":
            if method == b"POST":
                wanted = json.loads(body)
                self.round = Round(wanted["tasks"], wanted.get("delay_ms", 0.0), wanted.get("input"))
            return 200, json.dumps(self.round.summary()).encode()
        return 404, b'{"message":"No static resource","retryable":false}'

    def _hand_out(self, batch: bool) -> tuple[int, bytes]:
        task = self.round.task()
        if batch:
            return 200, b"[" + (task or b"") + b"]"
        return (204, b"") if task is None else (200, task)


if __name__ == "__main__":
    platform = Platform()
    print(platform.port, flush=True)
    try:
        platform.run()
    except KeyboardInterrupt:
        sys.exit(0)

# SPDX-License-Identifier: Apache-2.0
"""A gateway as the akaBot platform has one: its paths and tokens in front of a plain Conductor, and faults on order.

    GET  /api/tasks/external/poll/{agentId}   -> Conductor  GET  /api/tasks/poll/{taskType}
    POST /api/tasks/external                  -> Conductor  POST /api/tasks
    POST /realms/user-agent/protocol/openid-connect/token -> Keycloak, the same path
         /conductor/api/...                   -> Conductor  /api/..., no token asked: its own dialect, same faults

Each request has a route: ``poll``, ``report`` (a result or a hand-back), ``extend`` (a report with
``extendLease``), ``update-v2``, ``token``, ``other``. The faults are those of ``faults.py``; one that
struck is counted and stands in the log of requests.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import select
import socket
import socketserver
import struct
import sys
import threading
import time
from collections import Counter
from typing import Any, BinaryIO, Callable, NamedTuple

from .faults import BEFORE, Fault, Faults
from .http11 import Reply, Request, json_reply, read_request, render
from .tokens import TokenCheck

AKABOT_POLL = "/api/tasks/external/poll/"
AKABOT_REPORT = "/api/tasks/external"
OWN_DIALECT = "/conductor"
UPSTREAM_TIMEOUT_S = 60
TOKEN_PATH = "/realms/user-agent/protocol/openid-connect/token"


class Seen(NamedTuple):
    """One request, as the gateway answered it."""

    at_s: float  # monotonic, when it was read
    route: str
    path: str
    status: int  # of the reply that was ready; 0 when none was made
    fault: str | None
    task_id: str | None  # handed out by this poll, or reported
    result: str | None  # the status that was reported


class Gateway:
    """Serves from ``start`` to ``stop``, on the same port each time. Thread-safe."""

    def __init__(self, conductor_port: int, keycloak_port: int, check: TokenCheck, port: int = 0) -> None:
        self.conductor_port = conductor_port
        self.keycloak_port = keycloak_port
        self.check = check
        self.port = port
        self.stopping = threading.Event()
        self.faults = Faults()
        self.fault, self.plan, self.clear = self.faults.order, self.faults.plan, self.faults.clear
        self._server: _Server | None = None
        self._changed = threading.Condition()  # guards all below
        self._seen: list[Seen] = []
        self._counts: Counter[tuple[str, int, str | None]] = Counter()
        self.connections = 0

    @property
    def listening(self) -> bool:
        return self._server is not None

    @property
    def service_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/api"

    @property
    def auth_url(self) -> str:
        return f"http://127.0.0.1:{self.port}{TOKEN_PATH}"

    @property
    def conductor_url(self) -> str:
        return f"http://127.0.0.1:{self.port}{OWN_DIALECT}/api"

    def start(self) -> None:
        self.stopping.clear()
        self._server = _Server(self)
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.05,), name="gateway", daemon=True).start()

    def stop(self) -> None:
        """Refuses new connections and cuts the open ones: the platform is gone until ``start``."""
        server, self._server = self._server, None
        if server is not None:
            self.stopping.set()
            server.shutdown()
            server.server_close()
            server.cut()

    def seen(self, route: str | None = None) -> list[Seen]:
        with self._changed:
            return [one for one in self._seen if route in (None, one.route)]

    def forget(self) -> None:
        """Empties the log of requests and the counts."""
        with self._changed:
            self._seen.clear()
            self._counts.clear()

    def count(self, route: str | None = None, *, status: int | None = None, fault: str | None = None) -> int:
        """How many requests were answered so; None leaves a property open."""
        with self._changed:
            return sum(
                number
                for (of_route, of_status, of_fault), number in self._counts.items()
                if route in (None, of_route) and status in (None, of_status) and fault in (None, of_fault)
            )

    def wait_until(self, holds: Callable[[Gateway], bool], timeout_s: float) -> bool:
        """Waits for requests until ``holds(self)``; False when it does not within ``timeout_s``."""
        with self._changed:
            return self._changed.wait_for(lambda: holds(self), timeout_s)

    def record(self, seen: Seen) -> None:
        with self._changed:
            self._seen.append(seen)
            self._counts[(seen.route, seen.status, seen.fault)] += 1
            self._changed.notify_all()

    def connected(self) -> None:
        with self._changed:
            self.connections += 1


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True
    request_queue_size = 128

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self._lock = threading.Lock()  # guards _open
        self._open: set[socket.socket] = set()
        super().__init__(("127.0.0.1", gateway.port), _Connection)

    def opened(self, client: socket.socket) -> None:
        with self._lock:
            self._open.add(client)

    def closed(self, client: socket.socket) -> None:
        with self._lock:
            self._open.discard(client)

    def cut(self) -> None:
        with self._lock:
            for client in self._open:
                with contextlib.suppress(OSError):  # its other end was quicker
                    client.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exc_info()[1], OSError):  # a client that goes away is no news
            super().handle_error(request, client_address)


class _Connection(socketserver.BaseRequestHandler):
    """One client's connection, and its own to Conductor and Keycloak."""

    server: _Server
    request: socket.socket

    def handle(self) -> None:
        self.gateway = self.server.gateway
        self.upstreams: dict[int, http.client.HTTPConnection] = {}
        self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.server.opened(self.request)
        self.gateway.connected()
        reader = self.request.makefile("rb")
        try:
            while self._one(reader):
                pass
        finally:
            reader.close()
            self.server.closed(self.request)
            for upstream in self.upstreams.values():
                upstream.close()

    def _one(self, reader: BinaryIO) -> bool:
        """Answers one request; False when the connection ends with it."""
        request = read_request(reader, self.request)
        if request is None:
            return False
        at_s = time.monotonic()
        route, port, path, body = self._routed(request)
        fault = self.gateway.faults.drawn(route)
        name = fault.name if fault else None
        if fault is not None and name in BEFORE:
            reply = self._refused(fault)
        elif port == 0:
            missing = {"status": 404, "message": f"No static resource {request.path}.", "retryable": False}
            reply = json_reply(404, missing)
        else:
            refusal = self._token_refusal(request)
            reply = json_reply(401, {"error": refusal}) if refusal else self._exchange(port, path, request)
        task_id, result = body.get("taskId"), body.get("status")
        if route == "poll" and reply is not None and reply.status == 200:
            task_id = _task_id(reply.body)
        self.gateway.record(Seen(at_s, route, request.path, reply.status if reply else 0, name, task_id, result))
        return self._answer(reply, name, request.headers.get("connection", "").lower() != "close")

    def _routed(self, request: Request) -> tuple[str, int, str, dict[str, Any]]:
        """The request's route, the upstream's port (0: no such path) and path, and the report in its body."""
        method, path = request.method, request.path
        if method == "POST" and path == TOKEN_PATH:
            return "token", self.gateway.keycloak_port, path, {}
        port = self.gateway.conductor_port
        if path.startswith(OWN_DIALECT + "/api/"):
            path = path[len(OWN_DIALECT) :]
        elif method == "GET" and path.startswith(AKABOT_POLL):
            path = "/api/tasks/poll/" + path[len(AKABOT_POLL) :]
        elif method == "POST" and path == AKABOT_REPORT:
            path = "/api/tasks"
        else:
            return "other", 0, path, {}
        if method == "GET" and path.startswith("/api/tasks/poll/"):
            return "poll", port, path, {}
        if method == "POST" and path in ("/api/tasks", "/api/tasks/update-v2"):
            body = _object(request.body)
            if path.endswith("update-v2"):
                return "update-v2", port, path, body
            return ("extend" if body.get("extendLease") is True else "report"), port, path, body
        return "other", port, path, {}

    def _token_refusal(self, request: Request) -> str | None:
        if request.path == TOKEN_PATH or request.path.startswith(OWN_DIALECT):
            return None
        return self.gateway.check.refusal(request.headers.get("authorization", ""))

    def _refused(self, fault: Fault) -> Reply | None:
        if fault.name == "503":
            retry_after = [("Retry-After", fault.retry_after)] if fault.retry_after is not None else []
            return Reply(503, [("Content-Type", "text/html"), *retry_after], b"<html>Service Unavailable</html>")
        if fault.name == "401":
            return json_reply(401, {"error": "EXPIRED_TOKEN"})
        if fault.name == "hang":
            self.gateway.stopping.wait(fault.hang_s)
        return None

    def _exchange(self, port: int, path: str, request: Request) -> Reply:
        upstream = self.upstreams.get(port)
        if upstream is None or (upstream.sock and select.select([upstream.sock], [], [], 0)[0]):
            if upstream is not None:
                upstream.close()  # readable between two exchanges: closed by the other end
            upstream = http.client.HTTPConnection("127.0.0.1", port, timeout=UPSTREAM_TIMEOUT_S)
            self.upstreams[port] = upstream
        names = ("content-type", "accept") + (("authorization",) if port == self.gateway.keycloak_port else ())
        passed = {name: request.headers[name] for name in names if name in request.headers}
        try:
            if upstream.sock is None:
                upstream.connect()  # sets TCP_NODELAY
            upstream.request(request.method, path, request.body or None, passed)
            answer = upstream.getresponse()
            content = answer.read()
        except (OSError, http.client.HTTPException) as error:
            upstream.close()
            status = 504 if isinstance(error, socket.timeout) else 502
            return Reply(status, [("Content-Type", "text/html")], b"<html>The upstream server did not answer</html>")
        media_type = answer.getheader("Content-Type")
        return Reply(answer.status, [("Content-Type", media_type)] if media_type else [], content)

    def _answer(self, reply: Reply | None, fault: str | None, keep: bool) -> bool:
        """Sends the reply, or what the fault leaves of it; False when the connection is to be closed."""
        if fault in ("reset", "lost-reply"):
            self.request.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.server.closed(self.request)
            self.request.close()
            return False
        if reply is None:
            return False
        wire = render(reply, keep)
        if fault == "half-reply":
            cut = len(wire) - len(reply.body) // 2 if len(reply.body) > 1 else len(wire) // 2
            self.request.sendall(wire[:cut])
            return False
        self.request.sendall(wire)
        return keep


def _object(body: bytes) -> dict[str, Any]:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _task_id(body: bytes) -> str | None:
    if body.startswith(b"["):  # a batch poll's reply; of one task, as our workers ask
        body = body[1 : body.rfind(b"]")]
    return _object(body).get("taskId")

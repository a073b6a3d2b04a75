# SPDX-License-Identifier: Apache-2.0
"""The platform in a box as an HTTP server: both dialects, the token endpoint, and the sandbox's own API.

Loopback only, and only for programs of this machine: a Host that is not ours (DNS rebinding) and requests that a
browser makes for another site, or to poll, are refused. One daemon thread a connection.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from types import SimpleNamespace
from typing import Any, Callable
from urllib.parse import parse_qsl, unquote

from .. import forking
from ..conductor.reply import Response
from ..conductor.wire import LONG_POLL_MAX_MS, PLATFORM_AGENT_ID, PLATFORM_TASK_ID
from ..errors import NotFoundError, UsageError, UserAgentError
from .engine import Engine
from .exchange import Reply, Request, parse_object, serve
from .tasks import ReportRefused, describe

logger = logging.getLogger(__name__)

PLAIN_POLL_S = 0.1  # the real server holds a poll that asks for no time so long
CLIENT_ID = "sandbox"
TOKEN_LIFE_S: float = 300
ACCEPT_AGAIN_S = 0.05
CLOSE_S = 2.0  # for all threads together
_AKABOT = "/api/tasks/external"  # its dialect's paths, which need a token
_AUTH_PATH = "/realms/user-agent/protocol/openid-connect/token"

Handler = Callable[[Request, str], Reply]


class Sandbox:
    """An :class:`Engine` behind HTTP, as a context manager.

    ``port`` 0 takes a free one; ``client_secret`` is that of an earlier one, so that its workers go on. A subclass may
    wrap :meth:`handle`.
    """

    def __init__(self, port: int = 0, client_secret: str | None = None) -> None:
        self.engine = Engine()
        self.submit, self.wait = self.engine.submit, self.engine.wait
        self.port = port
        self._client_secret = client_secret or os.urandom(24).hex()
        self._connections: dict[socket.socket, threading.Thread] = {}  # connections that are still open
        self._closed = threading.Event()
        self._routes: dict[str, dict[str, Handler]] = {}
        self.route("GET", _AKABOT + "/poll/*", self._poll)
        self.route("POST", _AKABOT, self._report)
        self.route("GET", "/api/tasks/poll/*", self._poll)
        self.route("GET", "/api/tasks/poll/batch/*", self._poll_batch)
        self.route("GET", "/api/tasks/*", lambda request, last: Reply.of(self.engine.task(last)))
        self.route("POST", "/api/tasks", self._report)
        self.route("POST", "/api/tasks/update-v2", self._report_and_poll)
        self.route("POST", _AUTH_PATH, self._token)
        self.route("POST", "/api/sandbox/executions", self._submit)
        self.route("GET", "/api/sandbox/executions/*", self._execution)
        self.route("GET", "/api/sandbox/agents", lambda request, last: Reply.of(self.engine.agents()))

    def route(self, method: str, path: str, handler: Handler) -> None:
        """Answer ``path`` with ``handler(request, last)``, ``last`` being its last segment, decoded. A
        path that ends in "/*" stands for all with one segment there."""
        self._routes.setdefault(path, {})[method] = handler

    def __enter__(self) -> Sandbox:
        try:
            self._listener = forking.ours(socket.create_server(("127.0.0.1", self.port), backlog=128))
        except (OSError, OverflowError) as error:
            hints = ("another program may have it: choose one with --port, 0 for any",)
            raise UserAgentError(f"can't listen on port {self.port}: {error}", code="io", hints=hints) from None
        self.port = self._listener.getsockname()[1]
        self.origin = f"http://127.0.0.1:{self.port}"
        self.url = self.origin + "/api"  # the base URL of both dialects
        ports = (f":{self.port}", "") if self.port == 80 else (f":{self.port}",)  # browsers leave :80 out
        self._hosts = {host + port for host in ("127.0.0.1", "localhost") for port in ports}
        self._acceptor = threading.Thread(target=self._accept, name="sandbox-accept", daemon=True)
        self._acceptor.start()
        return self

    def credentials(self, agent_id: str) -> dict[str, str]:
        """What a ``credentials.json`` for this sandbox holds."""
        return {"clientId": CLIENT_ID, "clientSecret": self._client_secret, "agentId": agent_id,
                "serviceUrl": self.url, "authUrl": self.origin + _AUTH_PATH}  # fmt: skip

    def close(self, *_: object) -> None:
        """Stop listening, end every connection and its thread. May be called twice."""
        if self._closed.is_set() or not hasattr(self, "_acceptor"):
            return
        self._closed.set()
        self.engine.close()
        with suppress(OSError), socket.socket() as visitor:  # closing a listener ends its accept() not everywhere
            visitor.settimeout(1)
            visitor.connect(("127.0.0.1", self.port))
        deadline = time.monotonic() + CLOSE_S
        self._acceptor.join(CLOSE_S)
        self._listener.close()
        connections = self._connections.copy()
        for connection in connections:
            with suppress(OSError):  # the other side, or its thread, was faster
                connection.shutdown(socket.SHUT_RDWR)
            if os.name == "nt":  # on systems where shutdown() does not wake a thread that reads
                with suppress(OSError):
                    socket.close(connection.detach())
        for thread in connections.values():
            thread.join(max(0.0, deadline - time.monotonic()))

    __exit__ = close

    def _accept(self) -> None:
        while not self._closed.is_set():
            try:
                accepted = self._listener.accept()
            except OSError:  # the client has left already, or descriptors have run out
                self._closed.wait(ACCEPT_AGAIN_S)
                continue
            forking.ours(accepted[0])
            thread = threading.Thread(target=self._serve, args=accepted, name="sandbox-connection", daemon=True)
            self._connections[accepted[0]] = thread
            try:
                thread.start()
            except RuntimeError:  # no thread can be started: turn this client away, and go on accepting
                del self._connections[accepted[0]]
                accepted[0].close()
                self._closed.wait(ACCEPT_AGAIN_S)

    def _serve(self, connection: socket.socket, address: object) -> None:
        with suppress(OSError), connection:  # the client may go away
            serve(connection, self.handle)
        del self._connections[connection]

    def handle(self, request: Request) -> Reply | None:
        """The reply to a request; None hangs up without one."""
        try:
            return self._guard(request) or self._dispatch(request)
        except ReportRefused as error:
            return Reply.error(error.http_status, error.message)
        except (UsageError, NotFoundError) as error:
            return Reply.error(400 if isinstance(error, UsageError) else 404, error.message)
        except Exception:
            logger.exception("the sandbox failed to answer %s %s", request.method, request.path,
                             extra={"action": "sandbox_error"})  # fmt: skip
            return Reply.of({"status": 500, "message": "a bug in the sandbox"}, 500)

    def _guard(self, request: Request) -> Reply | None:
        headers = request.headers
        if headers.get("host", "").lower() not in self._hosts:
            return Reply.error(421, "this server answers to the host 127.0.0.1 only")
        origin, site = headers.get("origin"), headers.get("sec-fetch-site")
        # "same-site" is a page of another port of this machine.
        if site in ("cross-site", "same-site") or (origin and origin.partition("//")[2] not in self._hosts):
            return Reply.error(403, "pages of other sites may not use this server")
        if "/poll/" in request.path and (site or headers.get("user-agent", "").startswith("Mozilla/")):
            return Reply.error(403, "a poll takes a task: that is for workers, not for browsers")
        return None

    def _dispatch(self, request: Request) -> Reply:
        path = request.path
        if "%2f" in path.lower():  # as Conductor's Tomcat does
            return Reply(400, b"<!doctype html><title>400</title><h1>HTTP Status 400</h1>", "text/html")
        parent, _, last = path.rpartition("/")
        methods = self._routes.get(path) or (self._routes.get(parent + "/*") if last else None)
        if methods is None:
            return Reply.error(404, f"No static resource {path.lstrip('/')}.")
        handler = methods.get(request.method)
        if handler is None:
            return Reply.error(405, f"Request method '{request.method}' is not supported")
        if request.method == "POST" and path != _AUTH_PATH:
            media_type = request.headers.get("content-type", "")
            if media_type.partition(";")[0].strip().lower() != "application/json":
                return Reply.error(500, f"Content-Type '{media_type}' is not supported")
        return (path.startswith(_AKABOT) and self._unauthorized(request)) or handler(request, unquote(last))

    def _poll(self, request: Request, agent_id: str) -> Reply:
        tasks = self._take(request, agent_id, PLAIN_POLL_S, 1)
        if not tasks:
            return Reply(204)
        if request.path.startswith(_AKABOT):
            keys = {PLATFORM_TASK_ID: tasks[0]["workflowInstanceId"], PLATFORM_AGENT_ID: agent_id.partition("#")[0]}
            tasks[0]["inputData"] = {**keys, **tasks[0]["inputData"]}
        return Reply.of(tasks[0])

    def _poll_batch(self, request: Request, agent_id: str) -> Reply:
        timeout_ms = request.number("timeout", 100)
        if timeout_ms > LONG_POLL_MAX_MS:
            raise ReportRefused(400, "Long Poll Timeout value cannot be more than 5 seconds")
        return Reply.of(self._take(request, agent_id, timeout_ms / 1000, request.number("count", 1)))

    def _take(self, request: Request, agent_id: str, wait_s: float, count: int) -> list[dict[str, Any]]:
        query = request.query
        return self.engine.poll(agent_id, query.get("workerid"), query.get("domain"), wait_s=wait_s, count=count)

    def _report(self, request: Request, _: str) -> Reply:
        report = parse_object(request.body)
        self.engine.update(report, len(request.body))
        return Reply(200, report["taskId"].encode(), "text/plain;charset=UTF-8")

    def _report_and_poll(self, request: Request, _: str) -> Reply:
        """The next task of the reported one's agent and domain, unless that goes on: for a late report too, as the
        real server does, so a repeated call takes one task more."""
        report = parse_object(request.body)
        over = self.engine.update(report, len(request.body))
        tasks = self.engine.poll(over.agent_id, report.get("workerId"), over.domain) if over else []
        return Reply.of(tasks[0]) if tasks else Reply(204)

    def _submit(self, request: Request, _: str) -> Reply:
        """``{agentId, input, domain, retries, retryDelaySeconds, responseTimeoutSeconds}``, the first needed. The
        domain is else the one in which workers poll for the agent, if there is but one."""
        wanted = parse_object(request.body)
        names = {"domain": "domain", "retries": "retries", "retryDelaySeconds": "retry_delay_s",
                 "responseTimeoutSeconds": "response_timeout_s"}  # fmt: skip
        policy = {name: wanted[key] for key, name in names.items() if wanted.get(key) is not None}
        agent_id = wanted.get("agentId", "")
        polled = [one["domain"] for one in self.engine.agents() if one["polledTime"] and one["agentId"] == agent_id]
        if len(polled) == 1:
            policy.setdefault("domain", polled[0])
        try:
            execution_id = self.engine.submit(agent_id, wanted.get("input", {}), **policy)
        except TypeError as error:  # text where a number belongs
            raise UsageError(f"not a task: {error}") from None
        return Reply.of({"id": execution_id}, 201)

    def _execution(self, request: Request, execution_id: str) -> Reply:
        execution = self.engine.wait(execution_id, min(request.number("wait_ms", 0), 60_000) / 1000)
        return Reply.of(describe(execution, self.engine.clock()))

    def _token(self, request: Request, _: str) -> Reply:
        form = dict(parse_qsl(request.body.decode("utf-8", "replace")))
        if form.get("grant_type") != "client_credentials":
            return Reply.of({"error": "unsupported_grant_type", "error_description": "Unsupported grant_type"}, 400)
        if form.get("client_id") != CLIENT_ID:
            return Reply.of({"error": "invalid_client", "error_description": "Invalid client credentials"}, 401)
        if self._seal(form.get("client_secret", "")) != self._seal(self._client_secret):
            return Reply.of({"error": "unauthorized_client", "error_description": "Invalid client credentials"}, 401)
        claim = f"{os.urandom(16).hex()}.{self.engine.clock() + TOKEN_LIFE_S}"
        token = f"{claim}.{self._seal(claim)}"
        return Reply.of({"access_token": token, "expires_in": TOKEN_LIFE_S, "token_type": "Bearer"})

    def _unauthorized(self, request: Request) -> Reply | None:
        kind, _, token = request.headers.get("authorization", "").partition(" ")
        claim, _, seal = token.rpartition(".")
        if kind.lower() != "bearer" or self._seal(seal) != self._seal(self._seal(claim)):
            return Reply.of({"error": "INVALID_TOKEN"}, 401)
        ends = float(claim.partition(".")[2])
        return Reply.of({"error": "EXPIRED_TOKEN"}, 401) if ends <= self.engine.clock() else None

    def _seal(self, claim: str) -> str:
        """The signature that makes a claim our token: a sandbox with the same secret knows the token too. What others
        send is compared by its seal, of which they can't learn a part by the time that it takes."""
        import hashlib  # urllib has loaded it
        key = self._client_secret.encode()
        once = hashlib.sha256(key + claim.encode()).digest()
        return hashlib.sha256(key + once).hexdigest()  # twice: of a hash that was made once a longer one can be made


class Inside(Sandbox):
    """A sandbox without a port, which stands in for a Transport in its own process: no socket, no token. A request is
    handled when its reply is fetched, by the thread that fetches."""

    def send(self, method: str, url: str, *, headers: Mapping[str, str], body: bytes | None, **limits: float) -> Any:
        path, _, query = url.partition("?")
        fields = {name.lower(): value for name, value in headers.items()}
        request = Request(method, path, dict(parse_qsl(query)), fields, body or b"")

        def fetch() -> Response:
            reply: Any = self.handle(request)  # which hangs up on nobody
            return Response(reply.status, {"content-type": reply.media_type}, reply.body)

        return SimpleNamespace(fetch=fetch, age_s=0.0, sent_at=float("inf"))  # it is handled as it is fetched

    def check(self, request: object) -> None:
        """Nothing is wrong with any address, nor with any request: nobody else can send one."""

    _guard = _unauthorized = check

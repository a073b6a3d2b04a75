# SPDX-License-Identifier: Apache-2.0
"""The real platform on loopback: Conductor OSS, Keycloak, and the gateway that makes them one akaBot platform.

    with Stack() as stack:                                   # about a minute: two JVMs boot
        agent_id = "00000000-0000-0000-0000-000000000001#user-agent"
        stack.register_task(agent_id, retry_count=1, response_timeout_s=5)
        stack.register_workflow("sum", [agent_id], inputs=["a", "b"])
        workflow_id = stack.start_workflow("sum", {"a": 1, "b": 2})
        credentials = stack.credentials(agent_id)            # write as credentials.json, run a worker with it
        workflow = stack.wait(workflow_id, timeout_s=30)     # workflow["status"], workflow["tasks"][0]["outputData"]
        stack.gateway.fault("lost-reply", route="report")    # see gateway.py for the faults
        stack.restart_conductor(kill=True)                   # same port, same data

``stack.conductor_url`` is the plain Conductor; ``stack.gateway.conductor_url`` the same dialect with the gateway's
faults. Tests take the one stack of their process from ``tests.real``.
"""

from __future__ import annotations

import http.client
import json
import shutil
import tempfile
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Callable

from . import servers
from .gateway import TOKEN_PATH, Gateway
from .tokens import TokenCheck

LIFESPANS_S = (300, 20, 3)  # one client for each: how long its tokens live
SECRET = "the secret of a test"
STRANGER = "stranger"  # a client of the realm that the gateway does not serve
ENDED = ("COMPLETED", "FAILED", "TIMED_OUT", "TERMINATED")
CALL_TIMEOUT_S = 60


class ApiError(Exception):
    """Conductor refused a call of the test's own."""

    def __init__(self, status: int, body: bytes) -> None:
        super().__init__(f"HTTP {status}: {body[:500].decode('utf-8', 'replace')}")
        self.status = status


class Stack:
    """Both servers and the gateway, from ``start`` to ``stop``; all files are in one temporary folder."""

    def __init__(self, *, indexing: bool = True, version: str = servers.VERSION, keycloak: bool = True) -> None:
        """``indexing=False`` is about twice as fast and keeps no task logs. ``version`` is a key of RELEASES. Without
        ``keycloak`` there are no tokens, and only Conductor's own dialect."""
        self.version = version
        self._has_keycloak = keycloak
        self._indexing = indexing
        self._folder: Path | None = None

    def start(self) -> None:
        """Boots everything. Raises servers.ServerError, with nothing left running."""
        self._folder = Path(tempfile.mkdtemp(prefix="real-stack-"))
        try:
            conductor_port, keycloak_port = servers.free_port(), servers.free_port()
            clients = {self.client_id(lifespan_s): (SECRET, lifespan_s) for lifespan_s in LIFESPANS_S}
            self._realm_url = f"http://127.0.0.1:{keycloak_port}/realms/{servers.REALM}"
            self.conductor_url = f"http://127.0.0.1:{conductor_port}/api"
            self.redis_port = self._start_redis()
            self.conductor = servers.conductor(
                self._folder / "conductor",
                conductor_port,
                indexing=self._indexing,
                version=self.version,
                redis=(self.redis_port, self.version) if self.redis_port else None,
            )
            self.conductor.start()
            if self._has_keycloak:
                self.keycloak = servers.keycloak(self._folder, keycloak_port, {**clients, STRANGER: (SECRET, 300)})
                self.keycloak.start()
            self.gateway = Gateway(conductor_port, keycloak_port, TokenCheck(self.jwks, self._realm_url, set(clients)))
            self.gateway.start()
            self.conductor.wait_ready()
            self._warm_up()
            if self._has_keycloak:
                self.keycloak.wait_ready()
                servers.keep_keycloak(self._folder / "keycloak")
                self.token()
        except BaseException:
            self.stop()
            raise

    def _start_redis(self) -> int:
        """The port of the Redis that the release keeps its data in; 0 for one that needs none."""
        assert self._folder is not None
        if servers.RELEASES[self.version].store != "Redis":
            return 0
        port = servers.free_port()
        self.redis = servers.redis(self._folder / "redis", port)
        self.redis.start()
        self.redis.wait_ready()
        return port

    def _warm_up(self) -> None:
        """One task by hand: in a cold JVM the first call of each kind takes up to two seconds, a short lease."""
        self.register_task("warm-up")
        self.register_workflow("warm-up", ["warm-up"])
        workflow_id = self.start_workflow("warm-up")
        task: dict[str, Any] = {}

        def polled() -> bool:
            task.update(self.api("GET", "/tasks/poll/warm-up?workerid=warm-up") or {})
            return bool(task)

        if not wait_until(polled, 30):
            raise servers.ServerError("Conductor is up, and hands out no task")
        result = {"workflowInstanceId": workflow_id, "taskId": task["taskId"], "status": "COMPLETED", "outputData": {}}
        self.api("POST", "/tasks", result)
        self.wait(workflow_id)

    def stop(self) -> None:
        for name in ("gateway", "conductor", "keycloak", "redis"):
            part = self.__dict__.get(name)
            if part is not None:
                part.stop()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    def __enter__(self) -> Stack:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop_conductor(self, *, kill: bool = False) -> None:
        """The gateway answers 502 until ``start_conductor``. ``kill``: by SIGKILL, as a crash."""
        self.conductor.stop(kill=kill)

    def start_conductor(self) -> None:
        self.conductor.start()
        self.conductor.wait_ready()
        self._warm_up()

    def restart_conductor(self, *, kill: bool = False) -> None:
        """Same port, same data."""
        self.stop_conductor(kill=kill)
        self.start_conductor()

    @staticmethod
    def client_id(lifespan_s: int = 300) -> str:
        """The client whose tokens live that long (one of ``LIFESPANS_S``)."""
        if lifespan_s not in LIFESPANS_S:
            raise ValueError(f"tokens live for one of {LIFESPANS_S} s, not {lifespan_s}")
        return f"agent-{lifespan_s}s"

    @property
    def client_secret(self) -> str:
        return SECRET

    @property
    def token_url(self) -> str:
        """Keycloak's own; ``gateway.auth_url`` is the same through the gateway."""
        return self._realm_url + TOKEN_PATH[len(f"/realms/{servers.REALM}") :]

    def credentials(self, agent_id: str, *, lifespan_s: int = 300) -> dict[str, str]:
        """The content of a credentials.json that points at the gateway."""
        return {
            "clientId": self.client_id(lifespan_s),
            "clientSecret": SECRET,
            "agentId": agent_id,
            "serviceUrl": self.gateway.service_url,
            "authUrl": self.gateway.auth_url,
        }

    def token(self, *, client_id: str | None = None) -> str:
        """An access token, straight from Keycloak."""
        form = {"grant_type": "client_credentials", "client_id": client_id or self.client_id(), "client_secret": SECRET}
        return str(_get(self.token_url, urllib.parse.urlencode(form).encode("ascii"))["access_token"])

    def jwks(self) -> dict[str, Any]:
        """The public keys of Keycloak's realm."""
        return _get(f"{self._realm_url}/protocol/openid-connect/certs")

    def api(self, method: str, path: str, body: object = None) -> Any:
        """One call of Conductor itself, such as ``api("GET", "/tasks/ID")``; the reply's JSON, or its text.

        Raises ApiError for a status of 400 or more, OSError or HTTPException when Conductor is away.
        """
        url = urllib.parse.urlsplit(self.conductor_url)
        connection = http.client.HTTPConnection("127.0.0.1", url.port or 0, timeout=CALL_TIMEOUT_S)
        try:
            content = None if body is None else json.dumps(body).encode("utf-8")
            connection.request(method, url.path + path, content, {"Content-Type": "application/json"})
            reply = connection.getresponse()
            answer = reply.read()
        finally:
            connection.close()
        if reply.status >= 400:
            raise ApiError(reply.status, answer)
        if "json" in (reply.getheader("Content-Type") or ""):
            return json.loads(answer) if answer else None
        return answer.decode("utf-8")

    def register_task(
        self,
        name: str,
        *,
        retry_count: int = 0,
        retry_delay_s: int = 0,
        response_timeout_s: int = 60,
        timeout_s: int = 3600,
    ) -> None:
        """A task definition; ``name`` is the agent id. ``timeout_s`` bounds the whole task, 0 does not."""
        definition = {
            "name": name,
            "ownerEmail": "tests@example.com",
            "retryCount": retry_count,
            "retryLogic": "FIXED",
            "retryDelaySeconds": retry_delay_s,
            "responseTimeoutSeconds": response_timeout_s,
            "timeoutSeconds": timeout_s,
            "timeoutPolicy": "RETRY",
        }
        self.api("POST", "/metadata/taskdefs", [definition])

    def register_workflow(self, name: str, tasks: Sequence[str], *, inputs: Sequence[str] = ()) -> None:
        """One task after the other; each gets the workflow's input under the names in ``inputs``."""
        definition = {
            "name": name,
            "version": 1,
            "schemaVersion": 2,
            "ownerEmail": "tests@example.com",
            "timeoutPolicy": "ALERT_ONLY",
            "timeoutSeconds": 0,
            "tasks": [
                {
                    "name": task,
                    "taskReferenceName": f"step_{number}",
                    "type": "SIMPLE",
                    "inputParameters": {key: "${workflow.input." + key + "}" for key in inputs},
                }
                for number, task in enumerate(tasks, 1)
            ],
        }
        self.api("PUT", "/metadata/workflow", [definition])

    def start_workflow(self, name: str, input_data: Mapping[str, Any] | None = None) -> str:
        """The id of the new workflow."""
        return str(self.api("POST", f"/workflow/{urllib.parse.quote(name, safe='')}", dict(input_data or {})))

    def workflow(self, workflow_id: str) -> dict[str, Any]:
        """The workflow as Conductor has it, ``tasks`` and their tries included."""
        found = self.api("GET", f"/workflow/{workflow_id}?includeTasks=true")
        assert isinstance(found, dict)
        return found

    def task_logs(self, task_id: str) -> list[str]:
        """The lines that were reported for a task, in order. The index takes them a moment after the report."""
        return [line["log"] for line in self.api("GET", f"/tasks/{task_id}/log") or []]

    def wait(self, workflow_id: str, *, timeout_s: float = 30.0) -> dict[str, Any]:
        """The workflow once it has ended, however it did; AssertionError when it has not within ``timeout_s``."""
        ended = lambda: self.api("GET", f"/workflow/{workflow_id}?includeTasks=false")["status"] in ENDED  # noqa: E731
        if not wait_until(ended, timeout_s):
            tasks = [(task["status"], task["taskId"]) for task in self.workflow(workflow_id)["tasks"]]
            raise AssertionError(f"workflow {workflow_id} has not ended after {timeout_s} s: {tasks}")
        return self.workflow(workflow_id)


def wait_until(holds: Callable[[], object], timeout_s: float, *, step_s: float = 0.1) -> bool:
    """Asks ``holds`` again and again; while Conductor is away the answer is no."""
    deadline = time.monotonic() + timeout_s
    never = threading.Event()
    while True:
        try:
            if holds():
                return True
        except (OSError, http.client.HTTPException):
            pass
        if time.monotonic() > deadline:
            return False
        never.wait(step_s)


def _get(url: str, form: bytes | None = None) -> dict[str, Any]:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(url, form, timeout=CALL_TIMEOUT_S) as reply:
        value = json.loads(reply.read())
    assert isinstance(value, dict)
    return value

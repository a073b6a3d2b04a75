# SPDX-License-Identifier: Apache-2.0
"""Task definitions of a Conductor server: how often the platform retries a task type, and how long it waits."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from .. import logs
from ..errors import PlatformError
from .client import Client, Exchange
from .paths import segment
from .reply import Response
from .wire import Verdict, classify, encode, is_web_page, json_object

CALL_TIMEOUT_S = 15.0
NOBODY = "useragent-check"  # an id that no task and no task type has
RETRIES = 3  # the server's own default
RESPONSE_TIMEOUT_S = 300.0  # Conductor's default is an hour, for which a crashed worker's task would wait
OWNER = "user-agent@localhost"  # the server wants an e-mail address; nothing is sent to this one
_PATH, _TASKS = "/metadata/taskdefs", "/tasks"
_KEPT_BY_SERVER = {"createTime", "updateTime", "createdBy", "updatedBy"}


class RefusedError(PlatformError):
    """The server has answered, and another try would get the same answer."""


def described(
    name: str, retries: int | None = None, response_timeout_s: float | None = None, timeout_s: float | None = None
) -> dict[str, Any]:
    """The definition of a task type whose decorator says so; what it leaves open gets a default. The platform's limit
    for a whole run lies one response timeout behind the worker's own, which says why."""
    response_s = math.ceil(response_timeout_s or RESPONSE_TIMEOUT_S)
    return {
        "name": name,
        "ownerEmail": OWNER,
        "retryCount": RETRIES if retries is None else retries,
        "retryLogic": "FIXED",
        "retryDelaySeconds": 1,
        "responseTimeoutSeconds": response_s,
        "timeoutSeconds": math.ceil(timeout_s) + response_s if timeout_s is not None else 0,
        "timeoutPolicy": "RETRY",
    }


def find(client: Client, name: str, limit_s: float | None = None) -> dict[str, Any] | None:
    """The server's definition of a task type; None when it has none. Raises PlatformError."""
    reply, is_route = _ask(client, _PATH, name, limit_s)
    if reply.status == 404 and is_route:
        return None
    if not (found := json_object(_good(reply).body)):  # a gateway's login page, say: what is there must not be replaced
        raise RefusedError("the reply is no task definition")
    return found


def is_elsewhere(client: Client) -> bool:
    """Whether the address is not the API's: neither of two routes is there, of which a gateway may keep one back."""
    with suppress(PlatformError):
        return not any(_ask(client, path, NOBODY)[1] for path in (_PATH, _TASKS))
    return False


def _ask(client: Client, path: str, name: str, limit_s: float | None = None) -> tuple[Response, bool]:
    """The reply, and whether such a route may be there. Who has none shows a web page, names the path, or says 404
    without the name. Raises PlatformError."""
    reply = Exchange(client, f"{path}/{segment(name)}", None, limit_s or CALL_TIMEOUT_S).receive()
    said = str(json_object(reply.body).get("message", ""))
    is_named = f"{path[1:]}/" not in said and (reply.status != 404 or name in said)
    return reply, is_named and not (reply.status == 200 and is_web_page(reply.media_type, reply.body))


def create(client: Client, definition: Mapping[str, Any], limit_s: float | None = None) -> None:
    """Make a definition that :func:`find` did not find: one that is there would be replaced. Raises PlatformError."""
    _good(Exchange(client, _PATH, encode([definition]), limit_s or CALL_TIMEOUT_S).receive())


def command(service_url: str, definition: Mapping[str, Any], *, is_new: bool) -> str:
    """A POSIX shell's command that makes the definition, or replaces the present one."""
    shown = {
        key: value for key, value in definition.items() if key not in _KEPT_BY_SERVER and value not in (None, [], {})
    }
    body = encode([shown] if is_new else shown).decode("utf-8").replace("'", "'\\''")
    method = "POST" if is_new else "PUT"
    return f"curl -X {method} {service_url}{_PATH} -H 'Content-Type: application/json' -d '{body}'"


def _good(reply: Response) -> Response:
    if not 200 <= reply.status < 300:
        verdict, reason = classify(reply.status, reply.media_type, reply.body)
        error = RefusedError if verdict in (Verdict.REFUSED, Verdict.AUTH) else PlatformError
        raise error(f"the task definitions can't be read or written: {logs.redactor.brief(reason)}")
    return reply

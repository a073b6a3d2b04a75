# SPDX-License-Identifier: Apache-2.0
"""What a Conductor server must know of an agent's task type: ``check`` looks, ``run --register`` makes the missing."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..agents import Agent
from ..conductor import definitions
from ..conductor.client import Client
from ..conductor.transport import Transport
from ..conductor.wire import encode, json_object
from ..errors import PlatformError
from ..logs import redactor
from ..settings import AgentSettings, Settings
from ..worker.polling.backoff import CAP_S

if TYPE_CHECKING:
    from ..worker.runner import Runner

logger = logging.getLogger(__name__)

SHOWN_MAX_CHARS = 4096  # of a command
LONG_WAIT_S = 1800  # a crashed worker's task waits so long: more is seldom meant
SHORT_LEASE_S = 5  # below this, one lost extension or a short outage gives the task to another worker
ODD = 1e9  # a number of this size, or one that is none, is as good as absent
START_LOOK_S = 3.0  # for a look that a start makes unasked, or upkeep: they must not wait for a server that hangs
LOOK_AGAIN_S = 0.5  # while no poll was answered; after that each look without an answer doubles it, up to 30 s
Found = tuple[str, str, "str | None"]  # (ok, warn or FAIL; the finding; the remedy)


def health(transport: Transport, service_url: str, timeout_s: float) -> Iterator[Found]:
    """A row with the server's health; none where a gateway does not let ``/health`` through."""
    url = service_url[: -len("/api")] + "/health" if service_url.endswith("/api") else ""
    try:
        reply = transport.send("GET", url, headers={}, timeout_s=timeout_s).fetch() if url else None
    except PlatformError:
        return  # the service itself has answered
    said = json_object(reply.body).get("healthy") if reply is not None else None
    if said is True:
        yield "ok", f"{url} says it is healthy", None
    elif said is False:
        yield "warn", f"{url} says it is not healthy", "look at the server's own log and at its database"


def findings(client: Client, settings: Settings, agents: Sequence[Agent]) -> Iterator[Found]:
    """About each agent's definition. Raises PlatformError."""
    for agent in agents:
        own = settings.resolve(agent)
        name = own.agent_id or agent.name
        found = definitions.find(client, name)
        if found is None:
            new = definitions.command(settings.service_url, _described(agent, own), is_new=True)
            yield "FAIL", f"task type {name} has no definition", f"start with run --register, or: {new}"
            continue
        says = f"response timeout {found.get('responseTimeoutSeconds')} s, retries {found.get('retryCount')}"
        if found.get("rateLimitPerFrequency"):
            per_s = found.get("rateLimitFrequencyInSeconds")
            says += f", at most {found['rateLimitPerFrequency']} given out each {per_s} s"
        yield "ok", f"task type {name} is defined: {redactor.brief(says)}", None
        for what, changes in _doubts(found, own):
            try:
                mended = definitions.command(settings.service_url, {**found, **changes}, is_new=False)
            except (ValueError, RecursionError):  # what else is in the definition is more than our JSON can hold
                mended = f"set {encode(changes).decode()} in its definition"
            yield "warn", f"task type {name}: {redactor.brief(what)}", redactor.brief(mended, SHOWN_MAX_CHARS)


def _doubts(found: Mapping[str, Any], own: AgentSettings) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each value of a definition that is seldom meant, and a better one."""

    def of(field: str) -> float:
        value = found.get(field)
        return value if isinstance(value, (int, float)) and 0 <= value < ODD else 0

    lease_s, limit_s = of("responseTimeoutSeconds"), of("timeoutSeconds")
    sane = {"responseTimeoutSeconds": int(min(definitions.RESPONSE_TIMEOUT_S, limit_s or float("inf")))}
    if not lease_s or lease_s > LONG_WAIT_S:
        wait = f"only after {lease_s:g} s" if lease_s else "never"
        yield f"what a crashed worker held is given to another {wait}", sane
    elif lease_s < SHORT_LEASE_S and (not limit_s or limit_s > lease_s):
        yield f"a response timeout of {lease_s:g} s is short: an outage of that length runs its tasks twice", sane
    if own.timeout_s is not None and 0 < limit_s < own.timeout_s:
        what = f"the platform gives a run {limit_s:g} s, the agent's timeout_s is {own.timeout_s:g} s"
        yield what, {"timeoutSeconds": definitions.described("", timeout_s=own.timeout_s)["timeoutSeconds"]}
    if not of("retryCount"):
        what = "a failed task is not tried again, not even after a crash of its worker"
        yield what, {"retryCount": definitions.RETRIES}
    if 0 < of("concurrentExecLimit") < own.workers:
        what = f"{own.workers} workers here, and the platform lets {of('concurrentExecLimit'):g} run at a time"
        yield what, {"concurrentExecLimit": own.workers}


def register(runner: Runner, settings: Settings, agents: Sequence[Agent]) -> None:
    """With --register make the missing definitions, change none, and log what was done; without it only say which are
    missing: the server answers polls for any. One that can't be made or looked at stops nobody: from the first agent
    without an answer on, the upkeep thread looks again, one agent a turn, once the platform has answered a poll."""
    left, pause_s = list(agents), LOOK_AGAIN_S

    def look_again() -> float | None:
        nonlocal pause_s
        if all(gate.polled_at is None for gate in runner.gates):
            return LOOK_AGAIN_S
        try:
            _look(runner.client, settings, left[0], START_LOOK_S)
        except PlatformError:
            left.append(left.pop(0))
            pause_s = min(2 * pause_s, CAP_S)
            return pause_s
        del left[0]
        return 0.0 if left else None

    try:
        while left:
            _look(runner.client, settings, left[0], None if settings.register else START_LOOK_S)
            del left[0]
    except PlatformError as error:
        if settings.register:  # else the polls will tell
            names = ", ".join(settings.resolve(agent).agent_id or agent.name for agent in left)
            logger.warning("Task types not registered yet: %s (%s); trying again", names, error, extra=_REGISTER)
        runner.services.upkeep.put(look_again, LOOK_AGAIN_S)


def _look(client: Client, settings: Settings, agent: Agent, limit_s: float | None) -> None:
    """See to one agent's definition. Raises PlatformError when no answer came that will last."""
    own = settings.resolve(agent)
    name = own.agent_id or agent.name
    try:
        is_missing = definitions.find(client, name, limit_s) is None
        if is_missing and settings.register:
            wanted = _described(agent, own)
            definitions.create(client, wanted, limit_s)
            text = "Task type %s is defined now: response timeout %g s, retries %d"
            logger.info(text, name, wanted["responseTimeoutSeconds"], wanted["retryCount"], extra=_REGISTER)
        elif is_missing:
            logger.warning("Task type %s has no definition: run --register makes one", name, extra=_REGISTER)
        elif settings.register:
            logger.info("Task type %s is defined: it is left as it is", name, extra=_REGISTER)
    except definitions.RefusedError as error:
        if settings.register:
            logger.warning("Task type %s could not be registered: %s", name, error, extra=_REGISTER)


def _described(agent: Agent, own: AgentSettings) -> dict[str, Any]:
    return definitions.described(own.agent_id or agent.name, agent.retries, agent.response_timeout_s, own.timeout_s)


_REGISTER = {"action": "register"}

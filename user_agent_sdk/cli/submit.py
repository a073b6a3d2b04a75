# SPDX-License-Identifier: Apache-2.0
"""``useragent submit``: put a task on a sandbox of this machine, and wait for its end."""

from __future__ import annotations

import json
import threading
import time
from argparse import Namespace
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Callable
from urllib.parse import urlsplit

from .. import credentials
from ..conductor.paths import segment
from ..conductor.transport import Transport, TransportError, is_loopback
from ..conductor.wire import encode
from ..errors import ConfigError, PlatformError, UsageError, UserAgentError, nearest
from ..logs import counted, escape, redactor
from ..settings import Settings
from ..values import number, parsed
from . import embedded, options, terminal
from .options import Parser

LOOK_S = 0.75  # a request waits so long: on Windows Ctrl+C ends no wait sooner
TIMEOUT_S = 30.0
FIRST_POLL_S = 2.0
UNPOLLED_S = 1.5  # after so long, with Python's start 2 s, say that no worker has polled


def configure(parser: Parser) -> None:
    parser.show_examples("-i input.json", "-a sum_agent -i input.json --wait 120")
    group = parser.titled("task")
    text = "a file, - for stdin, or JSON (default: {})"
    group.add_argument("-i", "--input", metavar="INPUT", default="{}", help=text)
    group.add_argument("-a", "--agent-id", metavar="ID", help="whose task it is (else the one agent that the sandbox"
                       " knows, else the credentials' agentId)")  # fmt: skip
    more = "wait that long for the output; 0 = print the execution's id and don't wait (default: 30)"
    group.add_argument("--wait", metavar="S", default="30", help=more)
    group = parser.titled("sandbox")
    group.add_argument("--url", help="its address (else a credentials file that points at one, else port 8088)")
    group.add_argument("-c", "--config-file", metavar="FILE", help="credentials file to use")


def main(args: Namespace) -> None:
    wait_s = parsed(number(0, 10**6, "seconds"), args.wait, "--wait", UsageError)
    given = embedded.read_input(args.input)
    settings = _settings(args)
    origin = _origin(args, settings)
    try:
        answer = _answer(partial(_ask, Transport(), origin), settings, given, wait_s, args.wait, origin)
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError):  # of fields that it lacks, or others
        raise _no_sandbox(origin, "its JSON is another program's") from None
    if wait_s:
        terminal.write_json(answer)
    else:
        terminal.write(answer)


def _answer(ask: Callable[..., Any], settings: Settings, given: object, wait_s: float, wait: str, origin: str) -> Any:
    """The task's output; the execution's id where nobody waits. Raises UserAgentError for a task that did not complete,
    and what comes of an answer that no sandbox gives."""
    agent_id = settings.agent_id
    if not agent_id or settings.sources["agent_id"].startswith("agentId in "):
        agent_id = _agent(ask, agent_id)
    execution_id = ask("POST", "executions", {"agentId": agent_id, "input": given, "domain": settings.domain})["id"]
    if not execution_id.replace("-", "").isalnum():
        raise ValueError("no id of a sandbox")
    if not wait_s:
        return execution_id
    page = f"{origin}/#{execution_id}"
    execution = _awaited(ask, execution_id, wait_s, page)
    if execution["status"] != "COMPLETED":
        raise _failure(execution, page, wait)
    return execution["output"]


def _settings(args: Namespace) -> Settings:
    """With the credentials, if there are any; those that can't be used matter only when no --url is given."""
    try:
        return options.prepare(args, target=True)
    except ConfigError as error:
        if args.config_file or not (args.url or error.code == "config-missing"):
            raise
    return options.prepare(args, target=False)


def _origin(args: Namespace, settings: Settings) -> str:
    """The sandbox's address: on this machine, even when the settings name another host."""
    given = args.url
    if given:
        given = parsed(credentials.url, given if "://" in given else f"http://{given}", "--url", UsageError)
        if not is_loopback(urlsplit(given).hostname or ""):
            hints = ["a sandbox listens on 127.0.0.1 only; tasks reach the real platform through its own workflows"]
            raise UsageError(f"--url {given} is not on this machine", hints=hints)
    elif is_loopback(urlsplit(settings.service_url).hostname or ""):
        given = settings.service_url
    parts = urlsplit(given or f"http://127.0.0.1:{embedded.SANDBOX_PORT}")
    return f"{parts.scheme}://{parts.netloc}"


def _ask(transport: Transport, origin: str, method: str, path: str, body: object = None) -> Any:
    """The answer of the sandbox's own API. Raises PlatformError when it can't be talked to, and UsageError with
    what it refuses."""
    headers = {"Content-Type": "application/json", "Accept": "application/json"}
    try:
        content = None if body is None else encode(body)
        url = f"{origin}/api/sandbox/{path}"
        reply = transport.send(method, url, headers=headers, body=content, timeout_s=TIMEOUT_S).fetch()
    except TransportError as error:
        hint = f"start one: {terminal.program()} sandbox"
        why = error.message.replace(f"{urlsplit(origin).netloc}: ", "", 1)
        raise PlatformError(f"no sandbox answers at {origin}: {why}", hints=[hint]) from None
    except (ValueError, RecursionError) as error:
        raise UsageError(f"the input can't be sent: {error}") from None
    try:
        answer = json.loads(reply.body)
    except (ValueError, RecursionError):
        answer = None
    if reply.status in (200, 201) and answer is not None:
        return answer
    said = answer if isinstance(answer, dict) else {}
    message = redactor.brief(str(said.get("message") or ""))
    if said.get("instance") == "sandbox" and reply.status != 404:
        raise UsageError(f"the sandbox refuses the task: {message}")
    raise _no_sandbox(origin, f"HTTP {reply.status} {message}".rstrip())


def _no_sandbox(origin: str, said: str) -> PlatformError:
    hints = ["name the sandbox's address: --url http://127.0.0.1:PORT"]
    return PlatformError(f"what answers at {origin} is not a sandbox: {said}", hints=hints)


def _agent(ask: Callable[..., Any], expected: str | None) -> str:
    """The one agent that the sandbox knows; of none or several the ``expected`` one, the credentials'. They
    are those of the real platform, for which ``dev --sandbox`` does not ask."""
    until = time.monotonic() + FIRST_POLL_S
    while True:
        # Whom a worker has polled for: a queue that somebody's typing error made is no agent.
        known = sorted({agent["agentId"] for agent in ask("GET", "agents") if agent["polledTime"]})
        if known or expected or time.monotonic() >= until:
            break
        threading.Event().wait(0.05)  # a worker that has just started has not polled yet
    if len(known) == 1:
        return str(known[0])
    if expected:
        return expected
    hints = [f"-a {agent_id}" for agent_id in known] or ["name it: -a ID"]
    what = f"it knows {len(known)}" if known else "no worker has polled yet"
    raise UsageError(f"which agent is the task for? The sandbox can't tell: {what}", hints=hints)


def _awaited(ask: Callable[..., Any], execution_id: str, wait_s: float, page: str) -> Any:
    """The execution when it has ended, or as it is after ``wait_s``. Says meanwhile when no worker polls."""
    began = time.monotonic()
    says_unpolled = True
    try:
        while True:
            waited_s = time.monotonic() - began
            left_s = max(0.0, min(LOOK_S, wait_s - waited_s))
            execution = ask("GET", f"executions/{segment(execution_id)}?wait_ms={int(left_s * 1000)}")
            if execution["status"] != "RUNNING" or not left_s:
                return execution
            if says_unpolled and waited_s >= UNPOLLED_S - LOOK_S:
                says_unpolled = False
                if not execution["attempts"][0]["pollCount"]:
                    _say_unpolled(execution, ask("GET", "agents"))
    except KeyboardInterrupt:
        terminal.note(f"it goes on: {page}")
        raise


def _say_unpolled(execution: Mapping[str, Any], agents: Sequence[Mapping[str, Any]]) -> None:
    agent_id, domain = execution["agentId"], execution["domain"]
    polled = [agent for agent in agents if agent["polledTime"]]
    domains = {agent["domain"]: agent["polledTime"] for agent in polled if agent["agentId"] == agent_id}
    if domain in domains:
        ago_s = max(0.0, time.time() - domains[domain] / 1000)
        text = f"nobody took it yet: the worker of {agent_id} polled {ago_s:.0f} s ago; is it busy, or gone?"
    elif domains:
        where = " and ".join(sorted(f"the domain {each}" if each else "no domain" for each in domains))
        text = f"nobody took it yet: workers of {agent_id} poll in {where}; USERAGENT_DOMAIN is the domain of a task"
    else:
        near = nearest(agent_id, [agent["agentId"] for agent in polled])
        text = f"no worker polls for {agent_id} yet" + (f" (did you mean -a {near}?)" if near else "")
    terminal.note(escape(text))


def _failure(execution: Mapping[str, Any], page: str, wait: str) -> UserAgentError:
    attempts = execution["attempts"]
    tries = counted(len(attempts), "attempt")
    if execution["status"] != "RUNNING":
        what = execution["status"].lower().replace("_", " ")
        reason = f": {execution['reason']}" if execution["reason"] else ""
        return UserAgentError(f"the task {what} after {tries}{reason}", code="task-failed", hints=[f"more at {page}"])
    hints = [f"--wait S waits longer; it goes on, to be seen at {page}"]
    if attempts[-1]["status"] == "SCHEDULED" and len(attempts) == 1:
        hints.insert(0, f"no worker has taken it: is one running for {execution['agentId']}?")
    return UserAgentError(f"the task had not ended after {wait} s", code="task-failed", hints=hints)

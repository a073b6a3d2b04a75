# SPDX-License-Identifier: Apache-2.0
"""The sandbox's page, ``page.html``, and the two addresses that feed it. Its script puts text into the page
and nothing else, so nothing that a task holds can run or load."""

from __future__ import annotations

import html
import json
from collections.abc import Sequence
from typing import Any

from .. import pages
from ..logs import escape
from .engine import Engine
from .exchange import Reply, Request
from .server import Sandbox
from .tasks import Execution, describe, lease_left_s

SHOWN_EXECUTIONS = 200
SHOWN_CHARS = 200_000  # of an input, an output, or one attempt's logs
SHOWN_LINES = 1000  # of one attempt's logs, the last ones
_STATES = {"SCHEDULED": "QUEUED", "IN_PROGRESS": "RUNNING"}


def install(sandbox: Sandbox, commands: Sequence[str] = ()) -> None:
    """Serve the page at the sandbox's address. ``commands``: how to start a worker, shown until one polls."""
    engine, document = sandbox.engine, _document(commands)

    def overview(request: Request, _: str) -> Reply:
        now_s = engine.clock.monotonic()
        outlines = [_outline(execution, now_s) for execution in engine.executions(SHOWN_EXECUTIONS)]
        return Reply.of({"now": engine.clock.wall_ms(), "agents": engine.agents(), "executions": outlines})

    sandbox.route("GET", "/", lambda request, _: document)
    sandbox.route("GET", "/sandbox/overview", overview)
    sandbox.route("GET", "/sandbox/detail/*", lambda request, last: Reply.of(_detail(engine.wait(last, 0), engine)))


def _document(commands: Sequence[str]) -> Reply:
    text, policy = pages.read(__package__, "page.html")
    text = text.replace("<!--commands-->", "".join(f"<code>{html.escape(command)}</code>" for command in commands))
    policy += "; img-src data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    more = "X-Content-Type-Options: nosniff\r\nReferrer-Policy: no-referrer\r\nCache-Control: no-store\r\n"
    return Reply(200, text.encode(), "text/html; charset=utf-8", f"Content-Security-Policy: {policy}\r\n{more}")


def _state(execution: Execution) -> str:
    running = execution.status == "RUNNING"
    return _STATES.get(execution.attempts[-1].status, "RUNNING") if running else execution.status


def _outline(execution: Execution, now_s: float) -> dict[str, Any]:
    """One row of the list; all but ``leaseLeft`` (seconds, or None) changes only with the execution."""
    last = execution.attempts[-1]
    return {
        "id": execution.id, "agentId": execution.agent_id, "state": _state(execution),
        "attempts": len(execution.attempts), "polls": last.poll_count, "reason": escape(last.reason or ""),
        "createdTime": execution.created_ms, "startTime": execution.attempts[0].start_ms,
        "endTime": execution.end_ms, "updateTime": last.update_ms,
        "leaseLeft": lease_left_s(last, now_s),
    }  # fmt: skip


def _detail(execution: Execution, engine: Engine) -> dict[str, Any]:
    """``describe`` for the page: inputs and outputs as text, in which a browser rounds no number."""
    told = describe(execution, engine.clock.monotonic())
    told.update(state=_state(execution), input=_text(told["input"]), output=_text(told["output"]))
    told["cut"] = len(told["input"]) > SHOWN_CHARS
    for attempt in told["attempts"]:
        attempt["status"] = _STATES.get(attempt["status"], attempt["status"])
        attempt["reason"] = escape(attempt["reason"] or "", keep="\n\t")
        attempt["logs"] = [{**line, "log": escape(line["log"], keep="\n\t")} for line in attempt["logs"][-SHOWN_LINES:]]
        attempt["output"] = _text(attempt["output"]) if attempt["output"] else ""
    if execution.end_ms:
        told["attempts"][-1]["output"] = ""  # it is the execution's
    return told


def _text(value: dict[str, Any]) -> str:
    """Indented JSON; what is invisible, or turns the direction of text, is spelled out."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    more = f"\n\u2026 and {len(text) - SHOWN_CHARS:,} characters more" if len(text) > SHOWN_CHARS else ""
    return "".join(c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in text[:SHOWN_CHARS]) + more

# SPDX-License-Identifier: Apache-2.0
"""The sandbox's page, ``page.html``, and the addresses that feed it. Its script puts text into the page and nothing
else, so nothing that a task holds can run or load. What changes something is a POST, which the server's guard lets
no page of another site make.
"""

from __future__ import annotations

import html
import json
import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from .. import pages
from ..conductor.wire import LogLine
from ..logs import escape
from .engine import Engine, wall_ms
from .exchange import Reply, Request
from .server import Sandbox
from .tasks import Attempt, Execution, describe, lease_left_s

SHOWN_EXECUTIONS = 200  # executions in one reply: more than any window shows
SHOWN_CHARS = 200_000  # characters of an input, an output, or one attempt's logs
SHOWN_LINES = 1000  # the last log lines of one attempt
NOTE_CHARS = 200  # of the reason or the input in a row
KINDS = ("failed", "running", "waiting", "queued", "completed", "cancelled")  # the page's counters in their order
_KIND_OF = {"TIMED_OUT": "failed", "TERMINATED": "cancelled"}  # of any other state it has that state's own name
_STATES = {"SCHEDULED": "QUEUED", "IN_PROGRESS": "RUNNING"}


def install(sandbox: Sandbox, commands: Sequence[str], submits: Sequence[str], templates: Mapping[str, str]) -> None:
    """Serve the page at the sandbox's address.

    ``commands``: how to start a worker, shown until one polls; ``submits``: how to give it a task, shown until there
    is one. ``templates``: the input that the form begins with, as JSON text by agent id; it may change later.
    """
    engine, (text, policy) = sandbox.engine, pages.read(__package__, "page.html")
    for mark, shown in (("<!--commands-->", commands), ("<!--submit-->", submits)):
        text = text.replace(mark, "".join(f"<code>{html.escape(command)}</code>" for command in shown))
    policy += "; img-src data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    more = "X-Content-Type-Options: nosniff\r\nReferrer-Policy: no-referrer\r\nCache-Control: no-store\r\n"
    head = f"Content-Security-Policy: {policy}\r\n{more}"
    document = Reply(200, text.encode(), "text/html; charset=utf-8", head)

    def overview(request: Request, _: str) -> Reply:
        agents = [{**agent, "template": templates.get(agent["agentId"], "")} for agent in engine.agents()]
        told = engine.view(lambda executions, now_s: _overview(executions, now_s, request))
        return Reply.of({"now": wall_ms(), "agents": agents, **told})

    def cancel(request: Request, execution_id: str) -> Reply:
        engine.cancel(execution_id)
        return Reply.of({"id": execution_id})

    sandbox.route("GET", "/", lambda request, _: document)
    sandbox.route("GET", "/sandbox/overview", overview)
    sandbox.route("GET", "/sandbox/detail/*", lambda request, last: Reply.of(_detail(engine.wait(last, 0), engine)))
    sandbox.route("POST", "/sandbox/cancel/*", cancel)


class Listener(logging.Handler):
    """A context manager: what the tasks of this process write to ``log`` meanwhile is shown as they write it."""

    def __init__(self, engine: Engine, log: logging.Logger) -> None:
        super().__init__()
        self._engine, self._log = engine, log

    def __enter__(self) -> None:
        self._log.addHandler(self)

    def __exit__(self, *_: object) -> None:
        self._log.removeHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        with suppress(Exception):  # a %d for a text, a __str__ that raises
            line = LogLine(record.getMessage(), int(record.created * 1000))
            self._engine.heard(str(record.__dict__.get("task_id")), record.levelname, line)


def _state(execution: Execution, now_s: float) -> str:
    if execution.status != "RUNNING":
        return execution.status
    last = execution.attempts[-1]
    return "WAITING" if _ready_in_s(last, now_s) else _STATES.get(last.status, "RUNNING")


def _ready_in_s(attempt: Attempt, now_s: float) -> float | None:
    """How long a task that was put back, or is to be tried again, waits until it may be handed out."""
    return attempt.ready_at - now_s if attempt.status == "SCHEDULED" and attempt.ready_at > now_s else None


def _overview(executions: Iterable[Execution], now_s: float, request: Request) -> dict[str, Any]:
    """The rows from ``from`` on of those that fit ``show`` (a kind) and ``q`` (a text); how many there are of each
    kind; the row of the one that is ``id``, and its place among those that fit, or -1; and the last failure."""
    start, show = max(request.number("from", 0), 0), request.query.get("show", "all")
    count = min(request.number("count", SHOWN_EXECUTIONS), SHOWN_EXECUTIONS)
    words, chosen_id = request.query.get("q", "").lower().split(), request.query.get("id")
    counts: Counter[str] = Counter()
    rows, found, place, chosen, latest = [], 0, -1, None, None
    for execution in executions:
        state = _state(execution, now_s)
        kind = _KIND_OF.get(state, state.lower())
        counts[kind] += 1
        if kind == "failed" and (latest is None or execution.end_ms > latest.end_ms):
            latest = execution
        is_chosen = execution.id == chosen_id
        if is_chosen:
            chosen = _outline(execution, state, now_s)
        if show in ("all", kind) and (not words or _has(execution, words)):
            place = found if is_chosen else place
            if start <= found < start + count:
                rows.append(_outline(execution, state, now_s))
            found += 1
    all_counts = {"all": sum(counts.values()), **{kind: counts[kind] for kind in KINDS}}
    failed = latest and _outline(latest, latest.status, now_s)
    return {"counts": all_counts, "found": found, "from": start, "place": place, "chosen": chosen, "latest": failed,
            "executions": rows}  # fmt: skip


def _has(execution: Execution, words: Sequence[str]) -> bool:
    reason = execution.attempts[-1].reason or ""
    text = f"{execution.id} {execution.agent_id} {reason} {execution.brief}".lower()
    return all(word in text for word in words)


def _outline(execution: Execution, state: str, now_s: float) -> dict[str, Any]:
    """One row of the list; all but ``leaseLeft`` and ``readyIn`` (seconds, or None) changes only with the execution."""
    last, reason = execution.attempts[-1], _reason(execution)
    note = execution.brief if state == "COMPLETED" or not reason else reason.strip().split("\n")[0]
    is_reason = bool(reason) and state not in ("COMPLETED", "TERMINATED")
    return {
        "id": execution.id, "agentId": execution.agent_id, "state": state, "attempts": len(execution.attempts),
        "polls": last.poll_count, "note": escape(note[:NOTE_CHARS]), "isReason": is_reason,
        "createdTime": execution.created_ms, "startTime": execution.attempts[0].start_ms,
        "endTime": execution.end_ms, "updateTime": last.update_ms,
        "leaseLeft": lease_left_s(last, now_s), "readyIn": _ready_in_s(last, now_s),
    }  # fmt: skip


def _reason(execution: Execution) -> str | None:
    """The reason of the last attempt's failure; while a retry waits or runs, of the attempt before."""
    return next((attempt.reason for attempt in execution.attempts[:-3:-1] if attempt.reason), None)


def _detail(execution: Execution, engine: Engine) -> dict[str, Any]:
    """``describe`` for the page: inputs and outputs as text, in which a browser rounds no number."""
    now_s = engine.clock()
    told = describe(execution, now_s)
    told.update(state=_state(execution, now_s), input=_text(execution.input), output=_output(execution))
    told.update(reason=escape(_reason(execution) or "", keep="\n\t"), cut=len(told["input"]) > SHOWN_CHARS)
    for attempt, record in zip(told["attempts"], execution.attempts):
        status, reason = _STATES.get(record.status, record.status), escape(record.reason or "", keep="\n\t")
        attempt.update(status=status, reason=reason, logs=_lines(record), output=_output(record))
    if execution.end_ms:
        told["attempts"][-1]["output"] = ""  # the same as the execution's, which is shown
    return told


def _lines(attempt: Attempt) -> list[dict[str, Any]]:
    """The log as it was reported, until then as it is being written. A report has no levels: those of the lines that
    were heard here are known."""
    levels = {line: level for level, line in attempt.live}
    lines = attempt.logs or [line for _, line in attempt.live]
    return [{"log": escape(line.log, keep="\n\t"), "createdTime": line.created_ms,
             "level": levels[line] if levels.get(line, "INFO") not in ("INFO", "DEBUG") else ""}
            for line in lines[-SHOWN_LINES:]]  # fmt: skip


def _output(record: Attempt | Execution) -> str:
    return _text(record.output) if record.output else ""


def _text(value: dict[str, Any]) -> str:
    """Indented JSON; what is invisible, or turns the direction of text, is spelled out."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    more = f"\n\u2026 and {len(text) - SHOWN_CHARS:,} characters more" if len(text) > SHOWN_CHARS else ""
    return "".join(c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in text[:SHOWN_CHARS]) + more

# SPDX-License-Identifier: Apache-2.0
"""The history as one HTML file for people: totals, charts, and a table whose rows open.

It needs no network, and no JavaScript but for the search. All its markup is in ``report.html``, where what
fills the page is a ``<template>``; whatever goes into one is escaped, unless it came out of one.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Sequence
from datetime import datetime
from functools import partial
from math import ceil
from string import Template
from typing import Callable, NamedTuple, TextIO

from .. import pages
from .._version import __version__
from ..logs import escape
from . import charts, times, views
from .store import Record

ROWS_MAX = 1000  # rows of the table, each with its details; the figures count all executions
FAILURES_MAX = 10_000  # older failures, one line each
VALUE_MAX_CHARS = 16 * 1024  # of a value in an opened row
VALUES_MAX_CHARS = 2_000_000  # characters of all rows; beyond, values are shortened, so that a browser opens the file
SHORT_CHARS = 200
AGENTS_MAX = 50
ERRORS_MAX = 8
_BRIEF_CHARS = 160
_VARYING = re.compile(r"\b[0-9a-fA-F]{8}-[0-9a-fA-F-]{27}\b|\d[\d.,:]*\d|\d")  # of a message: ids and numbers

_FILE, _POLICY = pages.read(__name__.rpartition(".")[0], "report.html")
_FOUND = re.findall(r'(?s)<template id="(\w+)">(.*?)</template>', _FILE)
_PARTS = {"page": _FILE.partition("\n<!--")[0], **{name: re.sub(r"\n(?=<|$)", "", part) for name, part in _FOUND}}


class Html(str):
    """Text that is safe in the page as it is."""


def fill(part: str, **values: object) -> Html:
    """A part of ``report.html`` with ``values`` in it: their control characters spelled out, their markup escaped."""
    return Html(Template(_PARTS[part]).substitute({name: _safe(value) for name, value in values.items()}))


def _safe(value: object, keep: str = "") -> Html:
    if isinstance(value, list):
        return Html("".join(map(_safe, value)))
    return value if isinstance(value, Html) else Html(html.escape(escape(str(value), keep)))


class Run(NamedTuple):
    """The parts of an execution that the figures need."""

    id: int
    agent: str
    failed: bool
    error: str
    when: datetime | None
    duration_ms: float | None


def write_report(records: Iterable[Record], stream: TextIO, source: str, scope: str, limit: int | None) -> int:
    """Write the report on ``records``, newest first; how many they are.

    ``source``: the file's name. ``scope``: which executions these are, in words; at most ``limit`` of them.
    """
    runs: list[Run] = []
    rows: list[Html] = []
    failures: list[Html] = []  # older failures than those in rows
    chars = 0
    for record in records:
        runs.append(_run(record))
        if len(rows) < ROWS_MAX:
            rows.append(_row(record, VALUE_MAX_CHARS if chars < VALUES_MAX_CHARS else SHORT_CHARS))
            chars += len(rows[-1])
        elif runs[-1].failed and len(failures) < FAILURES_MAX:
            failures.append(fill("failure", **_heading(record)))
    count, now = len(runs), datetime.now().astimezone()
    points = [(run.when, run.failed) for run in runs if run.when is not None]
    stream.write(fill(
        "page", policy=Html(_POLICY), source=source, version=__version__, **_totals(runs),
        scope=scope + (f", the newest {limit:,}" if count == limit else ""), span=_span(points),
        made=f"{now:%d %b %Y %H:%M}{views.zone(now.isoformat())}", newest=_newest(len(rows), len(failures), count),
        alarm="alarm" if any(run.failed for run in runs) else "", figures=_figures(runs, points) if runs else "",
        rows=Html("\n".join([fill("head"), *rows, *failures])) if rows else fill("nothing"),
    ))  # fmt: skip
    return count


def _newest(rows: int, failures: int, count: int) -> str:
    if rows == count:
        return ""
    which = "the newest" if failures == FAILURES_MAX else "all"
    older = f"; of the older ones {which} {failures:,} that failed" if failures else ""
    return f"the newest {rows:,} of {count:,}{older}"


def _run(record: Record) -> Run:
    agent, error = record.user_agent_id or record.agent_id or "(none)", _brief(record.error_message or "(no message)")
    when = times.moment(record.started_at) or times.moment(record.ended_at)
    if when is not None and not 1971 < when.year < 9000:  # beyond, calendars end
        when = None
    return Run(record.id, agent, record.status == "error", error, when, record.duration_ms)


def _brief(text: str) -> str:
    return text.strip().split("\n")[0][:_BRIEF_CHARS]


def _span(points: Sequence[tuple[datetime, bool]]) -> str:
    if not points:
        return ""
    first, last = min(points)[0], max(points)[0]
    return f"{first:%d %b %Y %H:%M} – {last:{'%H:%M' if first.date() == last.date() else '%d %b %Y %H:%M'}}"


def _totals(runs: Sequence[Run]) -> dict[str, object]:
    """How many they were and failed, and how long they took."""
    ordered = sorted(run.duration_ms for run in runs if run.duration_ms is not None)
    failed = sum(run.failed for run in runs)
    told: dict[str, object] = {"count": f"{len(runs):,}", "failed": f"{failed:,}", "rate": _rate(failed, len(runs))}
    for name, share in (("median", 0.5), ("p95", 0.95), ("p99", 0.99), ("longest", 1.0)):  # by nearest rank
        told[name] = times.lasted(ordered[ceil(share * len(ordered)) - 1]) if ordered else "–"
    return told


def _rate(failures: int, count: int) -> str:
    """Never 100 % while something failed, nor 0 % while something did not."""
    if not count:
        return "–"
    share = f"{(count - failures) / count * 100:.1f}".replace(".0", "")
    if failures and share == "100":
        return "> 99.9 %"
    return "< 0.1 %" if failures < count and share == "0" else f"{share} %"


def _figures(runs: Sequence[Run], points: Sequence[tuple[datetime, bool]]) -> Html:
    durations = [(run.duration_ms, run.failed) for run in runs if run.duration_ms is not None]
    drawn = {"Over time": charts.timeline(points), "Durations": charts.histogram(durations)}
    agents = _grouped(runs, lambda run: run.agent)
    more = len(agents) - AGENTS_MAX
    shown = [fill("chart", title=title, svg=Html(svg)) for title, svg in drawn.items() if svg]
    rows = [_agent(of_one) for of_one in [*agents.values()][:AGENTS_MAX]]
    others = f"and {more:,} more agents" if more > 0 else ""
    return fill("figures", charts=shown, agents=rows, more=others, errors=_errors(runs))


def _grouped(runs: Iterable[Run], key: Callable[[Run], str]) -> dict[str, list[Run]]:
    """The runs by ``key``, the most frequent first."""
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(key(run), []).append(run)
    return dict(sorted(groups.items(), key=lambda pair: len(pair[1]), reverse=True))


def _agent(runs: Sequence[Run]) -> Html:
    good = sum(not run.failed for run in runs) / len(runs)
    name = runs[0].agent[:_BRIEF_CHARS]
    return fill("agent", agent=name, good=f"{64 * good:.1f}", radius=3 if good == 1 else 0, **_totals(runs))


def _errors(runs: Sequence[Run]) -> str:
    """The kinds of error, the most frequent first, each by its newest message: of many alike without its numbers."""
    kinds = _grouped((run for run in runs if run.failed), lambda run: _VARYING.sub("#", run.error))
    rows = []
    for kind, alike in [*kinds.items()][:ERRORS_MAX]:
        error = kind if any(run.error != alike[0].error for run in alike) else alike[0].error
        rows.append(fill("error", error=error, count=f"{len(alike):,}", link=fill("link", id=alike[0].id)))
    return fill("errors", rows=rows) if rows else ""


def _heading(record: Record) -> dict[str, object]:
    agent, error = (record.user_agent_id or record.agent_id or "")[:_BRIEF_CHARS], _brief(record.error_message or "")
    started, duration = views.local(record.started_at)[:19], times.lasted(record.duration_ms)
    return {"id": record.id, "started": started, "duration": duration, "agent": agent, "error": error}


def _row(record: Record, room: int) -> Html:
    """``room``: how many characters of a value are shown."""
    kind, pill = ("fail", "failed") if record.status == "error" else ("fine", "completed")
    facts = [fill("fact", name=name, value=value) for name, value in views.facts(record).items()]
    shown: dict[str, object] = {"facts": facts, "values": [*_values(record, room)], "status": record.status or "?"}
    return fill("row", kind=kind, pill=pill, **shown, **_heading(record))


def _values(record: Record, room: int) -> Iterable[Html]:
    log = "\n".join(f"{when}  {line}" for when, line in record.log_lines())
    if record.error_message:
        yield fill("value", size="wide", title="Error", kind="err", text=_shortened(record.error_message, room))
    for title, value in (("Input", record.input_data), ("Output", record.output_data)):
        if value is not None:
            shown = Html(views.highlighted(value, _mark, room, partial(html.escape, quote=False)))
            yield fill("value", size="", title=title, kind="", text=shown)
    if log:
        yield fill("value", size="wide", title="Log", kind="", text=_shortened(log, room))


def _shortened(text: str, room: int) -> Html:
    return _safe(views.shortened(text, room), keep="\n")


def _mark(text: str, color: str) -> str:
    tag = {"bold": "b", "green": "i"}.get(color, "u")  # keys, texts, and the rest
    return f"<{tag}>{text}</{tag}>"

"""The history as one HTML file for people: totals, charts, and a table whose rows open.

It needs no network, and no JavaScript but for the search. Every text that was stored goes through
``_text``: its control characters are spelled out, its markup is escaped.
"""

from __future__ import annotations

import base64
import hashlib
import html
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime
from math import ceil
from typing import TextIO

from .._version import __version__
from ..logs import escape
from . import charts, page, times, views
from .store import Record

ROWS_MAX = 1000  # of the table; the figures count all
VALUE_MAX_CHARS = 16 * 1024  # of a value in an opened row
AGENTS_MAX = 50
ERRORS_MAX = 8
_BRIEF_CHARS = 160


class Summary:
    """What the figures need of the executions seen so far, newest first."""

    def __init__(self) -> None:
        self.points: list[tuple[datetime, bool]] = []
        self.durations: dict[str, list[tuple[float, bool]]] = {}
        self.runs: Counter[str] = Counter()
        self.failures: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()
        self.latest: dict[str, int] = {}  # a row of the table for each error

    def add(self, record: Record, is_shown: bool) -> None:
        agent, failed = record.user_agent_id or record.agent_id or "(none)", record.status == "error"
        self.runs[agent] += 1
        when = times.moment(record.started_at) or times.moment(record.ended_at)
        if when is not None and 1971 < when.year < 9000:  # beyond, calendars end
            self.points.append((when, failed))
        if record.duration_ms is not None:
            self.durations.setdefault(agent, []).append((record.duration_ms, failed))
        if failed:
            self.failures[agent] += 1
            error = (record.error_message or "(no message)").strip().split("\n")[0][:_BRIEF_CHARS]
            self.errors[error] += 1
            if is_shown:
                self.latest.setdefault(error, record.id)


def write_report(records: Iterable[Record], stream: TextIO, source: str, scope: str, limit: int | None) -> int:
    """Write the report on ``records``, newest first; how many they are.

    ``source``: the file's name. ``scope``: which executions these are, in words; at most ``limit`` of them.
    """
    summary, rows, count = Summary(), [], 0
    for record in records:
        count += 1
        summary.add(record, count <= ROWS_MAX)
        if count <= ROWS_MAX:
            rows.append(_row(record))
    if count == limit:
        scope += f", the newest {limit:,}"
    now = datetime.now().astimezone()
    parts = [
        '<!doctype html><html lang="en"><head><meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{_policy()}">',
        '<meta name="viewport" content="width=device-width,initial-scale=1"><meta name="robots" content="noindex">',
        f"<title>Execution report</title><style>{page.STYLE}</style></head><body><main>",
        f'<header><div><h1>Execution report</h1><p class="soft">{_text(source)} · {_text(scope)}</p></div>',
        f'<p class="soft when">{_span(summary.points)}made {now:%d %b %Y %H:%M} {_zone(now)}</p></header>',
        _tiles(summary, count),
        *(_figures(summary) if count else ()),
        *_table(rows, count),
        f"<footer>Made by useragent {__version__}. This file loads nothing and sends nothing.</footer></main>",
        f"<script>{page.SCRIPT}</script></body></html>\n",
    ]
    stream.writelines(parts)
    return count


def _text(value: object, keep: str = "") -> str:
    return html.escape(escape(str(value), keep), quote=True)


def _policy() -> str:
    hashes = [base64.b64encode(hashlib.sha256(part.encode()).digest()).decode() for part in (page.STYLE, page.SCRIPT)]
    return f"default-src 'none'; style-src 'sha256-{hashes[0]}'; script-src 'sha256-{hashes[1]}'"


def _zone(when: datetime) -> str:
    return f"UTC{when:%z}"[:6] + f":{when:%z}"[-2:] if when.utcoffset() else "UTC"


def _span(points: Sequence[tuple[datetime, bool]]) -> str:
    if not points:
        return ""
    first, last = min(points)[0], max(points)[0]
    until = f"{last:%H:%M}" if first.date() == last.date() else f"{last:%d %b %Y %H:%M}"
    return f"{first:%d %b %Y %H:%M} – {until}<br>"


def percentile(ordered: Sequence[float], share: float) -> float:
    """The smallest value that ``share`` of them do not exceed (nearest rank)."""
    return ordered[max(0, ceil(share * len(ordered)) - 1)]


def _percentiles(durations: Iterable[tuple[float, bool]]) -> list[str]:
    ordered = sorted(ms for ms, _ in durations)
    return [times.lasted(percentile(ordered, share)) if ordered else "–" for share in (0.5, 0.95, 0.99, 1.0)]


def _rate(failures: int, count: int) -> str:
    """Never 100 % while something failed, nor 0 % while something did not."""
    if not count:
        return "–"
    share = (count - failures) / count * 100
    shown = f"{share:.1f}".replace(".0", "") if share >= 99.95 or share < 10 else f"{share:.1f}"
    if failures and shown in ("100", "100.0"):
        return "> 99.9 %"
    return "< 0.1 %" if failures < count and float(shown) == 0 else f"{shown.replace('.0', '')} %"


def _tiles(summary: Summary, count: int) -> str:
    failed = sum(summary.failures.values())
    middle, p95, p99, _ = _percentiles(pair for pairs in summary.durations.values() for pair in pairs)
    tiles = [
        ("executions", f"{count:,}", ""),
        ("success rate", _rate(failed, count), ""),
        ("failed", f"{failed:,}", ' class="alarm"' if failed else ""),
        ("median duration", middle, ""),
        ("95th percentile", p95, ""),
        ("99th percentile", p99, ""),
    ]
    inner = "".join(f"<div><b{mark}>{_text(value)}</b><span>{name}</span></div>" for name, value, mark in tiles)
    return f'<section class="card tiles" aria-label="Totals">{inner}</section>'


def _figures(summary: Summary) -> list[str]:
    legend = '<span class="legend"><i class="g"></i>succeeded<i class="b"></i>failed</span>'
    durations = [pair for pairs in summary.durations.values() for pair in pairs]
    parts = []
    for title, chart in (("Over time", charts.timeline(summary.points)), ("Durations", charts.histogram(durations))):
        if chart:
            parts.append(f'<section class="card chart">{legend}<h2>{title}</h2>{chart}</section>')
    return ['<div class="pair">', *parts, "</div>", _agents(summary), _errors(summary)]


def _agents(summary: Summary) -> str:
    heads = ("Agent", "Executions", "Succeeded", "Failed", "Median", "95th", "99th", "Longest")
    rows = []
    for agent, runs in summary.runs.most_common(AGENTS_MAX):
        failed = summary.failures[agent]
        good = 64 * (runs - failed) / runs
        bar = (
            '<svg viewBox="0 0 64 6" aria-hidden="true"><rect class="bad" width="64" height="6" rx="3"/>'
            f'<rect class="good" width="{good:.1f}" height="6" rx="{3 if failed == 0 else 0}"/></svg>'
        )
        cells = [f"{runs:,}", _text(_rate(failed, runs)) + bar, f"{failed:,}"]
        cells += map(_text, _percentiles(summary.durations.get(agent, ())))
        rows.append(f"<tr><td>{_text(agent[:_BRIEF_CHARS])}</td>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>")
    more = len(summary.runs) - len(rows)
    note = f'<p class="soft">and {more:,} more agents</p>' if more else ""
    head = "".join(f'<th scope="col">{name}</th>' for name in heads)
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
    return f'<section class="card"><h2>By agent</h2><div class="scroll">{table}</div>{note}</section>'


def _errors(summary: Summary) -> str:
    if not summary.errors:
        return ""
    rows = ""
    for error, count in summary.errors.most_common(ERRORS_MAX):
        row = summary.latest.get(error)
        link = f'<a href="#e{row}">#{row}</a>' if row is not None else ""
        rows += f"<tr><td>{_text(error)}</td><td>{count:,}</td><td>{link}</td></tr>"
    head = '<th scope="col">Message</th><th scope="col">Times</th><th scope="col">Latest</th>'
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
    return f'<section class="card"><h2>Most frequent errors</h2>{table}</section>'


def _table(rows: Sequence[str], count: int) -> list[str]:
    note = f' <span class="soft">the newest {len(rows):,} of {count:,}</span>' if len(rows) < count else ""
    head = "".join(f"<span>{name}</span>" for name in ("ID", "Status", "Started"))
    head += '<span class="num">Duration</span><span>Agent</span><span>Error</span>'
    return [
        f'<section class="card"><h2>Executions{note}</h2><div id="find" hidden>',
        '<input type="search" placeholder="Search in everything" aria-label="Search in everything">',
        '<select aria-label="Status"><option value="">All</option><option value="fail">Failed</option>',
        '<option value="fine">Succeeded</option></select><button type="button">Open all</button>',
        '<span class="soft" id="shown" role="status"></span></div>',
        f'<div class="head">{head}</div>' if rows else '<p class="soft">Nothing was recorded.</p>',
        *rows,
        "</section>",
    ]


def _row(record: Record) -> str:
    failed = record.status == "error"
    started = (record.started_at or "").replace("T", " ")[:19]
    error = (record.error_message or "").strip().split("\n")[0][:_BRIEF_CHARS]
    agent = record.user_agent_id or record.agent_id or ""
    cells = [
        f"<span>{record.id}</span>",
        f'<span class="pill">{_text(record.status or "?")}</span>',
        f"<span>{_text(started)}</span>",
        f'<span class="num">{times.lasted(record.duration_ms)}</span>',
        f"<span>{_text(agent[:_BRIEF_CHARS])}</span>",
        f"<span>{_text(error)}</span>",
    ]
    return (
        f'<details class="row {"fail" if failed else "fine"}" id="e{record.id}"><summary>{"".join(cells)}</summary>'
        f'<div class="body">{_facts(record)}{_values(record)}</div></details>\n'
    )


def _facts(record: Record) -> str:
    shown = views.facts(record).items()
    return f'<dl class="wide">{"".join(f"<div><dt>{n}</dt><dd>{_text(v)}</dd></div>" for n, v in shown)}</dl>'


def _values(record: Record) -> str:
    parts = []
    if record.error_message:
        shown = views.shortened(record.error_message, VALUE_MAX_CHARS)
        parts.append(f'<div class="wide"><h3>Error</h3><pre class="err">{_text(shown, keep=chr(10))}</pre></div>')
    for title, value in (("Input", record.input_data), ("Output", record.output_data)):
        if value is not None:
            parts.append(f"<div><h3>{title}</h3><pre>{_json(value)}</pre></div>")
    log = "\n".join(f"{times.clock(when_s):<12}  {line}" for when_s, line in record.log_lines())
    if log:
        shown = views.shortened(log, VALUE_MAX_CHARS)
        parts.append(f'<div class="wide"><h3>Log</h3><pre>{_text(shown, keep=chr(10))}</pre></div>')
    return "".join(parts)


def _json(value: str) -> str:
    """Escaped JSON with its keys, texts and numbers marked for the style."""
    return views.highlighted(value, _mark, VALUE_MAX_CHARS, lambda text: html.escape(text, quote=True))


def _mark(text: str, color: str) -> str:
    tag = {"cyan": "b", "green": "i"}.get(color, "u")
    return f"<{tag}>{text}</{tag}>"

# SPDX-License-Identifier: Apache-2.0
"""The history as text: a table for a terminal, TAB-separated lines for a pipe, CSV, one execution in full.

Nothing stored reaches the text with its control characters; ``paint(text, color)`` adds ours.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta, timezone, tzinfo
from typing import Any, Callable, TextIO

from ..logs import escape
from ..tables import GAP, fit, short, widths_of
from . import shape, times
from .store import Record, parse

Paint = Callable[[str, str], str]
Line = Callable[[Record], str]
SHOWN_MAX_CHARS = 64 * 1024  # characters of a value on a terminal; a pipe gets the whole value
STATUS_COLORS = {"success": "green", "error": "red"}
_NAMES = ("ID", "STATUS", "STARTED", "TIME", "USER AGENT", "TASK", "AGENT", "ERROR")
_TEXTS = {"USER AGENT": 10, "ERROR": 20, "TASK": 10, "AGENT": 10}
# Of CSV: 0.2.0's, then ours.
TITLES = ("ID", "Task ID", "Agent ID", "User Agent ID", "Started At", "Ended At", "Status", "Input Data", "Output Data",
          "Error Message", "Duration (ms)", "Attempt", "Worker ID", "Workflow ID", "Wire Task ID", "Platform Status",
          "Logs", "Altered")  # fmt: skip
_FORMULA = tuple("=+-@\t\r\n＝＋－＠")


def table(records: Sequence[Record], total: int, paint: Paint, clean: Callable[[str], str]) -> tuple[str, Line]:
    """The header, and what makes a record a line: of ``total`` cells at most, in columns laid out for ``records``. All
    times are in the zone of now, which the header names, those of the summer or winter before too."""
    now = datetime.now().astimezone()
    this_year = str(now.year)
    is_short = all(local(record.started_at, now.tzinfo)[:4] in ("", this_year) for record in records)
    mark = "…" if clean("…") == "…" else ".."

    def cells(record: Record) -> dict[str, str]:
        started = local(record.started_at, now.tzinfo)[:19]
        when, task = started[5:] if is_short else started, short(record.wire_task_id or record.task_id or "")
        texts = (record.id, record.status, when, times.lasted(record.duration_ms), record.user_agent_id, task,
                 record.agent_id, record.error_message)  # fmt: skip
        return {name: clean(escape(str(text or "")[:300])) for name, text in zip(_NAMES, texts)}

    def line(row: dict[str, str], color: str | None = None) -> str:
        parts = []
        for name, room in widths.items():
            part = row[name].rjust(room) if name in ("ID", "TIME") else fit(row[name], room, mark)
            parts.append(paint(part, color) if color and name == "STATUS" else part)
        return (" " * GAP).join(parts).rstrip()

    rows = [cells(record) for record in records]
    id_cells = max([2, *(len(row["ID"]) for row in rows)])
    fixed = {"ID": id_cells, "STATUS": 7, "STARTED": 14 if is_short else 19, "TIME": 7}
    widths = widths_of(rows, total, fixed, _TEXTS, _NAMES)
    header = paint(line({**{name: name for name in widths}, "STARTED": f"STARTED {now.isoformat()[-6:]}"}), "bold")
    return header, lambda record: line(cells(record), STATUS_COLORS.get(record.status or ""))


def local(text: str | None, zone: tzinfo | None = None) -> str:
    """A stored time in this machine's zone, ``2026-01-31 12:30:05.123``; a text that is no time as it stands."""
    when = times.moment(text)
    return when.astimezone(zone).isoformat(" ", "milliseconds")[:23] if when else (text or "").replace("T", " ")


def piped(record: Record) -> str:
    """Every column, TAB-separated, none cut."""
    return "\t".join("" if value is None else escape(str(value)) for value in record)


def write_csv(records: Iterable[Record], stream: TextIO) -> int:
    """Write ``records`` as CSV (RFC 4180), every column, and no cell that a spreadsheet would run; how many they were.
    The stream must leave line ends alone (``newline=""``)."""
    writer = csv.writer(stream)
    writer.writerow(TITLES)
    keep, count = "\n\t" if stream.isatty() else "\r\n\t", 0
    for record in records:
        started_at, ended_at = map(_as_0_2_0, (record.started_at, record.ended_at))
        writer.writerow([_cell(value, keep) for value in record._replace(started_at=started_at, ended_at=ended_at)])
        count += 1
    return count


def _as_0_2_0(text: str | None) -> str | None:
    """A stored time without its offset."""
    when = times.moment(text) if text and text[19:].strip(".0123456789") else None
    return text if when is None else when.replace(tzinfo=None).isoformat(timespec="microseconds")


def _cell(value: Any, keep: str) -> Any:
    """Texts that begin like a formula get an apostrophe before them; control characters are spelled out."""
    if not isinstance(value, str):
        return "" if value is None else value
    text = escape(value, keep)
    return f"'{text}" if text.startswith(_FORMULA) else text


def zone(text: str | None) -> str:
    """The zone that a stored time is shown in, to be written behind the time."""
    when = times.moment(text)
    return f" {timezone(when.utcoffset() or timedelta())}" if when else ""


def facts(record: Record) -> dict[str, str]:
    """The facts beside status, error, input, output and log, by their names for people; unescaped."""
    known = {
        "Task": record.task_id,
        "Wire task": record.wire_task_id,
        "Workflow": record.workflow_id,
        "Agent": record.agent_id,
        "User agent": record.user_agent_id,
        "Worker": record.worker_id,
        "Attempt": record.attempt,
        "Reported as": record.platform_status,
        "Started": local(record.started_at) + zone(record.started_at),
        "Ended": local(record.ended_at) + zone(record.ended_at),
        "Duration": times.lasted(record.duration_ms),
        "Not as it was": record.altered,
    }
    return {name: str(value)[:1000] for name, value in known.items() if value not in (None, "")}


def detail(record: Record, paint: Paint, max_chars: int | None) -> list[str]:
    """All that is known about an execution, as lines; longer values than ``max_chars`` are cut."""
    status = record.status or ""
    shown = paint(escape(status), STATUS_COLORS.get(status, "bold"))
    lines = [f"{paint('Execution', 'bold')}      {record.id}  {shown}"]
    lines += [f"{paint(f'{name:<15}', 'bold')}{escape(value)}" for name, value in facts(record).items()]
    if record.error_message:
        text = escape(shortened(record.error_message, max_chars), keep="\n")
        lines += ["", paint("Error", "red"), *text.split("\n")]
    for title, value in (("Input", record.input_data), ("Output", record.output_data)):
        if value is not None:
            lines += ["", paint(title, "bold"), *highlighted(value, paint, max_chars).split("\n")]
    log = record.log_lines()
    lines += ["", paint("Log", "bold")] if log else []
    for when, text in log:
        lines += [f"{when}  {escape(line)}" for line in shortened(text, max_chars).split("\n")]
    return lines


def shortened(text: str, max_chars: int | None) -> str:
    text = text.replace("\r\n", "\n")
    if max_chars is None or len(text) <= max_chars:
        return text
    return f"{text[:max_chars]}\n… (cut: {len(text):,} characters in all)"


_TOKEN = re.compile(r'("(?:[^"\\]|\\.)*")(\s*:)?|\b(?:true|false|null)\b|-?\d[\d.eE+-]*')


def highlighted(text: str, paint: Paint, max_chars: int | None, quote: Callable[[str], str] = str) -> str:
    """Stored JSON, indented, shortened where it is long, its keys, texts, numbers and literals painted; what is no
    JSON as it stands. Safe to print. ``quote`` makes it safe elsewhere and must leave quotation marks alone."""
    value = parse(text)
    if value is text:
        return quote(escape(shortened(text, max_chars), keep="\n\t"))
    if max_chars is not None and len(text) > max_chars:
        value = shape.cut(value, max_chars)
    shown = quote(escape(json.dumps(value, ensure_ascii=False, indent=2), keep="\n"))

    def painted(token: re.Match[str]) -> str:
        color = ("bold" if token[2] else "green") if token[1] else "magenta"
        return paint(token[1] or token[0], color) + (token[2] or "")

    return _TOKEN.sub(painted, shown)

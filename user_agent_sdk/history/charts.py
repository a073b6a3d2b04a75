"""Inline SVG: columns over time and over duration, successes with failures on top."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta
from html import escape
from typing import NamedTuple

_WIDTH, _HEIGHT, _LEFT, _TOP, _BOTTOM = 540, 190, 40, 10, 26
_MAX_COLUMNS = 60
_STEPS_S = (1, 5, 15, 30, 60, 300, 900, 1800, 3600, 10800, 21600, 43200, 86400, 604800, 2592000)
_UNITS = (
    (1, "ms", (1, 2, 5, 10, 20, 50, 100, 200, 500)),
    (1000, "s", (1, 2, 5, 10, 20, 30)),
    (60_000, "min", (1, 2, 5, 10, 20, 30)),
    (3_600_000, "h", (1, 2, 5, 12, 24)),
)
_EDGES = [(number * unit_ms, f"{number} {name}") for unit_ms, name, numbers in _UNITS for number in numbers]
_EDGES_MS = [ms for ms, _ in _EDGES]


class Column(NamedTuple):
    """``label``: under it, if there is room. ``title``: what it stands for."""

    label: str
    title: str
    successes: int
    failures: int


def timeline(points: Sequence[tuple[datetime, bool]]) -> str:
    """Executions by the time at which they started: (when, whether it failed)."""
    if not points:
        return ""
    zone_s = (points[-1][0].utcoffset() or timedelta()).total_seconds()
    seconds = [(when.timestamp() + zone_s, failed) for when, failed in points]
    first, last = min(seconds)[0], max(seconds)[0]
    step = next((s for s in _STEPS_S if (last - first) / s < _MAX_COLUMNS), math.ceil((last - first) / _MAX_COLUMNS))
    counts = Counter((int(at // step), failed) for at, failed in seconds)
    days = (last - first) // 86400
    forms = (
        (2592000, "%b %Y"),
        (86400, "%d %b"),
        (0 if days else 86400, "%d %b %H:%M"),
        (60, "%H:%M"),
        (0, "%H:%M:%S"),
    )
    form = next(form for least_s, form in forms if step >= least_s)
    columns = []
    low, high = int(first // step), int(last // step)
    pad = max(0, 12 - (high - low)) // 2  # a single column would fill the chart
    for place in range(low - pad, high + pad + 1):
        at = datetime(1970, 1, 1) + timedelta(seconds=place * step)
        title = f"{at:%d %b %Y %H:%M:%S}, {_every(step)}"
        columns.append(Column(at.strftime(form), title, counts[place, False], counts[place, True]))
    return _svg(columns, f"Executions over time, {_every(step)} a column")


def histogram(durations: Sequence[tuple[float, bool]]) -> str:
    """Executions by how long they took: (milliseconds, whether it failed)."""
    if not durations:
        return ""
    counts = Counter((bisect_right(_EDGES_MS, ms), failed) for ms, failed in durations)
    low, high = min(edge for edge, _ in counts), max(edge for edge, _ in counts)
    low, high = max(0, min(low, high - 5)), min(max(high, low + 5), len(_EDGES))
    columns = []
    for edge in range(low, high + 1):
        since = _EDGES[edge - 1][1] if edge else "0 ms"
        until = _EDGES[edge][1] if edge < len(_EDGES) else "more"
        columns.append(Column(f"< {until}", f"{since} to {until}", counts[edge, False], counts[edge, True]))
    return _svg(columns, "Executions by duration")


def _every(step_s: float) -> str:
    for unit_s, name in ((86400, "d"), (3600, "h"), (60, "min")):
        if step_s >= unit_s:
            return f"{step_s / unit_s:g} {name}"
    return f"{step_s:g} s"


def _ceiling(value: int) -> int:
    """The round number at or above ``value`` that halves well."""
    power = int(f"1{'0' * (len(str(value)) - 1)}")
    return next(factor * power for factor in (1, 2, 4, 6, 8, 10) if factor * power >= value)


def _svg(columns: Sequence[Column], name: str) -> str:
    top = max(2, _ceiling(max(column.successes + column.failures for column in columns)))
    room, base = _WIDTH - _LEFT, _HEIGHT - _BOTTOM
    scale = (base - _TOP) / top
    slot = room / len(columns)
    bar = max(1.5, min(slot * 0.78, 44))
    parts = [f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(name)}">']
    for value in (0, top // 2, top):
        y = base - value * scale
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{value:,}</text>')
    widest = max(len(column.label) for column in columns)
    every = math.ceil(widest * 7.4 / slot)
    for place, column in enumerate(columns):
        x = _LEFT + slot * (place + 0.5)
        if place % every == every // 2 and x + len(column.label) * 3.7 <= _WIDTH:
            parts.append(f'<text x="{x:.1f}" y="{_HEIGHT - 8}" text-anchor="middle">{escape(column.label)}</text>')
        y = float(base)
        title = f"{column.title}: {column.successes + column.failures:,}, failed {column.failures:,}"
        rects = ""
        for kind, count in (("good", column.successes), ("bad", column.failures)):
            if count:
                height = max(2.0, count * scale)
                y -= height
                box = f'x="{x - bar / 2:.1f}" y="{y:.1f}" width="{bar:.1f}" height="{height:.1f}"'
                rects += f'<rect class="{kind}" {box} rx="1"/>'
        if rects:
            parts.append(f"<g><title>{escape(title)}</title>{rects}</g>")
    return "".join([*parts, "</svg>"])

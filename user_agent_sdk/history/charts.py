# SPDX-License-Identifier: Apache-2.0
"""Inline SVG: columns over time and over duration, successes with failures on top."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta
from html import escape
from itertools import count

_WIDTH, _HEIGHT, _LEFT, _TOP, _BOTTOM = 540, 190, 40, 10, 26
_MAX_COLUMNS = 60
_STEPS_S = (1, 5, 15, 30, 60, 300, 900, 1800, 3600, 10800, 21600, 43200, 86400, 604800, 2592000)
_FORMS = ((2592000, "%b %Y"), (86400, "%d %b"), (60, "%H:%M"), (0, "%H:%M:%S"))  # of labels, by their step
_UNITS = (
    (1, "ms", (1, 2, 5, 10, 20, 50, 100, 200, 500)),
    (1000, "s", (1, 2, 5, 10, 20, 30)),
    (60_000, "min", (1, 2, 5, 10, 20, 30)),
    (3_600_000, "h", (1, 2, 5, 12, 24)),
)
_EDGES = [(number * unit_ms, f"{number} {name}") for unit_ms, name, numbers in _UNITS for number in numbers]
_EDGES_MS = [ms for ms, _ in _EDGES]


def timeline(points: Sequence[tuple[datetime, bool]]) -> str:
    """Executions by the time at which they started: (when, whether it failed)."""
    if not points:
        return ""
    zone_s = (points[-1][0].utcoffset() or timedelta()).total_seconds()
    seconds = [(when.timestamp() + zone_s, failed) for when, failed in points]
    first, last = min(seconds)[0], max(seconds)[0]
    step = next((s for s in _STEPS_S if (last - first) / s < _MAX_COLUMNS), math.ceil((last - first) / _MAX_COLUMNS))
    form = next(form for least_s, form in _FORMS if step >= least_s)
    if step < 86400 <= last - first:
        form = "%d %b %H:%M"
    low, high = int(first // step), int(last // step)
    pad = max(0, 12 - (high - low)) // 2  # a single column would fill the chart
    counts = Counter((int(at // step), failed) for at, failed in seconds)
    columns = []
    for place in range(low - pad, high + pad + 1):
        at = datetime(1970, 1, 1) + timedelta(seconds=place * step)
        title = f"{at:%d %b %Y %H:%M:%S}, {_every(step)}"
        columns.append((at.strftime(form), title, counts[place, False], counts[place, True]))
    return _svg(f"Executions over time, {_every(step)} a column", columns)


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
        columns.append((f"< {until}", f"{since} to {until}", counts[edge, False], counts[edge, True]))
    return _svg("Executions by duration", columns)


def _every(step_s: float) -> str:
    for unit_s, name in ((86400, "d"), (3600, "h"), (60, "min")):
        if step_s >= unit_s:
            return f"{step_s / unit_s:g} {name}"
    return f"{step_s:g} s"


def _svg(name: str, columns: Sequence[tuple[str, str, int, int]]) -> str:
    """Columns: a label, which stands under one if there is room, what it stands for, how many succeeded and failed."""
    highest = max(good + bad for _, _, good, bad in columns)
    top = next(factor * 10**power for power in count() for factor in (2, 4, 6, 8, 10) if factor * 10**power >= highest)
    room, base = _WIDTH - _LEFT, _HEIGHT - _BOTTOM
    scale = (base - _TOP) / top
    slot = room / len(columns)
    bar = max(1.5, min(slot * 0.78, 44))
    parts = [f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(name)}">']
    for value in (0, top // 2, top):
        y = base - value * scale
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{value:,}</text>')
    every = math.ceil(max(len(label) for label, *_ in columns) * 7.4 / slot)
    for number, (label, title, good, bad) in enumerate(columns):
        x = _LEFT + slot * (number + 0.5)
        if number % every == every // 2 and x + len(label) * 3.7 <= _WIDTH:
            parts.append(f'<text x="{x:.1f}" y="{_HEIGHT - 8}" text-anchor="middle">{escape(label)}</text>')
        y, rects = float(base), ""
        for kind, size in (("good", good), ("bad", bad)):
            if size:
                height = max(2.0, size * scale)
                y -= height
                box = f'x="{x - bar / 2:.1f}" y="{y:.1f}" width="{bar:.1f}" height="{height:.1f}"'
                rects += f'<rect class="{kind}" {box} rx="1"/>'
        if rects:
            title += f": {good + bad:,}, failed {bad:,}"
            parts.append(f"<g><title>{escape(title)}</title>{rects}</g>")
    return "".join([*parts, "</svg>"])

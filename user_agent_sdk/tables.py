# SPDX-License-Identifier: Apache-2.0
"""How the tables of every command are laid out on a terminal: in cells, of which some characters take two."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

GAP = 2  # cells between two columns


def width(text: str) -> int:
    """How many cells a terminal gives ``text``: two for wide characters, none for combining ones."""
    return len(text) if text.isascii() else sum(map(_cells, text))


def _cells(char: str) -> int:
    return 0 if unicodedata.category(char) in ("Mn", "Me", "Cf") else 1 + (unicodedata.east_asian_width(char) in "WF")


def fit(text: str, cells: int, mark: str = "…") -> str:
    """``text`` in exactly ``cells`` cells, filled up or cut."""
    if width(text) > cells:
        room, kept = cells - len(mark), ""
        for char in text[: cells + 200]:
            room -= _cells(char)
            if room < 0:
                break
            kept += char
        text = kept + mark
    return text + " " * (cells - width(text))


def widths_of(
    rows: Sequence[dict[str, str]], total: int, fixed: dict[str, int], texts: dict[str, int], order: Sequence[str]
) -> dict[str, int]:
    """How wide each column of a table is, in ``order``: the ``fixed`` ones as they are; then of as many of the
    ``texts``, the most telling first, as there is room for, each with the cells that it needs to say anything."""
    widths = dict(fixed)
    left = room = total - sum(widths.values()) - GAP * (len(widths) - 1)
    wanted: dict[str, int] = {}
    for name, least in texts.items():
        want = max([0, *(width(row[name]) for row in rows)])
        if (want or not rows) and room >= GAP + least:
            wanted[name] = max(want, len(name)) if rows else 40
            room -= GAP + least
    left -= GAP * len(wanted)
    for place, name in enumerate(sorted(wanted, key=lambda name: wanted[name])):
        widths[name] = min(wanted[name], left // (len(wanted) - place))  # narrow columns leave room to wide ones
        left -= widths[name]
    return {name: widths[name] for name in order if name in widths}


def short(task_id: str) -> str:
    """The beginning of a UUID, as log lines have it too; other ids whole."""
    return task_id[:8] if task_id.count("-") == 4 and len(task_id) == 36 else task_id

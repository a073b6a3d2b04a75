# SPDX-License-Identifier: Apache-2.0
"""The history as CSV: RFC 4180, UTF-8, every column, and no cell that a spreadsheet would run."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from typing import Any, TextIO

from ..logs import escape
from . import times
from .store import Record

# 0.2.0's titles, then ours.
TITLES = (
    "ID", "Task ID", "Agent ID", "User Agent ID", "Started At", "Ended At", "Status", "Input Data", "Output Data",
    "Error Message", "Duration (ms)", "Attempt", "Worker ID", "Workflow ID", "Wire Task ID", "Platform Status",
    "Logs", "Altered",
)  # fmt: skip
_FORMULA = tuple("=+-@\t\r\n＝＋－＠")


def write_csv(records: Iterable[Record], stream: TextIO) -> int:
    """Write all ``records``; how many they were. The stream must leave line ends alone (``newline=""``)."""
    writer = csv.writer(stream)
    writer.writerow(TITLES)
    keep = "\n\t" if stream.isatty() else "\r\n\t"
    count = 0
    for record in records:
        started_at, ended_at = map(times.local_text, (record.started_at, record.ended_at))
        writer.writerow([_cell(value, keep) for value in record._replace(started_at=started_at, ended_at=ended_at)])
        count += 1
    return count


def _cell(value: Any, keep: str) -> Any:
    """Texts that begin like a formula get an apostrophe before them; control characters are spelled out."""
    if not isinstance(value, str):
        return "" if value is None else value
    text = escape(value, keep)
    return f"'{text}" if text.startswith(_FORMULA) else text

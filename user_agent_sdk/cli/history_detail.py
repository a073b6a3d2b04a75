# SPDX-License-Identifier: Apache-2.0
"""``useragent history-detail ID``, or ``hd``: all that is known about one execution."""

from __future__ import annotations

import sys
from argparse import Namespace

from ..errors import UsageError
from ..history import views
from ..history.store import History
from . import options, terminal
from .options import Parser


def configure(parser: Parser) -> None:
    parser.titled("which").add_argument("id", metavar="ID", help="its number in the history, or: last")
    parser.titled("output").add_argument("--json", action="store_true", help="as one JSON document")


def main(args: Namespace) -> None:
    settings = options.prepare(args, target=False)
    record_id = record_number(args.id)
    with History(settings.db_path) as history:
        record = history.get(record_id)
    if args.json:
        terminal.write_json(record.to_json())
        return
    on = terminal.wants_color(sys.stdout, settings.color)
    limit = views.SHOWN_MAX_CHARS if terminal.is_interactive() else None
    for line in views.detail(record, lambda text, color: terminal.paint(text, color, on), limit):
        terminal.write(line)


def record_number(text: str) -> int | None:
    """The id that a command line gives; None for ``last``. Raises UsageError."""
    if text == "last":
        return None
    if not text.isdecimal():
        raise UsageError(f"an execution's id is a number, or last, not {text!r}")
    return int(text[:20])

# SPDX-License-Identifier: Apache-2.0
"""``useragent history-detail ID``, or ``hd``: all that is known about one execution."""

from __future__ import annotations

import sys
from argparse import Namespace

from ..errors import NotFoundError, UsageError
from ..history import views
from ..history.store import History, Record
from . import options, terminal
from .options import Parser


def configure(parser: Parser) -> None:
    parser.show_examples("last", "0f8fad5b")
    parser.in_order = ("id", "db_path")
    which = "its number in the history; or 6 or more first characters of its task's or workflow's id; or: last"
    parser.titled("which").add_argument("id", metavar="ID", help=which)
    parser.titled("output").add_argument("--json", action="store_true", help="as one JSON document")


def main(args: Namespace) -> None:
    settings = options.prepare(args, target=False)
    with History(settings.db_path, settings.names_db) as history:
        record = found(history, args.id)
    if args.json:
        terminal.write_json(record.to_json())
        return
    on = terminal.wants_color(sys.stdout, settings.color)
    limit = views.SHOWN_MAX_CHARS if terminal.is_interactive() else None
    for line in views.detail(record, lambda text, color: terminal.paint(text, color, on), limit):
        terminal.write(line)


def found(history: History, text: str) -> Record:
    """The execution that a command line names; of several tries the newest. Raises UsageError, NotFoundError."""
    records: list[Record] = []
    what = f"no execution of a task {text!r} is recorded"
    if text == "last":
        records, what = [*history.find(limit=1)], f"nothing is recorded in {history.path}"
    elif text.isdecimal():
        number = int(text[:20])
        records = [one for one in history.find(after_id=min(number, 2**63) - 1, limit=1) if one.id == number]
        what = f"there is no execution {number} in {history.path}"
    elif len(text) < options.PREFIX_CHARS:
        what = f"a number, last, or {options.PREFIX_CHARS} characters of its task's id, not {text!r}"
        raise UsageError(f"an execution's id is {what}")
    if not records and len(text) >= options.PREFIX_CHARS:  # the beginning of an id may have digits alone
        records = [*history.find(task=text, limit=1)]
    if records:
        return records[0]
    raise NotFoundError(what, hints=["useragent history lists what there is"])

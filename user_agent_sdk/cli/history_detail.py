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

WHICH = "its number in the history; or 6 or more first characters of its task's or workflow's id; or: last"
LISTS = "useragent history lists what there is"


def configure(parser: Parser) -> None:
    parser.show_examples("last", "0f8fad5b")
    parser.in_order = ("id", "db_path")
    parser.titled("which").add_argument("id", metavar="ID", help=WHICH)
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
    if text == "last":
        return history.get(None)
    of_task = history.find(task=text, limit=1) if len(text) >= options.PREFIX_CHARS else iter(())
    if not text.isdecimal():
        for record in of_task:
            return record
        if len(text) < options.PREFIX_CHARS:
            what = f"a number, last, or {options.PREFIX_CHARS} characters of its task's id, not {text!r}"
            raise UsageError(f"an execution's id is {what}")
        raise NotFoundError(f"no execution of a task {text!r} is recorded", hints=[LISTS])
    try:
        return history.get(int(text[:20]))
    except NotFoundError:
        for record in of_task:  # the beginning of an id may have digits alone
            return record
        raise

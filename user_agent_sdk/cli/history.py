# SPDX-License-Identifier: Apache-2.0
"""``useragent history``: what was run, as a table, as data, as a report, or as it happens."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import sys
import tempfile
import threading
from argparse import Namespace
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Callable, TextIO

from ..errors import UsageError, UserAgentError
from ..history import times, views
from ..history.store import History, Record
from ..logs import encodable, escape, json_text
from ..private import is_foreign
from ..values import from_home, parsed, whole
from . import options, terminal
from .options import Parser

LIMIT = 50
REPORT_LIMIT = 10_000
LOOK_S = 0.5


def configure(parser: Parser) -> None:
    parser.show_examples("--status error --since 2h", "-n all --html report.html")
    parser.in_order = ("agent", "user_agent", "limit", "db_path", "export_csv")
    group = parser.titled("which")
    group.add_argument("-a", "--agent-id", dest="agent", metavar="ID", help="those of this akaBot agent")
    group.add_argument("-u", "--user-agent-id", dest="user_agent", metavar="ID", help="those of this user agent")
    group.add_argument("--task", metavar="ID", help="of this task or workflow; the beginning of an id will do")
    group.add_argument("--status", choices=("success", "error"), help="success or error")
    group.add_argument("--since", metavar="WHEN", help="ended since: an age such as 2h or 7d, or a date")
    group.add_argument("--until", metavar="WHEN", help="ended before: an age or a date, whose first moment is meant")
    more = f"how many, newest first, or: all (default: {LIMIT}; {REPORT_LIMIT} with --html)"
    group.add_argument("-n", "--limit", metavar="N", help=more)
    group = parser.titled("output").add_mutually_exclusive_group()
    group.add_argument("--json", action="store_true", help="as one JSON array")
    group.add_argument("--jsonl", action="store_true", help="as JSON, one object a line")
    group.add_argument("-e", "--export-csv", metavar="PATH", help="write CSV to PATH; - for stdout")
    group.add_argument("--html", metavar="PATH", help="write a report for a browser, one file that loads nothing")
    parser.titled("output").add_argument("--follow", action="store_true", help="go on with new ones, until Ctrl+C")


def main(args: Namespace) -> None:
    settings = options.prepare(args, target=False)
    if args.follow and (args.json or args.export_csv or args.html):
        raise UsageError("--follow goes with the table and with --jsonl only")
    limit: int | None = REPORT_LIMIT if args.html else LIMIT
    if args.limit is not None:
        limit = parsed(_limit, args.limit, "--limit", UsageError)
    filters: dict[str, Any] = {"agent_id": args.agent, "user_agent_id": args.user_agent, "status": args.status}
    filters["task"] = args.task
    for name, when in (("since", args.since), ("until", args.until)):
        if when is not None:
            filters[name] = parsed(times.parse_since, when, f"--{name}", UsageError)
    db_path = settings.db_path
    with History(db_path, settings.names_db) as history:
        records = history.find(**filters, limit=limit)
        if args.follow:
            _follow(history, filters, limit, args)
        elif args.html:
            _write_file(args.html, db_path, lambda stream: _report(records, args, limit, db_path, stream))
        elif args.export_csv == "-":
            if isinstance(sys.stdout, io.TextIOWrapper):
                sys.stdout.reconfigure(encoding="utf-8", newline="")
            views.write_csv(records, sys.stdout)
        elif args.export_csv:
            _write_file(args.export_csv, db_path, lambda stream: views.write_csv(records, stream))
        elif args.json:  # one at a time: together they may not fit into memory
            before = "["
            for record in records:
                terminal.write(before + json_text(record.to_json(), sys.stdout))
                before = ","
            terminal.write("[]" if before == "[" else "]")
        elif args.jsonl or not terminal.is_interactive():
            _print(records, args)
        else:
            _print(list(history.find(**filters, limit=limit, full=False)), args)


def _limit(text: str) -> int | None:
    """None = all, for which 0.2.0 has -1."""
    return None if text in ("all", "-1") else whole(0, 10**9)(text)


def _line_form(args: Namespace, latest: Sequence[Record]) -> Callable[[Record], str]:
    """Write the header, if the form that was asked for has one; what makes a record a line. A table is laid out for
    ``latest``."""
    if args.jsonl:
        return lambda record: json_text(record.to_json(), sys.stdout)
    if not terminal.is_interactive():
        terminal.write("\t".join(Record._fields))
        return views.piped
    paint = partial(terminal.paint, on=terminal.wants_color(sys.stdout, args.color))
    header, line = views.table(latest, shutil.get_terminal_size().columns, paint, partial(encodable, stream=sys.stdout))
    terminal.write(header)
    return line


def _print(records: Iterable[Record], args: Namespace) -> None:
    line = _line_form(args, records if isinstance(records, list) else ())
    is_empty = True
    for record in records:
        terminal.write(line(record))
        is_empty = False
    if is_empty:
        terminal.note("no execution is recorded here that fits")


def _follow(history: History, filters: dict[str, Any], limit: int | None, args: Namespace) -> None:
    """Write the latest executions, oldest first, then each new execution when it has ended."""
    last_id = next((record.id for record in history.find(limit=1, full=False)), 0)
    shown = list(history.find(**filters, limit=limit))[::-1]
    line = _line_form(args, shown)
    never = threading.Event()
    with contextlib.suppress(KeyboardInterrupt):
        while True:
            for record in shown:
                last_id = max(last_id, record.id)
                terminal.write(line(record))
            sys.stdout.flush()
            never.wait(LOOK_S)
            shown = list(history.find(**filters, after_id=last_id))


def _report(records: Iterable[Record], args: Namespace, limit: int | None, db_path: Path, stream: TextIO) -> int:
    from ..history.report import write_report

    given = {"agent": args.agent, "user agent": args.user_agent, "task": args.task,
             "status": args.status, "since": args.since, "until": args.until}  # fmt: skip
    scope = ", ".join(f"{name} {value}" for name, value in given.items() if value)
    return write_report(records, stream, db_path.name, scope or "all executions", limit)


def _write_file(target: str, db_path: Path, write: Callable[[TextIO], int]) -> None:
    """Write a file whole or not at all: after a failure the old file is still there. Raises UserAgentError (``io``)."""
    path = parsed(from_home, target, "the file to write", UsageError)
    if os.path.exists(path) and os.path.samefile(path, db_path):
        raise UsageError(f"{target} is the history itself")
    is_there, made = os.path.exists(path), ""
    try:
        number: int | Path = path
        if is_there and (out := os.fstat(1)).st_ino and os.path.samestat(os.stat(path), out):
            number = os.dup(1)  # /dev/stdout, which may lead to a file that holds more
        elif os.path.isfile(path) or not is_there:  # no pipe, nor a device
            # mkstemp: a name that nobody can foresee and plant a link at, and mode 0600
            if os.path.islink(path) and not is_foreign(os.lstat(path)):
                path = Path(os.path.realpath(path))
            number, made = tempfile.mkstemp(dir=path.absolute().parent, prefix=path.name + ".")
        with open(number, "w", encoding="utf-8", newline="") as stream:
            count = write(stream)
        if made:
            os.replace(made, path)
    except OSError as error:
        raise UserAgentError(f"{target} can't be written: {error.strerror or error}", code="io") from None
    finally:
        with contextlib.suppress(OSError):  # there is none, or it has taken its place
            os.unlink(made)
    terminal.note(f"{count:,} execution{'' if count == 1 else 's'} written to {escape(target)}")

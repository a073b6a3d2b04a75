# SPDX-License-Identifier: Apache-2.0
"""``useragent journal``: results that were not delivered, and what to do with them.

A running worker's file is read, and changed by that worker alone.
"""

from __future__ import annotations

import json
import shutil
import sys
from argparse import Namespace
from collections.abc import Sequence
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import Any

from .. import tables
from ..conductor.wire import json_object
from ..errors import EXIT_OK, EXIT_UNDELIVERED, NotFoundError, StorageError, UsageError
from ..logs import counted, encodable, escape
from ..worker.keeping.journal_file import REJECTED, RESULT, TAKEN, Entry
from ..worker.keeping.leftovers import Left, Leftovers, change, leftovers
from . import options, terminal
from .options import Parser

ACTIONS = ("list", "show", "retry", "drop")
LAST_S = 2**34  # the year 2514: Windows knows none after 3000
COLUMNS = ("id", "state", "status", "agentId", "startedTime", "reason")


def configure(parser: Parser) -> None:
    parser.show_examples("list", "retry 0f8fad5b")
    group = parser.titled("what")
    group.add_argument("action", nargs="?", default="list", choices=ACTIONS, metavar="list|show|retry|drop",
                       help="list what is there (the default), show one result, have the next worker deliver one"
                            " that was refused, or drop one for good")  # fmt: skip
    group.add_argument("id", nargs="?", metavar="ID", help="its task's or workflow's id, or 6 first characters of it")
    group.add_argument("--also", metavar="DIR", action="append", default=[], help="look into this folder too")
    output = parser.titled("output")
    output.add_argument("--json", action="store_true", help="as one JSON document")
    output.add_argument("--exit-code", action="store_true", help="end with 7 if list finds something, or can't tell")


def main(args: Namespace) -> int:
    settings = options.prepare(args, target=False)
    if settings.journal_dir is None:
        raise UsageError("there is no journal to look into: it is switched off")
    if (args.id is None) != (args.action == "list"):
        raise UsageError(f"journal {args.action} needs an ID" if args.id is None else "journal list takes no ID")
    folders = [Path(folder).absolute() for folder in (settings.journal_dir, *args.also)]
    found = leftovers(*folders)
    for path, error in found.unusable:
        terminal.note(escape(f"can't be read: {error if str(path) in str(error) else f'{path}: {error}'}"))
    where = escape(", ".join(map(str, folders)))
    if args.action == "list":
        _list(args, where, found)
        return EXIT_UNDELIVERED if args.exit_code and (found.rows or found.unusable) else EXIT_OK
    chosen = [left for left in found.rows if _is_meant(left.entry, args.id)]
    if len({left.entry.task_id for left in chosen}) > 1:
        raise UsageError(f"{args.id!r} begins several ids", hints=[left.entry.task_id for left in chosen[:5]])
    if not chosen:
        hints = ["it may run in a worker just now"] if found.in_use else []
        raise NotFoundError(f"no result of a task {args.id!r} is kept in {where}", hints=hints)
    if args.action != "show":
        for left in chosen:
            _settle(args, left)
        return EXIT_OK
    document = {**_fields(chosen[0]), "report": json_object(chosen[0].entry.body) or None}
    if args.json or not terminal.is_interactive():
        terminal.write_json(document)
    else:
        terminal.write(escape(json.dumps(document, indent=2, ensure_ascii=False), keep="\n"))
    return EXIT_OK


def _is_meant(entry: Entry, text: str) -> bool:
    """``text`` is the id of its task, or begins that or its workflow's."""
    ids = (entry.task_id, entry.workflow_id)
    return entry.task_id == text or (len(text) >= options.PREFIX_CHARS and any(one.startswith(text) for one in ids))


def _fields(left: Left) -> dict[str, Any]:
    entry = left.entry
    started = datetime.fromtimestamp(min(entry.taken_ms / 1000, LAST_S), timezone.utc).isoformat(timespec="seconds")
    who = {"id": entry.task_id, "state": entry.state, "status": entry.status or None, "agentId": entry.agent_id}
    what = {"workflowInstanceId": entry.workflow_id, "startedTime": started, "reason": entry.reason or None}
    return {**who, **what, "file": str(left.path), "inUse": left.is_in_use}


def _list(args: Namespace, where: str, found: Leftovers) -> None:
    if args.json:
        terminal.write_json([_fields(left) for left in found.rows])
        return
    if not terminal.is_interactive():
        for cells in (COLUMNS, *([str(_fields(left)[name] or "-") for name in COLUMNS] for left in found.rows)):
            terminal.write("\t".join(map(escape, cells)))
    elif found.rows:
        _print_table(args, found.rows)
    waiting = sum(left.is_in_use and left.entry.state != REJECTED for left in found.rows)
    if waiting:
        terminal.note(f"{counted(waiting, 'result')} of these: in a running worker, which goes on trying")
    if found.unusable:
        terminal.note(f"unknown: {counted(len(found.unusable), 'file')} can't be read")
    elif not found.rows:
        terminal.note(f"nothing undelivered is kept in {where}")


def _print_table(args: Namespace, rows: Sequence[Left]) -> None:
    """A table as wide as the terminal, laid out as the history's."""
    clean, now = partial(encodable, stream=sys.stdout), datetime.now().astimezone()
    table = [{name: clean(escape(str(value or "-"))) for name, value in _fields(left).items()} for left in rows]
    for row in table:
        started = datetime.fromisoformat(row["startedTime"]).astimezone(now.tzinfo)
        row.update(id=tables.short(row["id"]), startedTime=f"{started:%Y-%m-%d %H:%M:%S}")
    titles = {"id": "TASK", "startedTime": f"STARTED {now.isoformat()[-6:]}", "agentId": "AGENT"}
    fixed = {"id": max([4, *(tables.width(row["id"]) for row in table)]), "state": 8, "startedTime": 19}
    columns = shutil.get_terminal_size().columns
    widths = tables.widths_of(table, columns, fixed, {"reason": 12, "agentId": 10, "status": 9}, COLUMNS)
    heading = "  ".join(tables.fit(titles.get(name, name.upper()), room) for name, room in widths.items()).rstrip()
    terminal.write(terminal.paint(heading, "bold", terminal.wants_color(sys.stdout, args.color or "auto")))
    mark = "…" if clean("…") == "…" else ".."
    for row in table:
        terminal.write("  ".join(tables.fit(row[name], room, mark) for name, room in widths.items()).rstrip())


def _settle(args: Namespace, left: Left) -> None:
    """Retry or drop the entry with that id."""
    entry, state = None, left.entry.state
    if left.is_in_use:
        hints = ["stop that worker first, or leave it to it"]
        raise NotFoundError(f"{left.path} belongs to a running worker", hints=hints)
    if args.action == "retry":
        if state not in (RESULT, REJECTED):
            what = "it was started and has no result" if state == TAKEN else "it must not be sent twice"
            raise NotFoundError(f"{args.id}: {what}; the next worker settles it when it starts")
        entry = left.entry._replace(state=RESULT, reason="")
    try:
        if not change(left, entry):
            raise NotFoundError(f"{left.path} was taken over by a worker just now", hints=["look again"])
    except OSError as error:
        raise StorageError(f"{left.path} can't be written: {error}", code="io") from None
    if args.json:
        terminal.write_json({"id": left.entry.task_id, "action": args.action})
    else:
        done = "delivered by the next worker that runs against its platform" if entry else "dropped"
        terminal.note(f"the result of {left.entry.task_id} is {done}")

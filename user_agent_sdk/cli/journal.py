# SPDX-License-Identifier: Apache-2.0
"""``useragent journal``: results that were not delivered, and what to do with them.

Only the files of processes that have ended are looked into; a running worker's is left alone and named.
"""

from __future__ import annotations

import json
from argparse import Namespace
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from .. import storage
from ..errors import NotFoundError, StorageError, UsageError
from ..logs import escape
from ..worker.keeping import journal_file
from ..worker.keeping.journal_file import REJECTED, RESULT, TAKEN, Left
from . import options, terminal
from .options import Parser

ACTIONS = ("list", "show", "retry", "drop")
COLUMNS = ("id", "state", "status", "agentId", "startedTime", "reason")


def configure(parser: Parser) -> None:
    group = parser.titled("what")
    group.add_argument("action", nargs="?", default="list", choices=ACTIONS, metavar="list|show|retry|drop",
                       help="list what is there (the default), show one result, have the next worker deliver one"
                            " that was refused, or drop one for good")  # fmt: skip
    group.add_argument("id", nargs="?", metavar="ID", help="the id of its task")
    parser.titled("output").add_argument("--json", action="store_true", help="as one JSON document")


def main(args: Namespace) -> None:
    settings = options.prepare(args, target=False)
    if settings.journal_dir is None:
        raise UsageError("there is no journal to look into: it is switched off")
    if (args.id is None) != (args.action == "list"):
        raise UsageError(f"journal {args.action} needs an ID" if args.id is None else "journal list takes no ID")
    folder = settings.journal_dir.absolute()
    found = journal_file.leftovers(folder)
    for path in found.in_use:
        terminal.note(f"{path} belongs to a running worker and is left alone")
    for path, error in found.unusable:
        terminal.note(f"can't be read: {error if str(path) in str(error) else f'{path}: {error}'}")
    if args.action == "list":
        _list(args, folder, found.rows)
        return
    chosen = [left for left in found.rows if left.entry.task_id == args.id]
    if not chosen:
        hints = ["it may be in the journal of a running worker"] if found.in_use else []
        raise NotFoundError(f"no result of a task {args.id!r} is kept in {folder}", hints=hints)
    if args.action == "show":
        _show(args, chosen[0])
    else:
        for left in chosen:
            _settle(args, left)


def _fields(left: Left) -> dict[str, Any]:
    entry = left.entry
    started = datetime.fromtimestamp(entry.taken_ms / 1000, timezone.utc).isoformat(timespec="seconds")
    return {
        "id": entry.task_id,
        "state": entry.state,
        "status": entry.status or None,
        "agentId": entry.agent_id,
        "workflowInstanceId": entry.workflow_id,
        "startedTime": started,
        "reason": entry.reason or None,
        "file": str(left.path),
    }


def _list(args: Namespace, folder: Path, rows: Sequence[Left]) -> None:
    if args.json:
        terminal.write_json([_fields(left) for left in rows])
        return
    table = [COLUMNS, *([escape(str(_fields(left)[name] or "-")) for name in COLUMNS] for left in rows)]
    if terminal.is_interactive():
        widths = [max(map(len, column)) for column in zip(*table)]
        table = [[f"{cell:<{width}}" for cell, width in zip(row, widths)] for row in table]
    for row in table if rows or not terminal.is_interactive() else ():
        terminal.write(("  " if terminal.is_interactive() else "\t").join(row).rstrip())
    if not rows:
        terminal.note(f"nothing undelivered is kept in {folder}")


def _show(args: Namespace, left: Left) -> None:
    document = {**_fields(left), "report": journal_file.object_in(left.entry.body)}
    if args.json or not terminal.is_interactive():
        terminal.write_json(document)
    else:
        terminal.write(escape(json.dumps(document, indent=2, ensure_ascii=False), keep="\n"))


def _settle(args: Namespace, left: Left) -> None:
    """Retry or drop one."""
    entry, state = None, left.entry.state
    if args.action == "retry":
        if state not in (RESULT, REJECTED):
            what = "it was started and has no result" if state == TAKEN else "it must not be sent twice"
            raise NotFoundError(f"{args.id}: {what}; the next worker settles it when it starts")
        entry = left.entry._replace(state=RESULT, reason="")
    try:
        if not journal_file.change(left, entry):
            raise NotFoundError(f"{left.path} was taken over by a worker just now", hints=["look again"])
    except (storage.Error, OSError) as error:
        raise StorageError(f"{left.path} can't be written: {error}", code="io") from None
    if args.json:
        terminal.write_json({"id": args.id, "action": args.action})
    else:
        done = "delivered by the next worker that runs against its platform" if entry else "dropped"
        terminal.note(f"the result of {args.id} is {done}")

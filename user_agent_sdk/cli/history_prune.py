# SPDX-License-Identifier: Apache-2.0
"""``useragent history-prune``: takes old executions out of the history."""

from __future__ import annotations

from argparse import Namespace

from ..errors import UsageError
from ..history import times
from ..history.store import prune
from ..logs import counted
from ..values import parsed
from . import options, terminal
from .options import Parser


def configure(parser: Parser) -> None:
    parser.show_examples("--older-than 30d --dry-run", "--older-than 2026-01-31")
    group = parser.titled("which")
    group.add_argument("--older-than", metavar="AGE", required=True, help="ended before: an age such as 30d, or a date")
    parser.titled("output").add_argument("--dry-run", action="store_true", help="count them, and delete nothing")


def main(args: Namespace) -> None:
    settings = options.prepare(args, target=False)
    before = parsed(times.parse_since, args.older_than, "--older-than", UsageError)
    count = prune(settings.db_path, before, args.dry_run, settings.names_db)
    if not terminal.is_interactive():
        terminal.write(str(count))
        return
    what = "would delete" if args.dry_run else "deleted"
    terminal.write(f"{what} {counted(count, 'execution')} that ended before {before.isoformat(' ', 'seconds')}")

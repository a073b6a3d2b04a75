# SPDX-License-Identifier: Apache-2.0
"""``useragent init [DIR]``: a project to start from. Nothing of the user's is lost: what is there already is
an error, or with ``--force`` overwritten, save a .gitignore, which only gains lines."""

from __future__ import annotations

import os
import sys
import zipfile
from argparse import Namespace
from collections.abc import Iterable, Iterator
from pathlib import Path

from .. import errors
from ..errors import UsageError, UserAgentError
from ..logs import escape
from . import terminal
from .options import Parser

PACKAGE = "user_agent_sdk"
_ROOT = Path(errors.__file__).resolve().parent  # this copy, which may be called something else, or be in a zip
_KEPT = (".py", ".typed", ".md", ".html")
# The rooms and files that `run` does without.
_EXTRA = {"compat", "history", "sandbox", "watching", "utils", "testing.py", "pages.py", "shared.html", "tables.py",
          "storage.py", "_build.py", "conductor/definitions.py"}  # fmt: skip
_CORE_CLI = {"__init__.py", "commands.py", "options.py", "run.py", "terminal.py"}

AGENT = '''\
"""Adds two numbers. Put your own work in its place."""

from user_agent_sdk import run, user_agent


@user_agent()
def sum_agent(input_data, logger):
    logger.info("Processing task input")  # shown with the task on the platform
    num1 = input_data.get("num1", 0)
    num2 = input_data.get("num2", 0)
    return num1 + num2


if __name__ == "__main__":
    run()  # so that "python agent.py" works for credentials.json, as "useragent run agent.py" does
'''
TEST = '''\
"""Run with: python -m unittest"""

import unittest

from agent import sum_agent
from user_agent_sdk.testing import run_task


class SumAgentTest(unittest.TestCase):
    def test_it_adds_both_numbers(self):
        result = run_task(sum_agent, {"num1": 2, "num2": 3})
        self.assertEqual(result.status, "COMPLETED", result.reason_for_incompletion)
        self.assertEqual(result.output_data, {"result": 5})

    def test_a_number_that_is_missing_counts_as_nothing(self):
        self.assertEqual(run_task(sum_agent, {"num1": 2}).output_data, {"result": 2})


if __name__ == "__main__":
    unittest.main()
'''
IGNORED = """\
# whoever has this file can act as this agent
credentials.json
# inputs and outputs of tasks
.useragent/
*.db
*.db-*
__pycache__/
"""
FILES = {"agent.py": AGENT, "input.json": '{"num1": 2, "num2": 3}\n', "test_agent.py": TEST, ".gitignore": IGNORED}


def configure(parser: Parser) -> None:
    parser.show_examples("my_bot", "my_bot --vendor")
    parser.add_argument("folder", nargs="?", default=".", metavar="DIR", help="where (default: the current folder)")
    parser.add_argument("--vendor", action="store_true", help="copy this SDK into DIR too: nothing to install")
    parser.add_argument("--core", action="store_true", help="with --vendor: only what the command run needs")
    parser.add_argument("--force", action="store_true", help="overwrite what is there; .gitignore only gains lines")


def main(args: Namespace) -> None:
    folder = Path(args.folder)
    files = {name: text.encode() for name, text in FILES.items()}
    if args.core and not args.vendor:
        raise UsageError("--core says what --vendor copies", hints=["give both: init DIR --vendor --core"])
    if args.core:
        del files["test_agent.py"]  # which wants testing.py
    if args.vendor and Path(os.path.realpath(folder / PACKAGE)) != _ROOT:  # a copy must not be written over itself
        ours: Path | zipfile.Path = _ROOT
        if not _ROOT.is_dir():
            archive = next(parent for parent in _ROOT.parents if parent.is_file())
            ours = zipfile.Path(archive, f"{_ROOT.relative_to(archive).as_posix()}/")
        files.update((name, content) for name, content in _files_in(ours, PACKAGE) if not args.core or _is_core(name))
    tops = dict.fromkeys(name.partition("/")[0] for name in files)
    found = ", ".join(sorted(top for top in tops if os.path.lexists(folder / top)))
    if found and not args.force:
        hints = ["name another folder: useragent init DIR", "--force overwrites them (.gitignore only gains lines)"]
        raise UserAgentError(f"already in {folder.resolve()}: {found}", code="exists", hints=hints)
    try:
        if args.force:
            files[".gitignore"] = _with_lines(folder / ".gitignore")
        for name, content in files.items():
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if target.is_symlink():  # replace a link, and not the file that it leads to
                target.unlink()
            target.write_bytes(content)
    except OSError as error:
        raise UserAgentError(f"{error.filename or folder}: {error.strerror or error}", code="io") from None
    _tell(args, folder, tops)


def _with_lines(path: Path) -> bytes:
    there = path.read_bytes() if path.exists() else b""
    known = {line.strip() for line in there.splitlines()}
    missing = [line for line in IGNORED.encode().splitlines() if line not in known]
    gap = b"" if not there or there.endswith(b"\n") else b"\n"
    return there + gap + b"".join(line + b"\n" for line in missing)


def _is_core(name: str) -> bool:
    _, first, *others = name.split("/")
    is_extra = first in _EXTRA or "/".join([first, *others]) in _EXTRA
    return not is_extra and (first != "cli" or others[0] in _CORE_CLI)


def _files_in(folder: Path | zipfile.Path, name: str) -> Iterator[tuple[str, bytes]]:
    for path in folder.iterdir():
        if path.name.startswith("."):
            continue  # hidden folders, of a notebook or a checker
        if path.is_dir():
            yield from _files_in(path, f"{name}/{path.name}")
        elif path.name.endswith(_KEPT) and path.is_file():
            yield f"{name}/{path.name}", path.read_bytes()


def _tell(args: Namespace, folder: Path, made: Iterable[str]) -> None:
    python = Path(sys.executable).name.replace(".exe", "")
    program = f"{python} -m {PACKAGE}" if args.vendor else terminal.program()
    steps = [
        (f"{program} invoke agent.py -i input.json", "once, without account"),
        (f"{python} -m unittest", "its tests"),
        (f"{program} dev agent.py --sandbox", "afresh after each save"),
        (f"{program} run agent.py", "with credentials.json"),
    ]
    steps = steps[-1:] if args.core else steps
    if folder.resolve() != Path.cwd():
        shown = escape(str(folder))
        change = "cd" if folder.resolve().drive == Path.cwd().drive else "pushd"  # cmd's cd stays on its drive
        steps.insert(0, (f'{change} "{shown}"' if " " in shown else f"{change} {shown}", ""))
    place = escape(str(folder.resolve()))
    terminal.note(f"made in {place}:\n  {'  '.join(made)}")
    if not args.vendor and _ROOT.parent != folder.resolve() and not {"site-packages", "dist-packages"} & {*_ROOT.parts}:
        terminal.note("the SDK is not installed, so what follows fails there; init --vendor copies it")
    width = max(len(step) for step, _ in steps)
    terminal.note("\n".join(["next:", *(f"  {step:<{width}}  {what}".rstrip() for step, what in steps)]))

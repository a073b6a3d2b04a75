# SPDX-License-Identifier: Apache-2.0
"""A copy of the package may leave out what it does not need: each of these, or all. What is left runs, ``-h`` lists
what is there, and what was left out says so."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import tempfile
import unittest
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests import test_doors as doors
from tests.cli import ROOT, SUM, CliTest, Ended
from tests.support import entered
from user_agent_sdk.cli import commands, init
from user_agent_sdk.sandbox.server import Sandbox

AGENT_ID = "0000#user-agent"
ROOMS = ("history", "sandbox", "watching", "utils", "compat", "testing.py", "_build.py", "pages.py")
COMMANDS = [name for name in commands.COMMANDS if name != "run"]
ANSWERS = """if True:
    import contextlib, importlib, io, json, os, sys
    from user_agent_sdk.cli import main
    for _, words, away in json.loads(sys.argv[1]):
        if away:
            os.rename(away, away + ".away")
            importlib.invalidate_caches()
        err = io.StringIO()
        with contextlib.redirect_stderr(err):
            code = main(words)
        print(json.dumps([code, err.getvalue()]))
        if away:
            os.rename(away + ".away", away)
    """


def file_of(command: str) -> str:
    return f"cli/{command.replace('-', '_')}.py"


class RoomsTest(CliTest):
    copy: Path  # one for all tests, so that it is compiled once

    @classmethod
    def setUpClass(cls) -> None:
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        cls.copy = Path(folder.name).resolve() / "user_agent_sdk"
        shutil.copytree(ROOT / "user_agent_sdk", cls.copy, ignore=shutil.ignore_patterns("__pycache__"))

    def setUp(self) -> None:
        super().setUp()
        self.sandbox = entered(self, Sandbox())
        self.write("agent.py", SUM)
        self.write("credentials.json", json.dumps(self.sandbox.credentials(AGENT_ID))).chmod(0o600)

    @contextlib.contextmanager
    def without(self, *places: str) -> Iterator[None]:
        """The copy lacks these meanwhile."""
        with tempfile.TemporaryDirectory(dir=self.copy.parent) as aside:
            kept = [(self.copy / place, Path(aside) / place.replace("/", "-")) for place in places]
            for path, elsewhere in kept:
                path.rename(elsewhere)
            try:
                yield
            finally:
                for path, elsewhere in kept:
                    elsewhere.rename(path)

    def start(self, *words: str) -> Ended:
        way = str(self.copy.parent)
        return self.run_process("-W", "error", "-m", "user_agent_sdk", *words, PYTHONPATH=way)

    def assert_it_runs(self) -> None:
        execution_id = self.sandbox.submit(AGENT_ID, {"num1": 2, "num2": 3})
        ended = self.start("run", "agent.py", "--max-tasks", "1", "--drain-timeout", "5", "--poll-interval", "10")
        self.assertEqual(ended.code, 0, ended.err)
        self.assertEqual(self.sandbox.wait(execution_id, 0).output, {"result": 5})

    def listed(self) -> list[str]:
        ended = self.start("-h")
        self.assertEqual(ended.code, 0, ended.err)
        return re.findall(r"^  ([a-z-]+)  ", ended.out, re.MULTILINE)

    def assert_left_out(self, *asked: tuple[str, Sequence[str], str]) -> None:
        """Of what is left out, a command line that needs it, and the file that is away meanwhile, if one is."""
        ended = self.run_process("-W", "error", "-c", ANSWERS, json.dumps(asked), PYTHONPATH=str(self.copy.parent))
        self.assertEqual((ended.code, ended.err), (0, ""))
        answers = [json.loads(line) for line in ended.out.splitlines()]
        self.assertEqual(len(answers), len(asked))
        for (what, _, _), (code, err) in zip(asked, answers):
            self.assertEqual(code, 2, err)
            self.assertIn(f"error[usage]: this copy was made without {what}\n", err)
            self.assertNotIn("bug", err)

    def test_each_room_can_be_deleted(self) -> None:
        """Without history/ even `run` did not start, and said that this was a bug."""
        asked = {
            "history": [("run", "agent.py", "-r"), ("history",), ("hd", "1"), ("history-prune", "--older-than", "1d")],
            "sandbox": [("invoke", "agent.py"), ("sandbox",), ("dev", "agent.py", "--sandbox")],
        }
        for room in ("history", "sandbox", "watching", "utils", ("testing.py", "_build.py", "pages.py")):
            with self.without(*([room] if isinstance(room, str) else room)):
                self.assert_it_runs()
                if room in asked:
                    self.assert_left_out(*((str(room), words, "") for words in asked[str(room)]))
                needy = [name for name, needed in commands.ROOMS.items() if needed == room]
                self.assertEqual(self.listed(), [name for name in commands.COMMANDS if name not in needy])

    def test_without_watching_a_status_port_is_refused(self) -> None:
        with self.without("watching"):
            ended = self.start("run", "agent.py", "--status-port", "0")
        self.assertEqual((ended.code, "this copy was made without watching/" in ended.err), (3, True), ended.err)

    def test_each_command_can_be_deleted(self) -> None:
        self.assert_left_out(*((f"the command {name}", [name], str(self.copy / file_of(name))) for name in COMMANDS))

    def test_no_command_needs_another(self) -> None:
        """So that each can be deleted: a command may import run, and what is no command, at its top."""
        files = {f"cli.{name.replace('-', '_')}" for name in COMMANDS}
        for module, path in doors.sources():
            if module in files:
                found = {each.name for each in doors.imports(doors.parsed(path), path) if each.at_top and each.is_ours}
                self.assertEqual(found & files, set(), path)

    def test_all_can_be_deleted_together(self) -> None:
        with self.without(*ROOMS, *map(file_of, COMMANDS), "cli/watch.py", "cli/embedded.py"):
            self.assert_it_runs()
            self.assertEqual(self.listed(), ["run"])

    def test_a_core_copy_has_what_run_needs_and_nothing_else(self) -> None:
        project = self.folder / "project"
        self.assertEqual(self.run_main("init", str(project), "--vendor", "--core").code, 0)
        self.assertFalse((project / "test_agent.py").exists())
        self.copy = project / "user_agent_sdk"
        os.chdir(project)
        shutil.copy(self.folder / "credentials.json", project)
        execution_id = self.sandbox.submit(AGENT_ID, {"num1": 2, "num2": 3})
        ended = self.start("run", "agent.py", "--max-tasks", "1", "--drain-timeout", "5", "--poll-interval", "10")
        self.assertEqual((ended.code, self.sandbox.wait(execution_id, 0).output), (0, {"result": 5}), ended.err)
        self.assertEqual(self.listed(), ["run"])
        there = {path.relative_to(self.copy).as_posix() for path in self.copy.rglob("*.py")}
        self.assertEqual(there, set(needed_by_run()))

    def test_core_says_what_it_goes_with(self) -> None:
        self.assertEqual(self.run_main("init", "here", "--core").code, 2)


def needed_by_run() -> Iterator[str]:
    """The files of a core copy, found by following the imports from those that a worker starts with."""
    modules = dict(doors.sources())
    left_out = {place.replace("/", ".").replace(".py", "") for place in init._EXTRA} | {"cli.definitions"}
    files = {f"cli.{name.replace('-', '_')}" for name in COMMANDS}
    homes = [home.lstrip(".") for home in __import__("user_agent_sdk")._HOMES.values()]
    ways = ["__init__", "__main__", "spawned", "cli.run", "loader", *homes]
    found: set[str] = set()
    while ways:
        module = ways.pop()
        if module in found or {module, module.split(".")[0]} & left_out or module in files or module not in modules:
            continue
        found.add(module)
        path = modules[module]
        ways += [each.name for each in doors.imports(doors.parsed(path), path) if each.is_ours]
        parts = module.split(".")
        ways += [".".join(parts[:end]) for end in range(1, len(parts))]
    for module in found:
        yield modules[module].relative_to(doors.PACKAGE).as_posix()


if __name__ == "__main__":
    unittest.main()

# SPDX-License-Identifier: Apache-2.0
"""Whoever can write to the folder in which a command starts runs no code in it: a file there that is called like a
module of the standard library, any of them, is never imported by a command of ours."""

from __future__ import annotations

import json
import os
import pkgutil
import signal
import subprocess
import sys
import sysconfig
import unittest
from pathlib import Path

from tests.cli import PYTHON, ROOT, SUM, CliTest
from tests.support import entered
from user_agent_sdk.cli import commands
from user_agent_sdk.sandbox.server import Sandbox

AGENT_ID = "0000#user-agent"
PLANTED = "import os\nos.write(os.open(os.environ['TRAP'], os.O_WRONLY | os.O_APPEND), (__name__ + ' ').encode())\n"


def standard_names() -> set[str]:
    if sys.version_info >= (3, 10):
        return set(sys.stdlib_module_names)
    folder = Path(sysconfig.get_paths()["stdlib"])
    places = [folder, folder / "lib-dynload", Path(os.__file__).parent]  # the last may be a zip on Windows
    found = {name.partition(".")[0] for place in places for _, name, _ in pkgutil.iter_modules([str(place)])}
    return found | {*sys.builtin_module_names}


class PlantedTest(CliTest):
    def setUp(self) -> None:
        super().setUp()
        self.trap = self.folder / "trap"
        self.trap.touch()
        self.here = self.folder / "here"
        self.here.mkdir()
        (self.folder / "probe.py").write_text("import sys\nprint(*sys.modules)\n")
        # What Python itself imports for -m, before a line of ours runs, is Python's to guard (with -P, from 3.11 on).
        before = self.run_process("-m", "probe", PYTHONPATH=str(self.folder)).out.split()
        self.names = sorted(name for name in standard_names() - {*before} if name.isidentifier())
        for name in self.names:
            (self.here / f"{name}.py").write_text(PLANTED)
        self.agent = str(self.write("agent.py", SUM))
        self.sandbox = entered(self, Sandbox())
        (self.here / "credentials.json").write_text(json.dumps(self.sandbox.credentials(AGENT_ID)))
        (self.here / "credentials.json").chmod(0o600)

    def start(self, *words: str) -> subprocess.Popen[str]:
        environ = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUTF8": "1", "TRAP": str(self.trap)}
        command = [*PYTHON, *words]
        process = subprocess.Popen(
            command, cwd=self.here, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self.addCleanup(process.communicate)
        self.addCleanup(process.kill)
        return process

    def test_the_trap_works(self) -> None:
        self.assertGreater(len(self.names), 150)
        self.start("-c", "import argparse").wait(30)
        self.assertNotEqual(self.trap.read_text(), "")

    def test_no_command_imports_what_lies_in_the_current_folder(self) -> None:
        """A winreg.py there was run by invoke and sandbox, on Linux: the folder stood at the end of the path."""
        agent = self.agent
        for _ in range(2):
            self.sandbox.submit(AGENT_ID, {"num1": 1})
        once = ("--max-tasks", "1", "--drain-timeout", "0", "--poll-interval", "10")
        given = {
            "run": (("run", agent, "-r", "--status-port", "0", *once), ("run", agent, "--log-format", "json", *once)),
            "invoke": (("invoke", agent, "-r", "-db", "invoked.db"),),
            "submit": (("submit", "-a", AGENT_ID, "--url", self.sandbox.origin, "--wait", "0"),),
            "check": (("check", agent, "--json"),),
            "journal": (("journal",), ("journal", "--json")),
            "init": (("init", "made", "--vendor"),),
            "version": (("version", "--json"),),
        }
        after = {
            "history": (("history",), ("history", "--html", "page.html"), ("history", "-e", "out.csv"),
                        ("history", "--json", "--since", "2h")),
            "history-detail": (("hd", "last"),),
            "history-prune": (("history-prune", "--older-than", "30d"),),
        }  # fmt: skip
        servers = {"sandbox": (("sandbox", agent, "--port", "0"),), "dev": (("dev", agent, "--sandbox"),)}
        self.assertEqual({*given, *after, *servers}, {*commands.COMMANDS})
        for table in (given, after):
            lines = [line for lines in table.values() for line in lines]
            for line, process in [(line, self.start("-m", "user_agent_sdk", *line)) for line in lines]:
                out, err = process.communicate(timeout=60)
                self.assertEqual((process.returncode, self.trap.read_text()), (0, ""), (line, out, err))
        for line in [line for lines in servers.values() for line in lines] if os.name == "posix" else ():
            process = self.start("-m", "user_agent_sdk", *line)
            assert process.stderr is not None
            while "agent sum_agent" not in (said := process.stderr.readline()):
                self.assertTrue(said, self.trap.read_text())
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=60)
            self.assertEqual(self.trap.read_text(), "", line)

    def test_the_folder_form_and_help_do_not_either(self) -> None:
        for words in ((str(ROOT / "user_agent_sdk"), "version"), ("-m", "user_agent_sdk", "run", "-h")):
            process = self.start(*words)
            self.assertTrue(process.communicate(timeout=60)[0])
            self.assertEqual((process.returncode, self.trap.read_text()), (0, ""), words)


if __name__ == "__main__":
    unittest.main()

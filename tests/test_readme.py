# SPDX-License-Identifier: Apache-2.0
"""The README's commands run and print what it says, and its tables are the code's own."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path
from xml.etree import ElementTree

from user_agent_sdk.cli import options, run
from user_agent_sdk.cli.commands import COMMANDS
from user_agent_sdk.errors import CODES
from user_agent_sdk.settings import TABLE

from .releases import RELEASES, markdown

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
CONSOLE = re.compile(r"```console\n(.*?)```", re.DOTALL)


def commands() -> list[tuple[str, str]]:
    """Each ``$ command`` of a console block with the output that is printed below it, in order."""
    found = []
    for block in CONSOLE.findall(TEXT):
        for step in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, output = step.partition("\n")
            found.append((command, output))
    return found


class CommandsTest(unittest.TestCase):
    def test_every_command_prints_what_the_readme_says(self) -> None:
        """In a copy of what a newcomer has: the package and the examples, and nothing installed."""
        with tempfile.TemporaryDirectory() as folder:
            checkout = here = Path(folder).resolve() / "checkout"
            for name in ("user_agent_sdk", "examples"):
                shutil.copytree(ROOT / name, checkout / name, ignore=shutil.ignore_patterns("__pycache__"))
            ran = 0
            for command, expected in commands():
                if command == "python -m unittest" and here == checkout:
                    continue  # that is this very run
                if command.startswith("cd "):
                    here = (here / command[3:]).resolve()
                    continue
                out = self.run_there(command, here)
                self.assertTrue(self.matches(expected, out), f"{command}\nprinted:\n{out}\nnot:\n{expected}")
                ran += 1
        self.assertGreaterEqual(ran, 6)

    def run_there(self, command: str, here: Path) -> str:
        """stdout. A shell, as the newcomer has one, with its ``python`` being ours."""
        command = re.sub(r"^python\b", lambda _: f'"{sys.executable}"', command)
        ours = ("USERAGENT_", "CONDUCTOR_", "PYTHON")
        clean = {name: value for name, value in os.environ.items() if not name.upper().startswith(ours)}
        done = subprocess.run(
            command, shell=True, cwd=here, env=clean, capture_output=True, text=True, encoding="utf-8", timeout=60
        )
        self.assertEqual(done.returncode, 0, f"{command}\n{done.stderr}")
        return done.stdout

    def matches(self, expected: str, out: str) -> bool:
        """``...`` in the README stands for anything."""
        return (
            re.fullmatch(".*".join(map(re.escape, expected.strip().split("..."))), out.strip(), re.DOTALL) is not None
        )


# What a shell does with it, so that a command that has it does not mean the same when it is pasted elsewhere.
SPECIAL = {
    "'": "no quote in cmd", '"': "PowerShell takes those within an argument away", "{": "a script block in PowerShell",
    "$": "a variable in bash and PowerShell", "%": "a variable in cmd", "&": "&& is an error in PowerShell 5.1",
    "|": "a pipe", "<": "an error in PowerShell", ">": "UTF-16 in PowerShell 5.1", ";": "no separator in cmd",
    "(": "a subexpression in PowerShell", "`": "an escape in PowerShell", "^": "an escape in cmd",
    "*": "cmd and PowerShell expand none", "~": "no home folder in cmd", "@": "splats in PowerShell",
    ",": "an array in PowerShell", "#": "a comment in bash and PowerShell", "\\": "an escape in bash",
}  # fmt: skip


class PastedTest(unittest.TestCase):
    def test_every_command_means_the_same_in_bash_cmd_and_powershell(self) -> None:
        """The first one had its JSON in single quotes: cmd and PowerShell made two words of that, without quotes."""
        lines = [command for command, _ in commands()]
        for block in re.findall(r"```sh\n(.*?)```", TEXT[: TEXT.index("## Map for maintainers")], re.DOTALL):
            lines += block.splitlines()
        for path in (ROOT / "examples").glob("*.py"):
            lines += re.findall(r"^    (python -m .*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
        self.assertGreater(len(lines), 15)
        for line in lines:
            found = {sign: meaning for sign, meaning in SPECIAL.items() if sign in line}
            self.assertEqual(found, {}, line)


class TablesTest(unittest.TestCase):
    def test_the_error_codes_are_the_codes_own(self) -> None:
        section = TEXT[TEXT.index("### Error codes") : TEXT.index("### Settings")]
        rows = re.findall(r"^\| `([\w-]+)` \| (\d+) \| (.*) \|$", section, re.MULTILINE)
        self.assertEqual(rows, [(code, str(exit_code), meaning) for code, (exit_code, meaning) in CODES.items()])

    def test_every_setting_is_listed_with_its_variable_key_and_flags(self) -> None:
        section = TEXT[TEXT.index("### Settings") : TEXT.index("### Files")]
        for row in TABLE:
            line = next((line for line in section.splitlines() if line.startswith(f"| `{row.env}` |")), "")
            for name in (row.key, *row.flags, row.off):
                self.assertIn(f"`{name}`" if name else "", line, row.name)

    def test_every_command_is_listed(self) -> None:
        section = TEXT[TEXT.index("### Commands") : TEXT.index("### Exit codes")]
        for name in COMMANDS:
            self.assertRegex(section, rf"`{re.escape(name)}[ `]", name)

    def test_the_conductors_that_were_tried_are_those_of_the_table(self) -> None:
        self.assertIn(markdown(), TEXT)
        tried = " ".join(TEXT[TEXT.index("Tried with Conductor") :].split(";")[0].split())
        said = {
            version: store
            for versions, store in re.findall(r"([\d. and]+) on (\w+)", tried)
            for version in versions.split(" and ")
        }
        self.assertEqual(
            {name: release.store for name, release in RELEASES.items()}, {k.strip(): v for k, v in said.items()}
        )

    def test_every_linked_section_exists(self) -> None:
        headings = {re.sub(r"[^\w -]", "", line.lstrip("# ")).lower().replace(" ", "-") for line in TEXT.splitlines()}
        for target in re.findall(r"\]\(#([\w-]+)\)", TEXT):
            self.assertIn(target, headings)

    def test_every_file_that_is_named_exists(self) -> None:
        for name in re.findall(r"`((?:examples|tests)/[\w/.]+)`", TEXT):
            self.assertTrue((ROOT / name).exists(), name)


class ExamplesTest(unittest.TestCase):
    def test_every_example_runs_by_the_command_in_its_docstring(self) -> None:
        for path in sorted((ROOT / "examples").glob("*.py")):
            with self.subTest(path.name):
                found = re.search(
                    r"^    python (-m user_agent_sdk invoke .*)$", path.read_text(encoding="utf-8"), re.MULTILINE
                )
                assert found is not None, "an example says how it is run"
                done = subprocess.run(
                    f'"{sys.executable}" {found[1]}', shell=True, cwd=ROOT, capture_output=True, text=True, timeout=60
                )
                self.assertEqual(done.returncode, 0, done.stderr)
                self.assertTrue(done.stdout.startswith("{"), done.stdout)

    def test_the_task_schedulers_file_is_what_its_schema_wants(self) -> None:
        root = ElementTree.parse(ROOT / "examples" / "service" / "task-scheduler.xml").getroot()
        space = "{http://schemas.microsoft.com/windows/2004/02/mit/task}"
        self.assertEqual((root.tag, root.get("version")), (f"{space}Task", "1.2"))
        order = ["RegistrationInfo", "Triggers", "Principals", "Settings", "Data", "Actions"]  # a sequence there
        parts = [part.tag.replace(space, "") for part in root]
        self.assertEqual(parts, [name for name in order if name in parts])
        action = root.find(f"{space}Actions/{space}Exec")
        assert action is not None
        self.assertEqual([part.tag.replace(space, "") for part in action], ["Command", "Arguments", "WorkingDirectory"])
        self.assertEqual(root.findtext(f"{space}Settings/{space}ExecutionTimeLimit"), "PT0S")  # else 72 hours

    def test_each_services_command_line_is_understood(self) -> None:
        """supervisord's had an option that does not exist: the worker ended with 2, and was not started again."""
        parser = options.Parser("useragent run", *COMMANDS["run"])
        run.configure(parser)
        options.add_settings(parser, "run")
        files = set()
        for path in (ROOT / "examples" / "service").iterdir():
            text = path.read_text("utf-8").replace('", "', " ")  # of a list
            for words in re.findall(r"-m user_agent_sdk run ([^\n\"<]*)", text):
                self.assertTrue(parser.parse(words.split()).agent.endswith("agent.py"), words)
                files.add(path.suffix)
        self.assertEqual(files, {".conf", ".service", ".xml", ".cmd", ".Dockerfile"})

    @unittest.skipUnless(shutil.which("systemd-analyze"), "needs systemd-analyze")
    def test_the_systemd_unit_passes_its_own_check(self) -> None:
        unit = ROOT / "examples" / "service" / "useragent.service"
        done = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, timeout=60)
        self.assertEqual((done.returncode, done.stderr), (0, ""))

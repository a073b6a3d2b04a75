# SPDX-License-Identifier: Apache-2.0
"""Scripts and command lines of the published package do here what they do there, on the real engine; and what is meant
to be otherwise is.

``USERAGENT_SEED_PYTHON`` names a Python (3.12 or newer) in whose environment user-agent-sdk 0.2.0 is installed;
``USERAGENT_SEED_03_PYTHON`` one with 0.3.0.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
import unittest
from collections.abc import Sequence

from . import RealTestCase
from .parity.compare import SEED, SEED_03, compared
from .parity.lines import LINES
from .parity.names import NAMES
from .parity.scripts import NEWER, SCRIPTS, Script

# Reads lines from stdin, and writes what the published command line understands by each, as JSON.
PARSE = """
import contextlib, io, json, sys
from user_agent_sdk.cli import app
named = {"help_print": "help", "version_print": "version"}
for line in sys.stdin:
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            command, bound, *_ = app.parse_args(line.split(), exit_on_error=False, print_error=False)
        name = command.__name__
        own = {} if name in named else bound.arguments
        found = {"command": named.get(name, name).replace("_", "-"), **own}
    except BaseException:
        found = None
    print(json.dumps(found))
"""
# Writes which of these names there are.
HAVE = """
import importlib, json, sys
for path, names in json.loads(sys.argv[1]).items():
    try:
        module = importlib.import_module(path)
    except ModuleNotFoundError:
        continue
    print(*[f"{path}.{name}" for name in names.split() if hasattr(module, name)])
"""


class ParityTest(RealTestCase):
    @unittest.skipUnless(SEED, "USERAGENT_SEED_PYTHON does not name a Python with 0.2.0")
    def test_each_script_does_what_it_did(self) -> None:
        self.compare(SCRIPTS, SEED)

    @unittest.skipUnless(SEED_03, "USERAGENT_SEED_03_PYTHON does not name a Python with 0.3.0")
    def test_scripts_of_0_3_0_do_what_they_did(self) -> None:
        self.compare(NEWER, SEED_03)

    def compare(self, scripts: Sequence[Script], seed: str) -> None:
        count = 0
        for each in compared(self.stack, scripts, seed):
            count += 1
            with self.subTest(each.script.name):
                self.assertEqual(each.unmeant, [], f"{each.verdict}\nthere: {each.there}\nhere: {each.here}")
        self.assertEqual(count, len(scripts))


class NamesTest(unittest.TestCase):
    """This needs no server."""

    @unittest.skipUnless(SEED and SEED_03, "two variables must name a Python with 0.2.0 and one with 0.3.0")
    def test_each_name_is_in_a_published_package(self) -> None:
        found: set[str] = set()
        for seed in (SEED, SEED_03):
            with tempfile.TemporaryDirectory() as elsewhere:
                words = [seed, "-c", HAVE, json.dumps(NAMES)]
                done = subprocess.run(words, cwd=elsewhere, capture_output=True, text=True, timeout=120, check=True)
            found.update(done.stdout.split())
        self.assertEqual({f"{path}.{name}" for path, names in NAMES.items() for name in names.split()}, found)


class CommandLineTest(unittest.TestCase):
    """This needs no server."""

    @unittest.skipUnless(SEED, "USERAGENT_SEED_PYTHON does not name a Python with 0.2.0")
    def test_each_command_line_is_understood_by_0_2_0_as_the_table_says(self) -> None:
        self.ask(SEED)

    @unittest.skipUnless(SEED_03, "USERAGENT_SEED_03_PYTHON does not name a Python with 0.3.0")
    def test_each_command_line_is_understood_by_0_3_0_as_the_table_says(self) -> None:
        self.ask(SEED_03)

    def ask(self, seed: str) -> None:
        lines = "".join(line + "\n" for line, _ in LINES)
        with tempfile.TemporaryDirectory() as elsewhere:  # not here, where the package of that name is ours
            done = subprocess.run(
                [seed, "-c", PARSE], input=lines, cwd=elsewhere, capture_output=True, text=True, timeout=120, check=True
            )
        self.assertEqual([json.loads(line) for line in done.stdout.splitlines()], [there for _, there in LINES])


if __name__ == "__main__":
    unittest.main()

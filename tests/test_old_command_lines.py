# SPDX-License-Identifier: Apache-2.0
"""Each form of a command line that 0.2.0 and 0.3.0 understand is understood, as they do."""

from __future__ import annotations

import ast
import unittest

from tests.cli import ROOT, SUM, CliTest
from tests.real.parity.lines import LINES, MEANT, difference, quietly
from tests.real.parity.scripts import MOVES, SCRIPTS, table


class OldCommandLinesTest(unittest.TestCase):
    def test_each_line_is_understood_as_there(self) -> None:
        for line, there in LINES:
            with self.subTest(line):
                self.assertNotIn("DIFFERS", difference(line, there))
        self.assertGreaterEqual(sum(there is not None for _, there in LINES), 60)

    def test_what_is_meant_to_differ_does(self) -> None:
        lines = dict(LINES)
        for line in MEANT:
            self.assertNotEqual(quietly(line), lines[line], line)

    def test_a_second_script_is_no_credentials_file(self) -> None:
        self.assertNotIn("config_file", quietly("run a.py b.py") or {})


class MovingHereTest(unittest.TestCase):
    def test_the_readme_has_the_table_that_the_scripts_are_compared_by(self) -> None:
        self.assertIn(f"\n\n{table()}\n\n", (ROOT / "README.md").read_text("utf-8"))

    def test_each_difference_that_is_meant_is_a_row_of_it_that_some_script_shows(self) -> None:
        used = {key for script in SCRIPTS for key in script.differs.values() if key}
        self.assertEqual(used, set(MOVES))
        self.assertEqual(len({script.name for script in SCRIPTS}), len(SCRIPTS))
        self.assertGreaterEqual(len(SCRIPTS), 60)
        for script in SCRIPTS:
            ast.parse(script.text)


class WhatTheyDoTest(CliTest):
    def test_a_switch_that_is_turned_off_is_off_whatever_the_environment_says(self) -> None:
        self.write("agent.py", SUM)
        for words, is_there in (((), False), (("-r",), True)):
            self.assertEqual(self.run_main("invoke", "agent.py", "-r=false", *words).code, 0)
            self.assertEqual((self.folder / "execution_history.db").exists(), is_there)

    def test_the_bridge_to_a_browser_has_a_message_of_its_own(self) -> None:
        ended = self.run_main("cua", "--ui")
        self.assertEqual(ended.code, 2)
        self.assertIn("cua is not part of this package", ended.err)
        self.assertIn("stay with 0.3.0", ended.err)

    def test_without_any_word_the_commands_are_listed(self) -> None:
        """As there. It was an error, which told how to list them."""
        self.assertEqual(self.run_main(), self.run_main("-h"))
        self.assertEqual(self.run_main().code, 0)

    def test_a_script_that_ends_the_program_at_its_top_chooses_the_exit_code(self) -> None:
        """As there. It was 6, whatever the script said; a worker that never starts still has not ended well."""
        self.write("credentials.json", '{"clientId": "a", "clientSecret": "b", "agentId": "c"}')
        for given, code in (("75", 75), ("0", 6), ("", 6), ("'no disk'", 6), ("True", 6)):
            self.write("agent.py", f"import sys\nsys.exit({given})\n")
            ended = self.run_main("run", "agent.py")
            self.assertEqual(ended.code, code, given)
            self.assertIn("agent.py raised SystemExit while it was loaded", ended.err)

    def test_a_record_is_named_by_an_option_too(self) -> None:
        self.write("agent.py", SUM)
        self.run_main("invoke", "agent.py", "-r")
        self.assertIn('"result": 0', self.run_main("hd", "--record-id", "1").out)
        self.assertIn('"result": 0', self.run_main("hd", "1", "execution_history.db").out)


if __name__ == "__main__":
    unittest.main()

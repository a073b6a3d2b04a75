# SPDX-License-Identifier: Apache-2.0
"""``useragent version``."""

from __future__ import annotations

import json
import sys
import unittest
from pathlib import Path

from tests.cli import ROOT, CliTest
from user_agent_sdk import __version__


class VersionTest(CliTest):
    def test_the_short_form_is_one_line(self) -> None:
        self.assertEqual(self.run_main("--version"), (0, f"useragent {__version__}\n", ""))

    def test_in_a_pipe_it_is_one_tab_separated_fact_a_line(self) -> None:
        facts = dict(line.split("\t") for line in self.run_main("version").out.splitlines())
        self.assertEqual(list(facts), ["sdk", "python", "platform", "executable", "root"])
        self.assertEqual(facts["sdk"], __version__)
        self.assertTrue(facts["python"].startswith("{}.{}.{} (".format(*sys.version_info)))
        self.assertEqual(Path(facts["root"]), ROOT / "user_agent_sdk")

    def test_json_has_the_same_facts(self) -> None:
        ended = self.run_main("version", "--json")
        facts = dict(line.split("\t") for line in self.run_main("version").out.splitlines())
        self.assertEqual(json.loads(ended.out), facts)


if __name__ == "__main__":
    unittest.main()

# SPDX-License-Identifier: Apache-2.0
"""A Python that is too old is told so, in one line: it was "internal error, this is a bug", or a SyntaxError."""

from __future__ import annotations

import shutil
import subprocess
import unittest
from pathlib import Path

import user_agent_sdk

ROOT = Path(user_agent_sdk.__file__).parent.parent
OLD = ("2.7", "3.6", "3.7", "3.8")


def found() -> list[str]:
    """The old interpreters of this machine: on the path, or pyenv's, whose shims there lead to the chosen one alone."""
    of_pyenv = [str(path) for name in OLD for path in Path.home().glob(f".pyenv/versions/{name}.*/bin/python")]
    on_the_path = [path for name in OLD if (path := shutil.which(f"python{name}"))]
    return [path for path in on_the_path if Path(path).parent.name != "shims"] + of_pyenv


class OldPythonsTest(unittest.TestCase):
    def test_each_is_refused_in_one_line_however_it_is_started(self) -> None:
        pythons = found()
        if not pythons:
            self.skipTest("no Python below 3.9 is here")
        for python in pythons:
            for words in (["-m", "user_agent_sdk"], ["user_agent_sdk"], ["-c", "import user_agent_sdk"]):
                command = [python, "-B", *words]
                done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
                with self.subTest(command):
                    self.assertEqual(done.returncode, 1)
                    self.assertRegex(done.stderr, r"^user_agent_sdk needs Python 3\.9 or newer; this is Python [23]\.")
                    self.assertEqual(len(done.stderr.splitlines()), 1)

    def test_the_two_files_that_they_read_have_no_syntax_of_later_ones(self) -> None:
        """Where none of them is installed: what such a parser stumbles over."""
        for name in ("__init__.py", "__main__.py"):
            text = (ROOT / "user_agent_sdk" / name).read_text("utf-8")
            self.assertNotIn("from __future__ import annotations", text)
            self.assertNotRegex(text, r"def \w+\(.*(:|->).*\):|\bf\"|:=")


if __name__ == "__main__":
    unittest.main()

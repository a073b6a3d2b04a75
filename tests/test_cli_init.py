# SPDX-License-Identifier: Apache-2.0
"""``useragent init``: what it writes works at once, and what was there before is not lost."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import unittest
from pathlib import Path

from tests.cli import ROOT, CliTest, Ended
from tests.support import unless_wine_lacks
from user_agent_sdk import _build


class InitTest(CliTest):
    def in_project(self, *words: str, vendored: bool = False) -> Ended:
        """A process of its own in the project, which finds the SDK beside itself or on the path."""
        environ = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        environ = environ if vendored else {**environ, "PYTHONPATH": str(ROOT)}
        done = subprocess.run([sys.executable, *words], cwd=self.folder / "project", env=environ, capture_output=True)
        return Ended(done.returncode, done.stdout.decode(), done.stderr.decode())

    def test_the_project_works_as_it_is(self) -> None:
        ended = self.run_main("init", "project")
        self.assertEqual((ended.code, ended.out), (0, ""), ended.err)
        self.assertEqual(
            sorted(os.listdir("project")), [".gitignore", "agent.py", "input.json", "test_agent.py"]
        )
        tested = self.in_project("-m", "unittest")
        self.assertEqual(tested.code, 0, tested.err)
        self.assertIn("Ran 2 tests", tested.err)
        invoked = self.in_project("-m", "user_agent_sdk", "invoke", "agent.py", "-i", "input.json")
        self.assertEqual((invoked.code, json.loads(invoked.out)), (0, {"result": 5}), invoked.err)

    def test_the_script_by_itself_is_a_worker(self) -> None:
        """``python agent.py`` of the template did nothing, and said nothing."""
        self.run_main("init", "project")
        ended = self.in_project("agent.py")
        self.assertEqual(ended.code, 3)
        self.assertIn("error[config-missing]", ended.err)

    def test_a_folder_with_an_escape_sequence_in_its_name_does_not_reach_the_terminal(self) -> None:
        with contextlib.suppress(OSError):  # not every file system has such names
            os.mkdir("\x1b[31m")
            err = self.run_main("init", "\x1b[31m").err
            self.assertNotIn("\x1b", err)
            self.assertIn("cd \\x1b[31m", err)

    def test_next_steps_are_told_beside_the_answer(self) -> None:
        err = self.run_main("init", "new project").err
        for step in ('cd "new project"', "invoke agent.py -i input.json", "dev agent.py --sandbox", "-m unittest"):
            self.assertIn(step, err)
        self.assertIn("--vendor", err)  # a checkout is not installed

    def test_without_a_folder_it_is_the_current_one(self) -> None:
        self.assertEqual(self.run_main("init").code, 0)
        self.assertTrue(Path("agent.py").is_file())

    @unittest.skipUnless(shutil.which("git"), "git is not here")
    def test_git_sees_neither_credentials_nor_what_a_run_leaves(self) -> None:
        self.run_main("init", "project")
        project = self.folder / "project"
        (project / ".useragent").mkdir()
        for name in ("credentials.json", "execution_history.db", "execution_history.db-wal", ".useragent/1.db"):
            (project / name).write_text("x")
        subprocess.run(["git", "init", "-q"], cwd=project, check=True)
        command = ["git", "status", "--porcelain", "--untracked-files=all"]
        shown = subprocess.run(command, cwd=project, capture_output=True, text=True, check=True).stdout
        self.assertEqual(sorted(shown.split()[1::2]), [".gitignore", "agent.py", "input.json", "test_agent.py"])

    def test_a_vendored_project_needs_no_installation(self) -> None:
        ended = self.run_main("init", "project", "--vendor")
        self.assertEqual(ended.code, 0, ended.err)
        self.assertNotIn("not installed", ended.err)
        copied = {path.relative_to(self.folder / "project").as_posix(): path.read_bytes()
                  for path in (self.folder / "project" / "user_agent_sdk").rglob("*") if path.is_file()}  # fmt: skip
        self.assertEqual(copied, _build._tree("user_agent_sdk"))
        self.assertEqual(self.in_project("-m", "unittest", vendored=True).code, 0)
        version = self.in_project("-m", "user_agent_sdk", "version", vendored=True)
        self.assertIn(str(self.folder / "project" / "user_agent_sdk"), version.out)
        again = self.in_project("-m", "user_agent_sdk", "init", "--vendor", "--force", vendored=True)
        self.assertEqual(again.code, 0, again.err)  # the copy that runs is not written over itself

    def test_what_a_notebook_left_in_a_copy_is_not_copied_on(self) -> None:
        self.assertEqual(self.run_main("init", "project", "--vendor").code, 0)
        left = self.folder / "project" / "user_agent_sdk" / ".ipynb_checkpoints" / "agents-checkpoint.py"
        left.parent.mkdir()
        left.write_text("")
        self.assertEqual(self.in_project("-m", "user_agent_sdk", "init", "next", "--vendor", vendored=True).code, 0)
        copied = self.folder / "project" / "next" / "user_agent_sdk"
        self.assertTrue((copied / "agents.py").is_file())
        self.assertFalse((copied / ".ipynb_checkpoints").exists())

    def test_a_zipapp_can_give_a_copy_of_itself(self) -> None:
        program = self.folder / "useragent.pyz"
        program.write_bytes(_build._zip({**_build._tree("user_agent_sdk"), "__main__.py": _build.ZIPAPP_MAIN}))
        ended = self.run_process(str(program), "init", "project", "--vendor", PYTHONPATH="")
        self.assertEqual(ended.code, 0, ended.err)
        self.assertEqual(self.in_project("-m", "unittest", vendored=True).code, 0)

    def test_what_is_there_is_an_error_and_is_left_alone(self) -> None:
        self.write("agent.py", "mine\n")
        ended = self.run_main("init")
        self.assertEqual((ended.code, ended.out), (1, ""))
        self.assertIn("useragent: error[exists]: ", ended.err)
        self.assertIn("agent.py", ended.err)
        self.assertIn("hint: ", ended.err)
        self.assertEqual(os.listdir(), ["agent.py"])
        self.assertEqual(Path("agent.py").read_text(), "mine\n")

    @unless_wine_lacks("symbolic links")
    def test_a_link_that_leads_nowhere_is_there_too(self) -> None:
        try:
            os.symlink("elsewhere.py", "agent.py")
        except (OSError, NotImplementedError):
            self.skipTest("links can't be made here")
        self.assertEqual(self.run_main("init").code, 1)
        self.assertFalse(os.path.exists("elsewhere.py"))

    def test_force_overwrites_all_but_the_lines_of_a_gitignore(self) -> None:
        self.write("agent.py", "mine\n")
        self.write(".gitignore", "*.log\n*.db\nlast line without an end").write_bytes(b"*.log\n*.db\nlast")
        for _ in range(2):
            self.assertEqual(self.run_main("init", "--force").code, 0)
            self.assertIn("sum_agent", Path("agent.py").read_text())
            lines = Path(".gitignore").read_text().splitlines()
            self.assertEqual(lines[:3], ["*.log", "*.db", "last"])
            self.assertEqual(sorted(set(lines)), sorted(lines))
            self.assertIn("credentials.json", lines)

    def test_a_folder_that_cannot_be_made_is_said(self) -> None:
        self.write("file", "")
        ended = self.run_main("init", "file/project")
        self.assertEqual(ended.code, 1)
        self.assertIn("useragent: error[io]: ", ended.err)


if __name__ == "__main__":
    unittest.main()

# SPDX-License-Identifier: Apache-2.0
"""The folder works wherever it is copied to, under any name, and from a zip; and a script that says
``from user_agent_sdk import ...`` gets the copy whose command runs it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path
from typing import Any

from tests.cli import PYTHON
from user_agent_sdk import __version__, _build

AGENT = """\
import json, sys
import user_agent_sdk
from user_agent_sdk import NonRetryableException as first, user_agent
import neighbour

@user_agent
def work():
    from user_agent_sdk.utils.exception import NonRetryableException  # now, in a slot's thread
    registries = {id(module.REGISTRY) for module in {*sys.modules.values()} if hasattr(module, "REGISTRY")}
    facts = [first is NonRetryableException is neighbour.Failure, len(registries), user_agent_sdk.__file__]
    raise NonRetryableException(json.dumps(facts))
"""
NEIGHBOUR = "from user_agent_sdk.errors import NonRetryableException as Failure\n"


class CopiedPackageTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls) -> None:
        holder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(holder.cleanup)
        cls.folder = Path(holder.name).resolve() / "dự án của tôi"
        cls.package = _build._tree(_build.PACKAGE)
        cls.write("work/agent.py", AGENT)
        cls.write("work/neighbour.py", NEIGHBOUR)
        # Another copy, beside the agent, whose folder comes first on the path: it must not be taken.
        cls.write("work/user_agent_sdk/__init__.py", "raise RuntimeError('the other copy')\n")

    @classmethod
    def write(cls, name: str, text: str) -> None:
        path = cls.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")

    def copied_to(self, name: str) -> Path:
        for path, data in self.package.items():
            target = self.folder / name / path.partition("/")[2]
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
        return self.folder / name

    def invoke(self, *command: str, on_path: Path | None = None) -> tuple[bool, int, str]:
        """Whether the exception has one class, how many registries there are, and the file of the copy."""
        environ = {**os.environ, "PYTHONPATH": str(on_path or ""), "PYTHONIOENCODING": "utf-8"}
        arguments = [*PYTHON, "-W", "error", *command, "invoke", str(self.folder / "work/agent.py")]
        done = subprocess.run([*arguments, "--json"], cwd=self.folder, env=environ, capture_output=True)
        self.assertTrue(done.stdout, done.stderr.decode("utf-8", "replace"))
        answer: dict[str, Any] = json.loads(done.stdout)
        self.assertEqual((answer["status"], answer["attempts"], done.returncode), ("FAILED", 1, 1), answer)
        one_class, registries, file = json.loads(answer["reason"])
        return one_class, registries, file

    def test_under_another_name_at_any_depth(self) -> None:
        copy = self.copied_to("vendor/deep/worker_kit")
        found = self.invoke("-m", "vendor.deep.worker_kit")
        self.assertEqual(found, (True, 1, str(copy / "__init__.py")))

    def test_as_a_folder_that_python_is_told_to_run(self) -> None:
        """Not under any name that could be imported, and with modules (logs, errors) that must stay inside."""
        copy = self.copied_to("kit-1.0 (copy)")
        self.assertEqual(self.invoke(str(copy)), (True, 1, str(copy / "__init__.py")))

    def test_from_a_zip(self) -> None:
        self.copied_to("bundle/lib/worker_kit")
        archive = Path(shutil.make_archive(str(self.folder / "bundled"), "zip", self.folder / "bundle"))
        found = self.invoke("-m", "lib.worker_kit", on_path=archive)
        self.assertEqual(found, (True, 1, str(archive / "lib" / "worker_kit" / "__init__.py")))

    def test_from_the_one_file_program(self) -> None:
        program = self.folder / "useragent.pyz"
        program.write_bytes(_build._zip({**self.package, "__main__.py": _build.ZIPAPP_MAIN}))
        found = self.invoke(str(program))
        self.assertEqual(found, (True, 1, str(program / "user_agent_sdk" / "__init__.py")))

    def test_two_copies_in_one_process_share_nothing(self) -> None:
        self.copied_to("vendor/one")
        self.copied_to("vendor/two")
        code = (
            "from vendor.one import user_agent, NonRetryableException as a\n"
            "from vendor.two import NonRetryableException as b\n"
            "from vendor.one.agents import REGISTRY as mine\n"
            "from vendor.two.agents import REGISTRY as theirs\n"
            "@user_agent\n"
            "def work(): pass\n"
            "print(len(mine), len(theirs), a is b)\n"
        )
        done = subprocess.run([*PYTHON, "-c", code], cwd=self.folder, capture_output=True, text=True)
        self.assertEqual((done.stdout, done.stderr), ("1 0 False\n", ""))

    def test_a_script_of_another_copy_is_told_which_one_to_start(self) -> None:
        """It was told to put @user_agent() before its function, where one stood."""
        self.copied_to("vendor/one")
        self.copied_to("vendor/two")
        self.write("of_one.py", "from vendor.one import user_agent\n@user_agent\ndef work(): pass\n")
        words = [*PYTHON, "-m", "vendor.two", "invoke", "of_one.py"]
        done = subprocess.run(words, cwd=self.folder, capture_output=True, text=True, errors="replace")
        self.assertEqual(done.returncode, 6)
        self.assertIn("it uses another copy of the SDK: start that one", done.stderr)
        self.assertIn(" -m vendor.one\n", done.stderr)


class ChangesTest(unittest.TestCase):
    def test_a_copy_tells_its_changes_and_their_security_notes(self) -> None:
        text = _build._tree(_build.PACKAGE)["user_agent_sdk/CHANGES.md"].decode("utf-8")
        releases = re.split(r"^## ", text, flags=re.MULTILINE)[1:]
        self.assertRegex(releases[0], rf"^{re.escape(__version__)} \(\d{{4}}-\d\d-\d\d\)\n")
        dates = [release.partition("(")[2][:10] for release in releases]
        self.assertEqual(dates, sorted(dates, reverse=True))
        for release in releases:
            self.assertIn("\n### Security notes\n\n- ", release)


if __name__ == "__main__":
    unittest.main()

# SPDX-License-Identifier: Apache-2.0
"""``useragent version``."""

from __future__ import annotations

import hashlib
import json
import os
import sys
import tempfile
import unittest
from pathlib import Path

from tests.cli import ROOT, CliTest, Ended
from user_agent_sdk import __version__, _build


class VersionTest(CliTest):
    def test_the_short_form_is_the_version_alone(self) -> None:
        self.assertEqual(self.run_main("--version"), (0, f"{__version__}\n", ""))

    def test_in_a_pipe_it_is_one_tab_separated_fact_a_line(self) -> None:
        facts = dict(line.split("\t") for line in self.run_main("version").out.splitlines())
        self.assertEqual(list(facts), ["sdk", "digest", "python", "platform", "executable", "root"])
        self.assertEqual(facts["sdk"], __version__)
        self.assertTrue(facts["python"].startswith("{}.{}.{} (".format(*sys.version_info)))
        self.assertEqual(Path(facts["root"]), ROOT / "user_agent_sdk")

    def test_json_has_the_same_facts(self) -> None:
        ended = self.run_main("version", "--json")
        facts = dict(line.split("\t") for line in self.run_main("version").out.splitlines())
        self.assertEqual(json.loads(ended.out), facts)


class VerifyTest(CliTest):
    """What an auditor asks on a machine without pip: is this the code that was released?"""

    copy: Path  # one for all tests, so that it is compiled once
    files: dict[str, bytes]

    @classmethod
    def setUpClass(cls) -> None:
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        cls.copy = Path(folder.name).resolve() / "vendor" / "kit"
        cls.files = _build._tree(_build.PACKAGE)
        for name, data in cls.files.items():
            path = cls.copy / name.partition("/")[2]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)

    def setUp(self) -> None:
        super().setUp()
        sums = "".join(f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in self.files.items())
        self.write("SHA256SUMS", sums)

    def change(self, name: str, text: bytes) -> None:
        """Until the test ends."""
        path = self.copy / name
        self.addCleanup(path.write_bytes, path.read_bytes())
        path.write_bytes(text)

    def of_the_copy(self, *words: str) -> Ended:
        return self.run_process("-m", "vendor.kit", "version", *words, PYTHONPATH=str(self.copy.parents[1]))

    def test_a_copy_as_released_passes_under_any_name_with_any_line_ends(self) -> None:
        self.change("errors.py", self.files["user_agent_sdk/errors.py"].replace(b"\n", b"\r\n"))
        away = (self.copy / "sandbox").rename(self.copy.parent / "away")
        self.addCleanup(away.rename, self.copy / "sandbox")
        ended = self.of_the_copy("--verify", "SHA256SUMS")
        self.assertEqual((ended.code, ended.out), (0, ""), ended.err)
        self.assertRegex(ended.err, r"^\d+ files as released, 0 changed, 0 unknown; [1-9]\d* files left out")

    def test_a_changed_and_a_foreign_file_are_named(self) -> None:
        self.change("errors.py", self.files["user_agent_sdk/errors.py"] + b"# no harm\n")
        helper = self.copy / "worker" / "helper.so"
        helper.write_bytes(b"\x7fELF")
        self.addCleanup(helper.unlink)
        ended = self.of_the_copy("--verify", "SHA256SUMS")
        said = "changed  user_agent_sdk/errors.py\nunknown  user_agent_sdk/worker/helper.so\n"
        self.assertEqual((ended.code, ended.out.replace(os.linesep, "\n")), (1, said), ended.err)
        told = json.loads(self.of_the_copy("--verify", "SHA256SUMS", "--json").out)
        self.assertEqual(told["changed"] + told["unknown"],
                         ["user_agent_sdk/errors.py", "user_agent_sdk/worker/helper.so"])  # fmt: skip
        self.assertEqual((told["ok"], told["missing"]), (False, []))

    def test_the_one_file_program_is_compared_as_a_whole(self) -> None:
        program = self.folder / "useragent.pyz"
        program.write_bytes(_build._zip({**self.files, "__main__.py": _build.ZIPAPP_MAIN}))
        words = (str(program), "version", "--verify", "SHA256SUMS")
        self.assertEqual(self.run_process(*words).code, 1)  # not listed
        with open(self.folder / "SHA256SUMS", "a") as file:
            file.write(f"{hashlib.sha256(program.read_bytes()).hexdigest()}  useragent.pyz\n")
        ended = self.run_process(*words)
        self.assertEqual((ended.code, ended.out), (0, ""), ended.err)

    def test_the_digest_of_a_copy_is_that_of_its_lines_and_tells_two_of_one_version_apart(self) -> None:
        """Two builds said 1.0.0, and nobody knew which of them ran."""
        def told() -> str:
            return str(json.loads(self.of_the_copy("--json").out)["digest"])  # its __pycache__ counts for nothing

        lines = sorted((self.folder / "SHA256SUMS").read_text().splitlines(), key=lambda line: line.partition("  ")[2])
        listed = hashlib.sha256("".join(f"{line}\n" for line in lines).encode()).hexdigest()
        self.assertEqual([told(), told()], [listed[:12]] * 2)
        self.change("errors.py", self.files["user_agent_sdk/errors.py"] + b"# no harm\n")
        self.assertNotEqual(told(), listed[:12])

    def test_a_list_that_cannot_be_read_is_said(self) -> None:
        self.assertEqual(self.error_of(self.run_main("version", "--verify", "nope", "--json"))["code"], "io")

    @unittest.skipUnless(os.name == "posix", "links need a privilege on Windows")
    def test_a_file_of_the_copy_that_cannot_be_read_is_named(self) -> None:
        """An editor's lock, which is a link that leads nowhere, was "a bug"."""
        lock = self.copy / ".#agents.py"
        lock.symlink_to("somebody@host.1234")
        self.addCleanup(lock.unlink)
        error = self.error_of(self.of_the_copy("--verify", "SHA256SUMS", "--json"))
        self.assertEqual((error["code"], ".#agents.py" in error["message"]), ("io", True), error)


if __name__ == "__main__":
    unittest.main()

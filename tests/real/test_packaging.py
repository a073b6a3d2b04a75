# SPDX-License-Identifier: Apache-2.0
"""What is shipped, taken through the tools that people use, and installed where there is no network at all.

The tools come through pip. USERAGENT_PYTHONS may name interpreters, separated as in PATH; without it those of
pyenv and of the PATH are taken. The network namespace needs root and iproute2.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

from . import WANTED

ROOT = Path(__file__).resolve().parent.parent.parent
TOOLS = ("build", "twine", "check-wheel-contents", "uv", "cyclonedx-python-lib[json-validation]")
OLDEST_PIP = "pip==20.0.2"  # the first that knows backends in the tree; later ones are newer than this
MINORS = range(9, 14)
TIMEOUT_S = 600
ANSWER = '{"result": 5}'
INVOKE = ("invoke", "examples/sum_agent.py", "-i", '{"num1": 2, "num2": 3}')


def output_of(*command: object, cwd: Path | None = None) -> str:
    """Its stdout, stripped; AssertionError with all that it said when it fails."""
    words = [str(word) for word in command]
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "USERAGENT_"))}
    done = subprocess.run(words, cwd=cwd, env=environ, capture_output=True, text=True, timeout=TIMEOUT_S)
    assert done.returncode == 0, f"{words} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}"
    return done.stdout.strip()


def pythons() -> dict[int, str]:
    """The interpreters of Python 3.9 to 3.13 that this machine has, by their minor version."""
    candidates = os.environ.get("USERAGENT_PYTHONS", "").split(os.pathsep)
    if not any(candidates):
        candidates = [sys.executable, *(shutil.which(f"python3.{minor}") or "" for minor in MINORS)]
        if shutil.which("pyenv"):
            versions = Path(output_of("pyenv", "root"), "versions")
            candidates += sorted(str(path) for path in versions.glob("3.*/bin/python"))
    found: dict[int, str] = {}
    for candidate in filter(None, candidates):
        with contextlib.suppress(AssertionError, OSError):  # a shim of a version that is not there
            minor = output_of(candidate, "-c", "import sys; print(*sys.version_info[:2])")
            if minor.startswith("3 ") and int(minor[2:]) in MINORS:
                found.setdefault(int(minor[2:]), candidate)
    return found


@unittest.skipUnless(WANTED, "the packaging tools are fetched only with USERAGENT_REAL=1")
class PackagingTestCase(unittest.TestCase):
    @classmethod
    def setUpClass(cls) -> None:
        holder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(holder.cleanup)
        cls.folder = Path(holder.name).resolve()
        cls.pythons = pythons()
        cls.oldest = cls.pythons[min(cls.pythons)]

    @classmethod
    def clone(cls, name: str) -> Path:
        output_of("git", "clone", "--quiet", "--no-hardlinks", ROOT, cls.folder / name)
        return cls.folder / name

    @classmethod
    def venv(cls, name: str, python: str = sys.executable, *packages: str) -> Path:
        """A new environment without setuptools; the folder of its programs."""
        output_of(python, "-m", "venv", cls.folder / name)
        programs = cls.folder / name / "bin"
        if packages:
            output_of(programs / "python", "-m", "pip", "install", "--quiet", *packages)
        output_of(programs / "python", "-m", "pip", "uninstall", "--quiet", "--yes", "setuptools")
        return programs


class ToolsTest(PackagingTestCase):
    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.tools = cls.venv("tools", sys.executable, *TOOLS)
        cls.tree = cls.clone("tree")
        cls.out = cls.folder / "out"
        cls.sums = output_of(sys.executable, "-m", "user_agent_sdk._build", cls.out, cwd=cls.tree)
        [cls.wheel] = cls.out.glob("*.whl")
        [cls.sdist] = cls.out.glob("*.tar.gz")

    def assert_as_released(self, *found: Path) -> None:
        self.assertTrue(found)
        for path in found:
            self.assertEqual(path.read_bytes(), (self.out / path.name).read_bytes(), path)

    def test_every_python_and_every_clone_makes_the_same_release(self) -> None:
        self.assertLessEqual({9, 13}, {*self.pythons})
        for minor, python in self.pythons.items():
            other = self.clone(f"clone of 3.{minor}")
            self.assertEqual(output_of(python, "-m", "user_agent_sdk._build", "dist", cwd=other), self.sums, python)
            output_of("sha256sum", "--check", "--strict", "--ignore-missing", "SHA256SUMS", cwd=other / "dist")

    def test_twine_and_check_wheel_contents_have_nothing_to_say(self) -> None:
        output_of(self.tools / "twine", "check", "--strict", self.wheel, self.sdist)
        output_of(self.tools / "check-wheel-contents", self.wheel)

    def test_the_sbom_is_valid_against_the_published_schema(self) -> None:
        code = (
            "import sys\n"
            "from cyclonedx.schema import SchemaVersion\n"
            "from cyclonedx.validation.json import JsonStrictValidator\n"
            "text = open(sys.argv[1], encoding='utf-8').read()\n"
            "check = JsonStrictValidator(SchemaVersion.V1_6).validate_str\n"
            "assert check(text.replace('SHA-256', 'SHA-257')) is not None\n"
            "print(check(text))\n"
        )
        self.assertEqual(output_of(self.tools / "python", "-c", code, self.out / "user-agent-sdk.cdx.json"), "None")

    def test_build_and_uv_make_the_same_files_offline(self) -> None:
        commands = ([self.tools / "python", "-m", "build", "--no-isolation"], [self.tools / "uv", "build", "--offline"])
        for number, command in enumerate(commands):
            target = self.folder / f"made-{number}"
            output_of(*command, "--out-dir" if number else "--outdir", target, self.tree)
            self.assert_as_released(*target.glob("*.whl"), *target.glob("*.tar.gz"))

    def test_pip_old_and_new_builds_and_installs_without_an_index(self) -> None:
        for name, python, wanted in (("old", self.oldest, OLDEST_PIP), ("new", sys.executable, "pip")):
            programs = self.venv(name, python, "--upgrade", wanted)
            pip = (programs / "python", "-m", "pip")
            output_of(
                *pip, "wheel", "--no-index", "--no-deps", "--wheel-dir", self.folder / f"wheels-{name}", self.tree
            )
            self.assert_as_released(*(self.folder / f"wheels-{name}").glob("*.whl"))
            for source in (self.tree, self.sdist, self.wheel):
                output_of(*pip, "install", "--no-index", "--force-reinstall", source)
                self.assertEqual(output_of(programs / "useragent", *INVOKE, cwd=self.tree), ANSWER)
            output_of(*pip, "check")

    def test_an_editable_install_runs_the_tree(self) -> None:
        programs = self.venv("editable", sys.executable, "--upgrade", "pip")
        output_of(programs / "python", "-m", "pip", "install", "--no-index", "--editable", self.tree)
        uv = self.folder / "editable by uv"
        output_of(self.tools / "uv", "venv", "--offline", "--python", sys.executable, uv)
        into = ("--python", uv / "bin" / "python")
        output_of(self.tools / "uv", "pip", "install", "--offline", "--no-index", *into, "--editable", self.tree)
        for python in (programs / "python", uv / "bin" / "python"):
            found = output_of(python, "-c", "import user_agent_sdk; print(user_agent_sdk.__file__)", cwd=self.folder)
            self.assertEqual(Path(found), self.tree / "user_agent_sdk" / "__init__.py")

    def test_the_installed_package_can_be_taken_away_again(self) -> None:
        programs = self.venv("taken away")
        pip = (programs / "python", "-m", "pip")
        output_of(*pip, "install", "--no-index", self.wheel)
        site = Path(output_of(programs / "python", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"))
        self.assertTrue((site / "user_agent_sdk" / "CHANGES.md").is_file())
        [bom] = site.glob("*.dist-info/sboms/*.cdx.json")
        self.assertEqual(bom.read_bytes(), (self.out / bom.name).read_bytes())
        output_of(*pip, "uninstall", "--yes", "user-agent-sdk")
        self.assertEqual(list(site.glob("*user_agent_sdk*")), [])


class NoRouteTest(PackagingTestCase):
    """A network namespace with loopback and nothing else, the oldest Python, no setuptools."""

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.name = f"useragent-{os.getpid()}"
        output_of("ip", "netns", "add", cls.name)
        cls.addClassCleanup(output_of, "ip", "netns", "delete", cls.name)
        cls.inside("ip", "link", "set", "lo", "up")
        cls.programs = cls.venv("offline", cls.oldest)
        cls.tree = cls.folder / "tree"
        cls.inside("git", "clone", "--quiet", "--no-hardlinks", ROOT, cls.tree)

    @classmethod
    def inside(cls, *command: object, cwd: Path | None = None) -> str:
        return output_of("ip", "netns", "exec", cls.name, *command, cwd=cwd)

    def test_there_is_no_route(self) -> None:
        self.assertEqual(self.inside("ip", "route", "show", "table", "main"), "")
        code = "import socket; print(socket.socket().connect_ex(('192.0.2.1', 443)))"
        self.assertNotEqual(self.inside(self.programs / "python", "-c", code), "0")

    def test_pip_installs_the_clone_and_the_agent_runs(self) -> None:
        python = self.programs / "python"
        missing = "import importlib.util; print(importlib.util.find_spec('setuptools'))"
        self.assertEqual(self.inside(python, "-c", missing), "None")
        self.inside(python, "-m", "pip", "install", "--no-index", ".", cwd=self.tree)
        self.assertEqual(self.inside(self.programs / "useragent", *INVOKE, cwd=self.tree), ANSWER)

    def test_the_tests_pass(self) -> None:
        modules = sorted(path.relative_to(self.tree) for path in (self.tree / "tests").glob("test_*.py"))
        # A test that hangs ends in the stacks of all threads.
        line = 'exec timeout -s ABRT 500 "$0" -X faulthandler -m unittest -v "$@" 2>&1'
        done = self.inside("sh", "-c", line, self.programs / "python", *modules, cwd=self.tree)
        self.assertRegex(done, re.compile(r"^Ran [1-9]\d* tests", re.MULTILINE))

    def test_the_copied_folder_the_zip_and_the_one_file_program_run(self) -> None:
        place = self.folder / "an agent of mine"
        shutil.copytree(self.tree / "examples", place / "examples")
        shutil.copytree(self.tree / "user_agent_sdk", place / "vendor" / "kit")
        shutil.make_archive(str(place / "kit"), "zip", self.tree, "user_agent_sdk")
        self.inside(self.oldest, "-m", "user_agent_sdk._build", place, cwd=self.tree)
        on_zip = ("env", f"PYTHONPATH={place / 'kit.zip'}", self.oldest, "-m", "user_agent_sdk")
        for command in (
            (self.oldest, "-m", "vendor.kit"),
            (self.oldest, "vendor/kit"),
            on_zip,
            (self.oldest, "useragent.pyz"),
        ):
            self.assertEqual(self.inside(*command, *INVOKE, cwd=place), ANSWER, command)


if __name__ == "__main__":
    unittest.main()

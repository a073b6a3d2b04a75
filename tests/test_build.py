# SPDX-License-Identifier: Apache-2.0
"""The build backend needs no tool, and the same tree gives the same bytes everywhere."""

from __future__ import annotations

import base64
import csv
import email
import gzip
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import unittest
import zipfile
from pathlib import Path
from unittest import mock

from user_agent_sdk import __version__, _build

ROOT = _build.ROOT
SAMPLE = {"a/b.py": b"x = 1\n", "a/empty.py": b"", "big.txt": b"0123456789" * 20_000}
AT = mock.patch.dict(os.environ, SOURCE_DATE_EPOCH="1700000000")


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def copied_tree(target: Path) -> Path:
    """The files of the sdist, as another clone has them."""
    files = _build._tree(*_build.TOP, "user_agent_sdk", "tests", "examples")
    for name, data in files.items():
        path = target / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return target


def release(tree: Path, target: Path) -> dict[str, bytes]:
    """What the one command writes when it is run in ``tree``."""
    command = [sys.executable, "-B", "-m", "user_agent_sdk._build", str(target)]
    environ = {name: value for name, value in os.environ.items() if name != "SOURCE_DATE_EPOCH"}
    done = subprocess.run(command, cwd=tree, env=environ, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    files = {path.name: path.read_bytes() for path in target.iterdir()}
    assert done.stdout == files["SHA256SUMS"].decode("ascii")
    return files


class FolderTest(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name).resolve()


class ReleaseTest(unittest.TestCase):
    """One run of the command, looked at from all sides."""

    @classmethod
    def setUpClass(cls) -> None:
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        cls.folder = Path(folder.name).resolve()
        cls.tree = copied_tree(cls.folder / "clone")
        cls.files = release(cls.tree, cls.folder / "out")
        cls.wheel = zipfile.ZipFile(io.BytesIO(cls.files[f"user_agent_sdk-{__version__}-py3-none-any.whl"]))
        cls.sdist = cls.files[f"user_agent_sdk-{__version__}.tar.gz"]
        cls.dist_info = f"user_agent_sdk-{__version__}.dist-info/"

    def test_the_sums_are_those_of_everything_that_was_made(self) -> None:
        sums = dict(reversed(line.split("  ")) for line in self.files["SHA256SUMS"].decode("ascii").splitlines())
        inside = {name: sha256(data) for name, data in _build._tree(_build.PACKAGE).items()}
        made = {**{name: sha256(data) for name, data in self.files.items() if name != "SHA256SUMS"}, **inside}
        self.assertEqual(sums, made)
        self.assertEqual(len(made), 4 + len(inside))

    def test_another_clone_gives_the_same_bytes(self) -> None:
        """Other times, other modes, the line ends of Windows, and what lies about in a folder one works in."""
        other = copied_tree(self.folder / "other clone")
        for path in other.rglob("*"):
            if path.is_file() and b"\0" not in path.read_bytes():
                path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
                path.chmod(0o600)
                os.utime(path, (1, 1))
        here = ("user_agent_sdk/__pycache__/x.py", "user_agent_sdk/x.pyc", "tests/.hidden/a.py", "notes.md")
        for junk in (*here, "examples/credentials.json", "examples/execution_history.db", "credentials.json"):
            (other / junk).parent.mkdir(exist_ok=True)
            (other / junk).write_text("junk")
        self.assertEqual(release(other, self.folder / "other out"), self.files)

    def test_the_unpacked_sdist_gives_the_same_wheel(self) -> None:
        with tarfile.open(fileobj=io.BytesIO(self.sdist)) as archive:
            for member in archive:
                self.assertEqual((member.mode, member.uid, member.uname, member.isfile()), (0o644, 0, "", True))
            archive.extractall(self.folder, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
        unpacked = self.folder / f"user_agent_sdk-{__version__}"
        self.assertEqual((unpacked / "PKG-INFO").read_bytes(), self.wheel.read(self.dist_info + "METADATA"))
        self.assertEqual(release(unpacked, self.folder / "again"), self.files)

    def test_the_record_has_the_digest_of_every_file(self) -> None:
        rows = list(csv.reader(io.StringIO(self.wheel.read(self.dist_info + "RECORD").decode("utf-8"))))
        self.assertEqual([row[0] for row in rows], self.wheel.namelist())
        self.assertEqual(rows.pop(), [self.dist_info + "RECORD", "", ""])
        for name, digest, size in rows:
            data = self.wheel.read(name)
            wanted = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode().rstrip("=")
            self.assertEqual((digest, size), ("sha256=" + wanted, str(len(data))), name)

    def test_the_wheel_is_the_package_folder_and_nothing_else(self) -> None:
        names = set(self.wheel.namelist())
        for name in ("py.typed", "CHANGES.md", "_version.py", "utils/exception.py", "sandbox/page.html"):
            self.assertIn("user_agent_sdk/" + name, names)
        self.assertEqual({name.split("/")[0] for name in names}, {"user_agent_sdk", self.dist_info[:-1]})
        self.assertEqual([name for name in names if "__pycache__" in name], [])

    def test_the_metadata_say_what_pip_needs(self) -> None:
        metadata = self.wheel.read(self.dist_info + "METADATA")
        found = email.message_from_bytes(metadata)
        self.assertEqual((found["Name"], found["Version"]), ("user-agent-sdk", __version__))
        self.assertEqual(found["Requires-Python"], ">=3.9")
        self.assertIsNone(found["Requires-Dist"])
        self.assertIn(self.dist_info + "licenses/" + found["License-File"], self.wheel.namelist())
        self.assertTrue(metadata.endswith(b"\n\n" + (self.tree / "README.md").read_bytes()))
        self.assertIn(b"\nTag: py3-none-any\n", self.wheel.read(self.dist_info + "WHEEL"))

    def test_the_sbom_lists_each_file_and_no_dependency(self) -> None:
        inside = self.wheel.read(f"{self.dist_info}sboms/user-agent-sdk.cdx.json")
        self.assertEqual(inside, self.files["user-agent-sdk.cdx.json"])
        bom = json.loads(inside)
        self.assertEqual((bom["bomFormat"], bom["specVersion"], bom["components"]), ("CycloneDX", "1.6", []))
        subject = bom["metadata"]["component"]
        self.assertEqual(bom["dependencies"], [{"ref": subject["bom-ref"], "dependsOn": []}])
        listed = {part["name"]: part["hashes"][0]["content"] for part in subject["components"]}
        names = [name for name in self.wheel.namelist() if name.startswith("user_agent_sdk/")]
        self.assertEqual(listed, {name: sha256(self.wheel.read(name)) for name in names})

    def test_the_zipapp_is_the_wheel_with_a_way_in(self) -> None:
        data = self.files["useragent.pyz"]
        self.assertTrue(data.startswith(b"#!/usr/bin/env python3\nPK"))
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            inside = {name: archive.read(name) for name in archive.namelist()}
        self.assertIn(b"sys.exit(program())", inside.pop("__main__.py"))
        self.assertEqual(inside, {name: self.wheel.read(name) for name in self.wheel.namelist()})
        if os.name == "posix":
            self.assertTrue(os.access(self.folder / "out" / "useragent.pyz", os.X_OK))
        done = subprocess.run(
            [sys.executable, str(self.folder / "out" / "useragent.pyz"), "--version"], capture_output=True, text=True
        )
        self.assertEqual((done.stdout, done.stderr), (f"{__version__}\n", ""))

    def test_nothing_of_the_repository_is_left_out_and_nothing_ignored_is_in(self) -> None:
        git = shutil.which("git")
        if git is None or not (ROOT / ".git").exists():
            self.skipTest("this is no clone")
        places = [*_build.TOP, "user_agent_sdk", "tests", "examples"]  # a bot that a newcomer made beside them is none
        command = [git, "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *places]
        new = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout.decode("utf-8").split("\0")
        command = [git, "ls-files", "-z"]
        old = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout.decode("utf-8").split("\0")
        known = {*new, *old}
        tracked = {name for name in known if name and not name.startswith(".") and (ROOT / name).is_file()}
        self.assertEqual(set(_build._tree(*_build.TOP, "user_agent_sdk", "tests", "examples")), tracked)


class BackendTest(FolderTest):
    def test_what_pyproject_says_and_what_the_backend_says_agree(self) -> None:
        try:
            import tomllib
        except ImportError:
            self.skipTest("this Python has no tomllib")
        told = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
        self.assertEqual(
            told["build-system"],
            {"requires": [], "build-backend": "user_agent_sdk._build", "backend-path": ["."]},
        )
        self.assertEqual(
            told["project"],
            {
                "name": _build.NAME,
                "version": __version__,
                "description": _build.SUMMARY,
                "readme": "README.md",
                "requires-python": _build.REQUIRES_PYTHON,
                "license": _build.LICENSE,
                "license-files": ["LICENSE"],
                "authors": [{"name": _build.AUTHOR}],
                "classifiers": list(_build.CLASSIFIERS),
                "scripts": _build.SCRIPTS,
            },
        )

    def test_an_editable_wheel_points_at_the_tree(self) -> None:
        name = _build.build_editable(str(self.folder), {"any": "setting"})
        with zipfile.ZipFile(self.folder / name) as wheel:
            [pointer] = [name for name in wheel.namelist() if name.endswith(".pth")]
            self.assertEqual(wheel.read(pointer).decode().strip(), str(ROOT))
            self.assertIn("useragent = user_agent_sdk.cli:program", wheel.read(wheel.namelist()[3]).decode())

    def test_archives_are_the_same_on_every_python(self) -> None:
        """These digests were taken on 3.9.18 and 3.13.0; whichever Python runs this must reach them."""
        with AT:
            made = sha256(_build._zip(SAMPLE, head=b"#!x\n")), sha256(_build._gzip(_build._tar(SAMPLE)))
        self.assertEqual(
            made,
            (
                "66878f0068cae80a7a3b47a80bc0cf7f63d492ebf4b2e558a917144bdf1460b2",
                "835ddcb7ce542aeb2a7a61dba7cbc02ab69efca782b0cb216884103acfe5ce45",
            ),
        )

    def test_a_file_of_any_size_comes_back_from_the_gzip_member(self) -> None:
        for size in (1, 65534, 65535, 65536, 200_000):
            data = bytes(range(256)) * (size // 256 + 1)
            self.assertEqual(gzip.decompress(_build._gzip(data[:size])), data[:size], size)

    def test_the_tar_is_read_by_others(self) -> None:
        with AT:
            packed = _build._gzip(_build._tar(SAMPLE))
        with tarfile.open(fileobj=io.BytesIO(packed), errorlevel=2) as archive:
            found = {member.name: archive.extractfile(member) for member in archive}
            self.assertEqual({name: file and file.read() for name, file in found.items()}, SAMPLE)
            self.assertEqual({member.mtime for member in archive}, {1700000000})
        with self.assertRaises(ValueError):
            _build._tar({"d/" * 50 + "x": b""})

    def test_the_time_is_the_day_of_the_release_unless_the_environment_names_one(self) -> None:
        with AT:
            self.assertEqual(_build._epoch(), 1700000000)
        with mock.patch.dict(os.environ, SOURCE_DATE_EPOCH="0"):
            packed = io.BytesIO(_build._zip(SAMPLE))
        with zipfile.ZipFile(packed) as archive:
            self.assertEqual(archive.infolist()[0].date_time, (1980, 1, 1, 0, 0, 0))
        with mock.patch.dict(os.environ, SOURCE_DATE_EPOCH=""):
            self.assertEqual(_build._epoch() % 86400, 0)
            with mock.patch.object(_build, "__version__", "9.9.9"), self.assertRaisesRegex(ValueError, "CHANGES.md"):
                _build._epoch()

    def test_outside_a_checkout_it_says_so(self) -> None:
        with mock.patch.object(_build, "ROOT", self.folder), mock.patch("sys.stderr", io.StringIO()) as said:
            self.assertEqual(_build.main([str(self.folder / "dist")]), 1)
        self.assertIn("no checkout", said.getvalue())
        self.assertFalse((self.folder / "dist").exists())


if __name__ == "__main__":
    unittest.main()

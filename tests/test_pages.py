# SPDX-License-Identifier: Apache-2.0
"""The pages that lie beside the code, wherever the code was copied to."""

from __future__ import annotations

import base64
import hashlib
import importlib
import sys
import tempfile
import unittest
import zipfile
from pathlib import Path

from user_agent_sdk import _build, pages

# The package and the name of each.
FILES = [
    (name.rpartition("/")[0].replace("/", "."), name.rpartition("/")[2])
    for name in _build._tree(_build.PACKAGE)
    if name.endswith(".html")
]


class PagesTest(unittest.TestCase):
    def test_they_are_read_from_a_zip_under_another_name_and_with_the_line_ends_of_windows(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = str(Path(folder).resolve() / "copy.zip")
            with zipfile.ZipFile(path, "w") as archive:
                for name, data in _build._tree(_build.PACKAGE).items():
                    archive.writestr("a_copy/" + name.partition("/")[2], data.replace(b"\n", b"\r\n"))
            sys.path.insert(0, path)
            finders = [*sys.meta_path]
            try:
                copied = importlib.import_module("a_copy.pages")
                self.assertTrue((copied.__file__ or "").startswith(path))
                for package, name in FILES:
                    there = copied.read(package.replace(_build.PACKAGE, "a_copy"), name)
                    self.assertEqual(there, pages.read(package, name))
            finally:
                sys.path.remove(path)
                sys.meta_path[:] = finders  # the copy's own would look for old names in a zip that is gone
                for module in [name for name in sys.modules if name.split(".")[0] == "a_copy"]:
                    del sys.modules[module]

    def test_each_has_one_style_and_one_script_which_its_policy_names(self) -> None:
        self.assertTrue(FILES)
        for package, name in FILES:
            text, policy = pages.read(package, name)
            rules = dict(part.strip().split(" ", 1) for part in policy.split(";"))
            for kind in ("style", "script"):
                inner = text.partition(f"<{kind}>")[2].partition(f"</{kind}>")[0]
                digest = base64.b64encode(hashlib.sha256(inner.encode()).digest()).decode()
                self.assertEqual((text.count(f"<{kind}"), rules[f"{kind}-src"]), (1, f"'sha256-{digest}'"))
            self.assertEqual(rules["default-src"], "'none'")


if __name__ == "__main__":
    unittest.main()

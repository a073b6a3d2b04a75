# SPDX-License-Identifier: Apache-2.0
"""Runs the program in a process of its own and writes down what it does outside itself.

``python -m tests.audited REPORT all`` imports every module of the package, ``python -m tests.audited REPORT
ARGUMENT...`` runs one command line. MD5 and SHA-1 are out of order all the while, as under FIPS. REPORT is JSON.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
import threading
from pathlib import Path
from typing import Any

# Events of sys.addaudithook, by their beginning.
WATCHED = (
    "open", "os.", "shutil.", "tempfile.", "sqlite3.connect", "socket.", "subprocess.", "ctypes.", "pickle.", "pty.",
    "webbrowser.", "urllib.", "http.", "ftplib.", "smtplib.",
)  # fmt: skip
HARMLESS = (
    "os.listdir",
    "os.scandir",
    "os.walk",
    "os.fwalk",
    "os.putenv",
    "os.unsetenv",
    "socket.__new__",
    "sqlite3.connect/handle",
)
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_TRUNC


def plain(value: object) -> Any:
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, bytes):
        return os.fsdecode(value)
    return value if isinstance(value, (str, int, float, type(None))) else str(value)


def files_under(folder: Path) -> dict[str, str]:
    """Each file and folder below, with its mode."""
    return {str(path.relative_to(folder)): oct(path.stat().st_mode & 0o777) for path in sorted(folder.rglob("*"))}


class Recorder:
    def __init__(self) -> None:
        self.events: list[list[Any]] = []
        self.threads: set[str] = set()
        self.read_files: set[str] = set()
        self.variables: set[str] = set()
        start = threading.Thread.start

        def noted(thread: threading.Thread) -> None:
            self.threads.add(re.sub(r"[-_]\d+(?:_\d+)?$", "", thread.name))
            start(thread)

        threading.Thread.start = noted  # type: ignore[method-assign]
        sys.addaudithook(self.hear)
        recorder = self

        class Environ(type(os.environ)):  # type: ignore[misc]
            """Notes the names that Python code asks for."""

            def __getitem__(self, key: str) -> str:
                recorder.variables.add(key)
                value: str = super().__getitem__(key)
                return value

        os.environ.__class__ = Environ

    def hear(self, event: str, args: tuple[Any, ...]) -> None:
        if not event.startswith(WATCHED) or event in HARMLESS:
            return
        if event == "open" and isinstance(args[0], int):
            return  # a descriptor, whose opening was heard before
        if event == "open" and not args[2] & WRITING:
            self.read_files.add(os.path.abspath(os.fsdecode(args[0])))
            return
        self.events.append([event, plain(args)])


def without_weak_hashes() -> None:
    def refused(*_: object, **__: object) -> None:
        raise ValueError("unsupported hash: this machine is in FIPS mode")

    new = hashlib.new
    hashlib.md5 = hashlib.sha1 = refused  # type: ignore[assignment]
    hashlib.new = lambda name, *rest, **more: (  # type: ignore[assignment]
        refused() if name.lower().replace("-", "") in ("md5", "sha1") else new(name, *rest, **more)
    )
    for module in ("_md5", "_sha1"):
        sys.modules[module] = None  # type: ignore[assignment]


def main(report: str, words: list[str]) -> int:
    without_weak_hashes()
    before = {*sys.modules}  # a .pth of this Python may have loaded some
    recorder = Recorder()
    code = 0
    if words == ["all"]:
        from importlib import import_module

        package = Path(__file__).resolve().parent.parent / "user_agent_sdk"
        for path in sorted(package.rglob("*.py")):
            if path.name != "__main__.py":
                import_module(".".join(path.relative_to(package.parent).with_suffix("").parts))
    else:
        from user_agent_sdk.cli import main as program

        code = program(words)
    found = {"events": list(recorder.events), "threads": sorted(recorder.threads)}
    found["modules"] = sorted(sys.modules.keys() - before)
    found["read"], found["variables"] = sorted(recorder.read_files), sorted(recorder.variables)
    Path(report).write_text(json.dumps(found), "utf-8")
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))

# SPDX-License-Identifier: Apache-2.0
"""Other people's code in a real worker process: each file of ``scripts`` is a situation, whose docstring says what must
come of it.

``input`` (``retries`` in it: of the task), ``times``: how many tasks; what is expected of the last attempt: ``status``
(COMPLETED), ``output``, ``attempts``, and as regular expressions ``reason`` and ``log``. Those that may disturb others
are ``alone``: a process of its own, by that command, with ``options``, of which ``exit``, ``out`` and ``err`` and
``files`` are expected. ``since``: the oldest Python, ``needs``: a package, ``fork``: a system that forks.

The scripts that share a process run in every test run; those that are alone with USERAGENT_GUESTS=1, as in CI, and here
a few of them.
"""

from __future__ import annotations

import ast
import contextlib
import importlib.util
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import unittest
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from user_agent_sdk.sandbox.server import Sandbox

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = Path(__file__).resolve().parent / "scripts"
ALWAYS = {"a_pool_that_times_out", "a_pool_that_spawns", "wraps_stdout", "an_orphan_keeps_no_port"}
IS_ALL = os.environ.get("USERAGENT_GUESTS") == "1"
LONG_S = 60.0


class Situation:
    def __init__(self, path: Path) -> None:
        self.path, self.name = path, path.stem
        text = ast.get_docstring(ast.parse(path.read_text("utf-8"))) or ""
        pairs = (line.partition(": ") for line in text.splitlines()[2:])
        self.wanted = {key: value for key, _, value in pairs}
        given = json.loads(self.wanted.get("input", "{}"))
        self.retries = given.pop("retries", 0)
        self.given = given

    def why_skipped(self) -> str | None:
        needed, since = self.wanted.get("needs"), self.wanted.get("since", "3.9")
        if needed and importlib.util.find_spec(needed.replace("attrs", "attr")) is None:
            return f"{needed} is not installed"
        if sys.version_info[:2] < tuple(map(int, since.split("."))):
            return f"needs Python {since}"
        if "fork" in self.wanted and not hasattr(os, "fork"):
            return "no fork here"
        if "alone" in self.wanted and not IS_ALL and self.name not in ALWAYS:
            return "runs in CI, and with USERAGENT_GUESTS=1"
        return None


SITUATIONS = [Situation(path) for path in sorted(SCRIPTS.glob("*.py"))]
TOGETHER = [one for one in SITUATIONS if "alone" not in one.wanted and one.why_skipped() is None]


class GuestTest(unittest.TestCase):
    program, on_path = ["-m", "user_agent_sdk"], str(ROOT)  # what is started, and PYTHONPATH

    def setUp(self) -> None:
        holder = tempfile.TemporaryDirectory()
        self.addCleanup(holder.cleanup)
        self.folder = Path(holder.name).resolve()
        self.sandbox = Sandbox()
        self.sandbox.__enter__()
        self.addCleanup(self.sandbox.close)
        (self.folder / "credentials.json").write_text(json.dumps(self.sandbox.credentials("unused")))
        os.chmod(self.folder / "credentials.json", 0o600)

    def started(self, *words: str) -> subprocess.Popen[bytes]:
        """The command as a process, in a folder of its own."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("USERAGENT_", "CONDUCTOR_"))}
        # No pipes: a flood would fill one, and a child that outlives the worker would keep it open.
        with open(self.folder / "out.txt", "wb") as out, open(self.folder / "err.txt", "wb") as err:
            process = subprocess.Popen(
                [sys.executable, *self.program, *words],
                cwd=self.folder,
                env={**kept, "PYTHONPATH": self.on_path, "PYTHONIOENCODING": "utf-8"},
                stdout=out,
                stderr=err,
            )
        self.addCleanup(ended, process)
        return process

    def finished(self, process: subprocess.Popen[bytes]) -> tuple[int, str, str]:
        """Its exit code and what is on stdout and stderr, once it has ended."""
        code = process.wait(LONG_S)
        out, err = ((self.folder / name).read_text("utf-8", "replace") for name in ("out.txt", "err.txt"))
        return code, out, err

    def stopped(self, process: subprocess.Popen[bytes]) -> tuple[int, str, str]:
        """The same of a worker that is told to stop, which on Windows is a kill."""
        process.send_signal(signal.SIGTERM)
        code, out, err = self.finished(process)
        return 0 if os.name == "nt" else code, out, err

    def submit(self, one: Situation) -> list[str]:
        times = int(one.wanted.get("times", "1"))
        return [self.sandbox.submit(one.name, one.given, retries=one.retries) for _ in range(times)]

    def assert_as_wanted(self, one: Situation, execution: Any) -> None:
        wanted = one.wanted
        lines = "\n".join(line.log for attempt in execution.attempts for line in attempt.logs)
        told = f"{one.name}: {execution.reason}\n{lines[-2000:]}"
        self.assertEqual(execution.status, wanted.get("status", "COMPLETED"), told)
        if "output" in wanted:
            self.assertEqual(execution.output, json.loads(wanted["output"]), told)
        if "attempts" in wanted:
            self.assertEqual(len(execution.attempts), int(wanted["attempts"]), told)
        if "reason" in wanted:
            self.assertRegex(str(execution.reason), wanted["reason"])
        if "log" in wanted:
            self.assertRegex(lines, re.compile(wanted["log"], re.MULTILINE))


class TogetherTest(GuestTest):
    """One worker process, with all their scripts on its command line."""

    def test_each_is_as_it_says(self) -> None:
        scripts = [str(one.path) for one in TOGETHER]
        worker = self.started("run", *scripts, "--no-journal", "--poll-interval", "300")
        tasks = [(one, self.submit(one)) for one in TOGETHER]
        try:
            for one, ids in tasks:
                for task in ids:
                    with self.subTest(one.name):
                        self.assert_as_wanted(one, self.sandbox.wait(task, LONG_S))
        finally:
            code, out, err = self.stopped(worker)
        printed = [line for line in out.splitlines() if not line.endswith("from structlog")]  # to stdout, by default
        self.assertEqual((code, printed), (0, []), err[-3000:])
        self.assertLess(len(err), 600_000)  # what a script logs or raises is bounded there, too


class AloneTest(GuestTest):
    """A process for each: the methods are made below."""

    def look(self, one: Situation) -> None:
        why = one.why_skipped()
        if why is not None:
            self.skipTest(why)
        words = [*one.wanted.get("options", "").split()]
        if one.wanted["alone"] == "invoke":
            process = self.started("invoke", str(one.path), "-i", json.dumps(one.given), *words)
            code, out, err = self.finished(process)
        else:
            code, out, err = self.run_one(one, words)
        self.assertEqual(code, int(one.wanted.get("exit", "0")), err[-3000:])
        self.assertRegex(out.strip(), one.wanted.get("out", "^"))
        self.assertRegex(err, one.wanted.get("err", "^"))
        for name in one.wanted.get("files", "").split():
            self.assertTrue((self.folder / name).exists(), name)

    def run_one(self, one: Situation, words: Sequence[str]) -> tuple[int, str, str]:
        port = free_port() if "port" in one.wanted else None
        words = [*words, *(["--status-port", str(port)] if port else [])]
        worker = self.started("run", str(one.path), "--poll-interval", "50", *words)
        if one.wanted.get("exit", "0") == "6":
            return self.finished(worker)
        for task in self.submit(one):
            self.assert_as_wanted(one, self.sandbox.wait(task, LONG_S))
        found = self.finished(worker) if "exit" in one.wanted else self.stopped(worker)
        if port:
            socket.create_server(("127.0.0.1", port)).close()  # raises while a child of the worker's has it
        return found


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def ended(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(OSError):
        process.kill()
    process.wait(LONG_S)


def _test_of(one: Situation) -> Callable[[Any], None]:
    return lambda case: case.look(one)


for _one in SITUATIONS:
    if "alone" in _one.wanted:
        setattr(AloneTest, f"test_{_one.name}", _test_of(_one))


class ListTest(unittest.TestCase):
    def test_there_are_many_and_each_says_what_is_expected(self) -> None:
        self.assertGreaterEqual(len(SITUATIONS), 80)
        for one in SITUATIONS:
            known = {"input", "times", "status", "output", "attempts", "reason", "log", "alone", "options", "exit",
                     "out", "err", "files", "since", "needs", "fork", "port"}  # fmt: skip
            self.assertLessEqual(set(one.wanted), known, one.name)
            self.assertTrue({"output", "reason", "log", "out", "err", "exit", "attempts"} & set(one.wanted), one.name)

    def test_the_readme_names_scripts_that_are_there(self) -> None:
        text = (ROOT / "README.md").read_text("utf-8").partition("### Your function runs on a thread\n")[2]
        named = set(re.findall(r"`([a-z]+(?:_[a-z]+)+)`", text.partition("\nSeveral scripts")[0])) - {"timeout_s"}
        self.assertGreater(len(named), 12)
        self.assertLessEqual(named, {one.name for one in SITUATIONS})

    def test_what_is_skipped_has_a_reason(self) -> None:
        needy = [one for one in SITUATIONS if "needs" in one.wanted]
        self.assertGreaterEqual({one.wanted["needs"] for one in needy},
                                {"numpy", "pandas", "pydantic", "attrs", "openpyxl", "aiohttp", "loguru", "structlog"})


if __name__ == "__main__":
    unittest.main()

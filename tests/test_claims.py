# SPDX-License-Identifier: Apache-2.0
"""The README's tables and figures for an auditor, held against the code: a sentence that is no longer true fails."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import sysconfig
import tempfile
import unittest
from pathlib import Path
from typing import Any

from tests import guide
from tests.test_audit import OTHERS, PACKAGE, ROOT
from tests.test_doors import FILE_LINES
from user_agent_sdk import _build, credentials
from user_agent_sdk.conductor import auth, client, connection, definitions, reply, transport, wire
from user_agent_sdk.conductor.paths import DIALECTS
from user_agent_sdk.history import recorder, shape
from user_agent_sdk.sandbox.server import Sandbox
from user_agent_sdk.settings import TABLE
from user_agent_sdk.watching import server as status
from user_agent_sdk.worker.keeping import retries
from user_agent_sdk.worker.polling import backoff
from user_agent_sdk.worker.running import context, output

README = (ROOT / "README.md").read_text("utf-8")
SECTION = README.partition("## What an auditor asks\n")[2].partition("\n## ")[0]
KIB, MIB = 1024, 1024 * 1024
LIMITS = {
    "a reply of the platform, packed or not": [transport.REPLY_LIMIT_BYTES],
    "a reply of the token endpoint; the headers of any": [auth.TOKEN_LIMIT_BYTES],
    "tasks of one reply that are looked at": [wire.TASKS_MAX],
    "a task's output": [output.MAX_BYTES, output.MAX_DEPTH],
    "a task's log": [context.MAX_LINES, context.MAX_BYTES, context.MAX_LINE_CHARS],
    "the reason of a failure": [wire.REASON_MAX_CHARS],
    "credentials.json": [credentials.FILE_MAX_BYTES],
    "results kept for a retry": [retries.LATE_RESULTS, retries.LATE_BYTES, retries.LATE_KEPT_S / 3600],
    "executions that wait to be recorded": [recorder.QUEUE_MAX_ROWS, recorder.QUEUE_MAX_BYTES],
    "a value in the history": [shape.VALUE_MAX_BYTES],
    "a connection's making; a token; a report": [
        connection.CONNECT_S, auth.TOKEN_TIMEOUT_S, client.REPORT_TIMEOUT_S,
    ],
    "the pause after a failure; after refused credentials": [backoff.CAP_S, auth.REFUSED_CAP_S],
    "the pause that a server may ask for": [client.RETRY_AFTER_MAX_S],
    "clients of the status port, each request": [status.CLIENTS_MAX, status.REQUEST_BYTES, status.REQUEST_S],
}  # fmt: skip
MOST_LINES = (15_847, 10_002, 3_147)  # of the package, of a core copy, of what touches network, credentials or disk
# PATH is the one variable that a watched run has: whoever goes through all of them, for the proxies, meets it.
NAMES_OF_PYTHON = re.compile(r"PYTHON\w*|LC_\w+|__\w+|PATH|LD_LIBRARY_PATH")


def rows(title: str) -> list[list[str]]:
    """The cells of the table that follows ``title``."""
    lines = SECTION.partition(title)[2].split("\n\n")
    table = next(block for block in lines if block.startswith("|")).splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table]


def figures(text: str) -> list[float]:
    """What ``16 MiB, 900 levels`` counts, in bytes, seconds or pieces."""
    units = {"KiB": KIB, "MiB": MIB}
    found = re.findall(r"(\d[\d,]*)(?: (KiB|MiB))?", text)
    return [float(number.replace(",", "")) * units.get(unit, 1) for number, unit in found]


class TablesTest(unittest.TestCase):
    def test_the_limits_are_those_of_the_code(self) -> None:
        told = {what: figures(limit) for what, limit in rows("**How large can things get?**")}
        self.assertEqual(told, LIMITS)
        self.assertEqual(reply.HEAD_LIMIT_BYTES, auth.TOKEN_LIMIT_BYTES)  # told in one row

    def test_the_requests_are_those_of_the_wire(self) -> None:
        requests = " ".join(row[0] for row in rows("**What may a client do on the platform?**"))
        told = set(re.findall(r"`([A-Z]+ [^`]+)`", requests))
        made = {"POST authUrl", "POST /token", "GET /health"}
        for dialect in DIALECTS.values():
            made |= {f"GET {path}ID" for path in (dialect.poll, dialect.batch_poll, dialect.task) if path}
            made |= {f"POST {path}" for path in (dialect.report, dialect.report_and_poll) if path}
        made |= {f"GET {definitions._PATH}/ID", f"POST {definitions._PATH}"}
        self.assertEqual(told, made)

    def test_a_report_has_what_is_told_and_no_more(self) -> None:
        told = set(re.findall(r"`([a-z]+[A-Za-z]+)`", SECTION.partition("a report ")[2].partition(";")[0]))
        report = wire.TaskResult("t", "w", "FAILED", {}, "reason", 1, "worker", [wire.LogLine("x", 1)], True)
        self.assertEqual(told, {*report.to_wire()})

    def test_every_path_in_the_source_is_one_of_them(self) -> None:
        """So that a request that is added is told, too."""
        paths = set()
        for path in (PACKAGE / "conductor").glob("*.py"):
            paths |= set(re.findall(r'"(/[a-z][a-z0-9/-]+)"', path.read_text("utf-8")))
        self.assertGreater(len(paths), 5)
        for path in paths:
            self.assertIn(path.rstrip("/"), SECTION)

    def test_the_default_addresses_are_named(self) -> None:
        for address in credentials.derived(credentials.DEFAULT_BASE_URL):
            self.assertIn(f"`{address.split('/')[2]}`", SECTION)

    def test_every_file_that_it_names_is_there(self) -> None:
        named = set(re.findall(r"`([a-z_/]+\.py)`", SECTION))
        self.assertGreater(len(named), 15)
        for name in named - {"agent.py"}:
            self.assertTrue((PACKAGE / name).is_file() or (ROOT / name).is_file(), name)

    def test_what_the_archives_hold(self) -> None:
        self.assertIn("none holds `.ci` or `.github`", SECTION)
        package = _build._tree(_build.PACKAGE)
        self.assertEqual({name.partition("/")[0] for name in package}, {"user_agent_sdk"})
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / _build.build_sdist(folder)
            import tarfile

            with tarfile.open(path) as archive:
                tops = {name.split("/")[1] for name in archive.getnames()}
        self.assertEqual(tops, {*_build.TOP, "PKG-INFO", "user_agent_sdk", "tests", "examples"})


class GuideTest(unittest.TestCase):
    """Figures may be a little off, so that not each change of the code needs one of the README:
    ``python -m tests.guide`` prints them as they are."""

    def test_the_reading_guide_is_made_from_the_code(self) -> None:
        told = rows("**In which order is it read?**")
        made = list(guide.table())
        self.assertEqual(len(told), len(made))
        for (number, files, lines, trust), (step, count, found) in zip(told, made):
            self.assertEqual(files, ", ".join(f"`{pattern}`" for pattern in step.files))
            self.assertEqual(trust.replace(" **", ""), step.trust)
            self.assertEqual(trust.endswith("**"), step.is_near, number)
            self.assertAlmostEqual(int(lines), count, delta=max(100, count * 0.25), msg=files)
            self.assertTrue(found, files)

    def test_the_figures_are_those_of_the_code(self) -> None:
        one_line = " ".join(SECTION.split())
        told = re.search(r"has ([\d,]+) lines of Python, a core copy ([\d,]+); ([\d,]+) of them", one_line)
        assert told is not None
        for text, count, most in zip(told.groups(), guide.figures(), MOST_LINES):
            self.assertAlmostEqual(int(text.replace(",", "")), count, delta=count * 0.15)
            self.assertLessEqual(count, most)
        self.assertIn(f"No file has more than {FILE_LINES}.", one_line)


# Ten questions of an auditor: where the README answers, the file to read first for it, and what is looked for there.
WALK = (
    ("what is sent where", "What is sent?", "conductor/wire.py", "def to_wire("),
    ("what is written of a task", "Which files are written?", "worker/keeping/journal_file.py", "class Entry("),
    ("who can read it", "What if others can write to the folder?", "private.py", "0o600"),
    ("what if a token leaks", "What if a token leaks, or the journal is copied?", "conductor/auth.py", "expires"),
    ("what if the journal is copied", "Which files are written?", "worker/keeping/journal_file.py", "class Entry("),
    ("which hosts", "Which hosts are contacted?", "credentials.py", "DEFAULT_BASE_URL ="),
    ("which subprocesses", "What is not in it?", "loader.py", "importlib"),
    ("what is done with TLS", "How is it protected?", "conductor/renewal.py", "PROTOCOL_TLS_CLIENT"),
    ("what is logged", "What is kept, where, and for how long?", "logs.py", "FIELDS ="),
    ("how is a release verified", "How do I check what I was given?", "cli/version.py", "def _verify("),
)


class WalkTest(unittest.TestCase):
    def test_the_first_file_that_an_answer_names_has_it(self) -> None:
        """Of ten questions four led to a file without the answer, most often private.py or log_file.py."""
        for question, heading, first, wanted in WALK:
            with self.subTest(question):
                answer = SECTION.partition(f"**{heading}**")[2].partition("\n**")[0]
                named = re.search(r"\(Read\s+`([\w/]+\.py)`|Read\s+`([\w/]+\.py)`", answer)
                assert named is not None, "no file is named"
                self.assertEqual(named[1] or named[2], first)
                self.assertIn(wanted, (PACKAGE / first).read_text("utf-8"))


@unittest.skipIf(sys.platform == "win32", "paths are compared as POSIX has them")
class WatchedTest(unittest.TestCase):
    """What is read, of the disk and of the environment, by a run that is watched."""

    def setUp(self) -> None:
        holder = tempfile.TemporaryDirectory()
        self.addCleanup(holder.cleanup)
        self.folder = Path(holder.name).resolve()
        (self.folder / "agent.py").write_bytes((ROOT / "examples" / "sum_agent.py").read_bytes())

    def watched(self, *words: str) -> dict[str, Any]:
        report = self.folder / "report.json"
        environ = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ}
        command = [sys.executable, "-B", "-W", "error", "-m", "tests.audited", str(report), *words]
        done = subprocess.run(command, cwd=self.folder, env={**environ, "PYTHONPATH": str(ROOT)}, capture_output=True,
                              text=True, timeout=60)  # fmt: skip
        self.assertEqual(done.returncode, 0, done.stderr)
        found: dict[str, Any] = json.loads(report.read_text("utf-8"))
        return found

    def assert_told(self, found: dict[str, Any]) -> None:
        told = {*re.findall(r"`([A-Za-z_]+)`", SECTION), *OTHERS, *(row.env for row in TABLE)}
        unknown = {name for name in found["variables"] if name not in told and not NAMES_OF_PYTHON.fullmatch(name)}
        self.assertEqual(unknown, set())
        paths = sysconfig.get_paths()
        allowed = (paths["stdlib"], paths["platstdlib"], sys.prefix, sys.base_prefix, str(ROOT), str(self.folder),
                   "/proc/self/", "/etc/", "/usr/", "/dev/")  # fmt: skip
        self.assertEqual([path for path in found["read"] if not path.startswith(allowed)], [])
        mine = {os.path.relpath(path, self.folder) for path in found["read"] if path.startswith(str(self.folder))}
        known = re.compile(r"agent\.py|input\.json|credentials\.json|report\.json|execution_history\.db.*|"
                           r"\.useragent/journal/.*|__pycache__/.*|\.")  # fmt: skip
        self.assertEqual([name for name in mine if not known.fullmatch(name)], [])

    def test_a_run_reads_what_the_readme_tells(self) -> None:
        with Sandbox() as sandbox:
            sandbox.submit("sum_agent", {"num1": 1})
            path = self.folder / "credentials.json"
            path.touch(0o600)
            path.write_text(json.dumps(sandbox.credentials("sum_agent")))
            self.assert_told(self.watched("run", "agent.py", "-r", "--max-tasks", "1", "--status-port", "0"))
            self.assert_told(self.watched("check", "agent.py"))
        self.assert_told(self.watched("history"))

    def test_an_invocation_reads_what_the_readme_tells(self) -> None:
        (self.folder / "input.json").write_text('{"num1": 1}')
        self.assert_told(self.watched("invoke", "agent.py", "-i", "input.json"))


if __name__ == "__main__":
    unittest.main()

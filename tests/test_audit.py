# SPDX-License-Identifier: Apache-2.0
"""What an auditor asks, answered by the source and by a run that is watched: which hosts are contacted, which
files are written, which variables are read, which threads are started, and what is not there at all."""

from __future__ import annotations

import ast
import functools
import json
import os
import re
import subprocess
import sys
import sysconfig
import tempfile
import unittest
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from user_agent_sdk.sandbox.server import Sandbox
from user_agent_sdk.settings import TABLE

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "user_agent_sdk"

MODULES = {
    "_ctypes", "_multiprocessing", "_pickle", "_posixsubprocess", "cffi", "code", "codeop", "ctypes", "dbm", "ftplib",
    "imp", "marshal", "multiprocessing", "pickle", "pty", "runpy", "shelve", "smtplib", "subprocess", "telnetlib",
    "webbrowser",
}  # fmt: skip
NEWER = {"annotationlib", "fcntl", "msvcrt"}  # of Python 3.14, of POSIX, of Windows; imported where they are there
BUILTINS = {"eval", "exec", "compile", "__import__", "breakpoint"}
OF_OS = re.compile(r"system|popen|fork|forkpty|exec[lv]p?e?|spawn[lv]p?e?|posix_spawnp?|startfile|getenvb?")
ANYWHERE = {
    "CERT_NONE", "CERT_OPTIONAL", "_create_unverified_context", "_create_stdlib_context", "create_subprocess_exec",
    "create_subprocess_shell", "subprocess_exec", "subprocess_shell", "ProcessPoolExecutor", "uuid1", "uuid3", "uuid5",
}  # fmt: skip
NOT_HASHES = {"compare_digest", "sha256"}

# All that stands after http:// and https:// in the source: our platform's own defaults, loopback, and names that
# stand for the reader's or a setting's. cyclonedx.org is part of a schema's name and is never asked.
HOSTS = {"next.akabot.io", "external-api.{}", "auth.{}", "127.0.0.1:{}", "localhost:{}", "{}", "{}:{}", "cyclonedx.org"}
READERS = re.compile(r"[][]*((USER:PASSWORD|user:password)@\]?)?(HOST|host|127\.0\.0\.1)(:(PORT|port|\d+|\{\}))?")

# Variables of the environment that are no row of the table of settings.
OTHERS = {
    "CREDENTIALS_DIRECTORY", "PYTHON_COLORS", "NO_COLOR", "FORCE_COLOR", "TERM", "WT_SESSION", "ANSICON", "ConEmuANSI",
    "no_proxy", "NO_PROXY", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SOURCE_DATE_EPOCH",
}  # fmt: skip
THREADS = {
    "slot", "lease", "delivery", "upkeep", "look-up", "credentials", "history", "invoke-worker", "sandbox-accept",
    "sandbox-connection", "abort-signal", "drain-limit", "waiting", "status", "dev-worker", "hook", "shared-loop",
    "loop-watch", "flush",
}  # fmt: skip


@functools.cache
def trees() -> list[tuple[Path, ast.Module]]:
    return [(path, ast.parse(path.read_bytes())) for path in sorted(PACKAGE.rglob("*.py"))]


@functools.cache
def nodes(tree: ast.Module) -> list[ast.AST]:
    return list(ast.walk(tree))


@functools.cache
def is_standard(name: str) -> bool:
    known = getattr(sys, "stdlib_module_names", None)
    if known is not None:
        return name in known or name in NEWER
    if name in NEWER or name in sys.builtin_module_names:
        return True
    try:
        spec = find_spec(name)
    except (ImportError, ValueError):
        return False
    origin = Path(spec.origin or "") if spec else Path()
    home = sys.base_prefix if sys.platform == "win32" else sysconfig.get_paths()["stdlib"]  # there it may be a zip
    return origin.is_relative_to(home) and "site-packages" not in origin.parts


def findings(tree: ast.Module) -> list[str]:
    """What no auditor would let pass, with its line."""
    return [f"line {getattr(node, 'lineno', 0)}: {what}" for node in nodes(tree) for what in suspicious(node)]


def suspicious(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        renamed = [f"{alias.name} as {alias.asname}" for alias in node.names if alias.name == "os" and alias.asname]
        return renamed + [name for alias in node.names for name in bad_module(alias.name)]
    if isinstance(node, ast.ImportFrom):
        if node.level:
            return []
        names = [alias.name for alias in node.names]
        found = bad_module(node.module or "") + [name for name in names if name in ANYWHERE]
        found += [name for name in names if node.module == "os" and OF_OS.fullmatch(name)]
        return found + [name for name in names if node.module == "hashlib" and name not in NOT_HASHES]
    if isinstance(node, ast.Name):
        return [node.id] if node.id in BUILTINS else []
    if isinstance(node, ast.Attribute):
        of = node.value.id if isinstance(node.value, ast.Name) else ""
        bad = node.attr in ANYWHERE or (of == "os" and OF_OS.fullmatch(node.attr))
        bad = bad or (of == "hashlib" and node.attr not in NOT_HASHES)
        bad = bad or (node.attr == "check_hostname" and isinstance(node.ctx, ast.Store))
        return [f"{of}.{node.attr}"] if bad else []
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("getattr", "vars"):
        return [f"{node.func.id}(os)" for argument in node.args[:1] if getattr(argument, "id", "") in ("os", "hashlib")]
    return ["shell="] if isinstance(node, ast.keyword) and node.arg == "shell" else []


def bad_module(name: str) -> list[str]:
    top = name.split(".")[0]
    return [name] if top in MODULES or not is_standard(top) else []


def variables(tree: ast.Module) -> set[str]:
    """The names that are asked of ``environ``, where they stand in the source."""
    found = set()
    for node in nodes(tree):
        asked = node.slice if isinstance(node, ast.Subscript) else None
        owner = node.value if isinstance(node, ast.Subscript) else None
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr == "get"
            and node.args
        ):
            owner, asked = node.func.value, node.args[0]
        named = getattr(owner, "id", getattr(owner, "attr", ""))
        if named == "environ" and isinstance(asked, ast.Constant):
            found.add(asked.value)
    return found


class SourceTest(unittest.TestCase):
    def test_only_the_standard_library_and_nothing_that_runs_code_or_programs(self) -> None:
        for path, tree in trees():
            self.assertEqual(findings(tree), [], path)

    def test_each_of_these_would_be_found(self) -> None:
        for line in (
            "import requests", "from numpy import f", "import yaml.loader", "import pickle", "from marshal import *",
            "import subprocess as s", "from multiprocessing import Pool", "import ctypes.util", "import shelve",
            "eval('1')", "run = exec", "compile('', '', 'exec')", "__import__('x')", "os.system('ls')", "os.popen('x')",
            "os.execv('x', [])", "os.fork()", "os.spawnlp(0, 'x')", "os.posix_spawn('x')", "from os import system",
            "import os as o", "getattr(os, 'sys' + 'tem')", "f(shell=True)", "asyncio.create_subprocess_shell('x')",
            "concurrent.futures.ProcessPoolExecutor()", "from concurrent.futures import ProcessPoolExecutor",
            "ssl._create_unverified_context()", "context.verify_mode = ssl.CERT_NONE", "context.check_hostname = False",
            "hashlib.md5()", "hashlib.new('md5')", "from hashlib import sha1", "uuid.uuid5(a, b)", "os.getenv('X')",
        ):  # fmt: skip
            self.assertTrue(findings(ast.parse(line)), line)
        for line in (
            "loader.exec_module(m)",
            "re.compile('x')",
            "platform.system()",
            "hashlib.sha256(b'')",
            "import ssl",
        ):
            self.assertEqual(findings(ast.parse(line)), [], line)

    def test_the_source_names_no_host_but_the_platforms(self) -> None:
        """So there is nowhere for telemetry or an update check to go."""
        for path in [*PACKAGE.rglob("*.py"), *PACKAGE.rglob("*.html"), ROOT / "pyproject.toml"]:
            for address in re.findall(r"\b(?:https?|ftp|wss?)://([^\s/\"'`)\\]+)", path.read_text("utf-8")):
                host = re.sub(r"\{[^}]*\}?|%[sd]", "{}", address).rstrip(".,;:")
                self.assertTrue(not host or host in HOSTS or READERS.fullmatch(host), f"{path}: {address}")

    def test_the_environment_is_read_in_few_places_and_by_known_names(self) -> None:
        places, names = set(), set()
        for path, tree in trees():
            attributes = [node.attr for node in nodes(tree) if isinstance(node, ast.Attribute)]
            if "environ" in attributes:
                places.add(path.relative_to(PACKAGE).as_posix())
            names |= variables(tree)
        readers = {"settings.py", "cli/terminal.py", "cli/dev.py", "conductor/transport.py", "conductor/renewal.py",
                   "_build.py"}
        readers.add("compat/runner.py")  # to put a RunnerConfig in the place of variables
        self.assertLessEqual(places, readers)
        self.assertLessEqual(names, OTHERS | {row.env for row in TABLE})
        self.assertGreater(len(names), 6)

    def test_the_readme_tells_every_variable_and_every_thread(self) -> None:
        section = (ROOT / "README.md").read_text("utf-8").partition("## What an auditor asks\n")[2]
        told = set(re.findall(r"`([A-Za-z_-]+)`", section.partition("\n## ")[0]))
        self.assertEqual(OTHERS - told, set())
        self.assertEqual({row.env for row in TABLE} - told, set())
        self.assertEqual(THREADS - told, set())

    def test_every_thread_has_a_name_that_is_told(self) -> None:
        """`python -X faulthandler`, py-spy and the operator's eyes find their way by the names."""
        for path, tree in trees():
            for node in nodes(tree):
                if not isinstance(node, ast.Call):
                    continue
                called = getattr(node.func, "attr", getattr(node.func, "id", ""))
                given = {keyword.arg: keyword.value for keyword in node.keywords}
                if called == "Thread":
                    name = given.get("name")
                    self.assertIsNotNone(name, f"{path}:{node.lineno}")
                    if isinstance(name, ast.Constant):
                        self.assertIn(name.value, THREADS, f"{path}:{node.lineno}")
                if called == "ThreadPoolExecutor" and path.name != "testing.py":
                    prefix = given.get("thread_name_prefix")
                    self.assertIn(getattr(prefix, "value", None), THREADS, f"{path}:{node.lineno}")


@unittest.skipIf(sys.platform == "win32", "a mode says nothing on Windows")
class WatchedRunTest(unittest.TestCase):
    """Each run is a process of its own with MD5 and SHA-1 out of order."""

    def setUp(self) -> None:
        holder = tempfile.TemporaryDirectory()
        self.addCleanup(holder.cleanup)
        self.folder = Path(holder.name).resolve()
        self.here = self.folder / "here"
        self.here.mkdir()
        (self.folder / "temp").mkdir()

    def watched(self, *words: str, answer: str | None = None) -> dict[str, Any]:
        report = self.folder / "report.json"
        environ = {name: os.environ[name] for name in ("PATH", "SYSTEMROOT", "LD_LIBRARY_PATH") if name in os.environ}
        environ.update(PYTHONPATH=str(ROOT), TMPDIR=str(self.folder / "temp"), HTTP_PROXY="http://127.0.0.1:9")
        command = [sys.executable, "-B", "-W", "error", "-m", "tests.audited", str(report), *words]
        done = subprocess.run(command, cwd=self.here, env=environ, capture_output=True, text=True, timeout=60)
        self.assertEqual(done.returncode, 0, done.stderr)
        if answer is not None:
            self.assertEqual(done.stdout.strip(), answer)
        found: dict[str, Any] = json.loads(report.read_text("utf-8"))
        return found

    def events(self, found: dict[str, Any], *beginnings: str) -> list[list[Any]]:
        return [event for event in found["events"] if event[0].startswith(beginnings)]

    def assert_no_program_was_started(self, found: dict[str, Any]) -> None:
        started = ("subprocess.", "os.system", "os.exec", "os.fork", "os.posix_spawn", "os.spawn", "ctypes.", "pickle.")
        self.assertEqual(self.events(found, *started, "os.startfile", "pty.", "webbrowser."), [])
        for module in ("multiprocessing", "ctypes", "pickle", "asyncio"):  # 3.9's uuid imports subprocess itself
            self.assertNotIn(module, found["modules"])

    def contacted(self, found: dict[str, Any]) -> set[tuple[str, int]]:
        self.assertEqual(self.events(found, "socket.sendto", "socket.sendmsg", "socket.gethostby"), [])
        looked_up = {event[1][0] for event in self.events(found, "socket.getaddrinfo")}
        self.assertLessEqual(looked_up, {"127.0.0.1"})
        return {tuple(event[1][1]) for event in self.events(found, "socket.connect")}

    def test_importing_every_module_connects_to_nothing_and_writes_nothing(self) -> None:
        found = self.watched("all")
        self.assertEqual(found["events"], [])
        self.assertEqual(found["threads"], [])
        self.assertIn("user_agent_sdk.worker.runner", found["modules"])
        self.assertEqual(list(self.here.iterdir()), [])

    def test_invoke_opens_no_socket_and_writes_nothing(self) -> None:
        """Its worker spoke HTTP to its platform, over a port of loopback: what that loads was a third of a start."""
        given = '{"num1": 2, "num2": 3}'
        found = self.watched("invoke", str(ROOT / "examples/sum_agent.py"), "-i", given, answer='{"result": 5}')
        self.assert_no_program_was_started(found)
        network = {event[0] for event in self.events(found, "socket.", "urllib.", "http.")}
        self.assertLessEqual(network, {"socket.gethostname"})
        for module in ("email", "http", "ssl", "urllib.request", "shutil"):
            self.assertNotIn(module, found["modules"])
        self.assertLessEqual(set(found["threads"]), THREADS)
        self.assertEqual(self.events(found, "open", "os.mkdir", "os.rename", "sqlite3.connect"), [])
        self.assertEqual([*self.here.iterdir(), *(self.folder / "temp").iterdir()], [])

    def test_run_speaks_to_the_platform_alone_and_writes_its_journal_and_its_history(self) -> None:
        agent = (
            "import os, pathlib\nfrom user_agent_sdk import user_agent\n@user_agent\ndef work():\n"
            "    return {str(path): oct(path.stat().st_mode & 0o777) for path in pathlib.Path('.').rglob('*')}\n"
        )
        (self.folder / "agent.py").write_text(agent)
        with Sandbox() as sandbox:
            execution_id = sandbox.submit("work", {})
            credentials = self.folder / "credentials.json"
            credentials.touch(0o600)
            credentials.write_text(json.dumps(sandbox.credentials("work")))
            found = self.watched("run", str(self.folder / "agent.py"), "-r", "--max-tasks", "1")
            execution = sandbox.wait(execution_id, 10)
        self.assertEqual(execution.status, "COMPLETED", execution.reason)
        self.assert_no_program_was_started(found)
        self.assertEqual(self.contacted(found), {("127.0.0.1", sandbox.port)})  # not HTTP_PROXY: loopback has none
        self.assertEqual(self.events(found, "socket.bind"), [])
        self.assertNotIn("http.server", found["modules"])
        self.assertLessEqual(set(found["threads"]), THREADS)
        modes = dict(execution.output)
        self.assertEqual(modes.pop(".useragent"), modes.pop(os.path.join(".useragent", "journal")))
        [target] = [name for name in modes if re.fullmatch(r"\.useragent.journal.[0-9a-f]{12}", name)]
        self.assertEqual(modes.pop(target), "0o700")
        for name, mode in modes.items():
            self.assertRegex(name, re.escape(target) + r".1\.(lock|log)|execution_history\.db(-wal|-shm)?")
            self.assertEqual(mode, "0o600", name)
        self.assertLessEqual({os.path.join(target, name) for name in ("1.lock", "1.log")}, modes.keys())
        self.assertEqual(list((self.folder / "temp").iterdir()), [])


if __name__ == "__main__":
    unittest.main()

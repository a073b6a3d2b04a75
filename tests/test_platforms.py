# SPDX-License-Identifier: Apache-2.0
"""Windows and macOS, as far as they can be had here: their behaviour is put in the place of this system's.

``BRANCHES`` names every place where the package asks what it runs on, and the tests that answer for the other
system: a new one without a test fails.
"""

from __future__ import annotations

import ast
import contextlib
import errno
import importlib.util
import io
import json
import ntpath
import os
import queue
import select
import signal
import socket
import sqlite3
import ssl
import subprocess
import sys
import time
import types
import unittest
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime, tzinfo
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any
from unittest import mock

from tests.cli import ROOT, SUM, CliTest
from tests.support import Server, answering, executions
from tests.test_cli_journal import entry
from tests.workerbox import LONG_S, Box, agent, working
from user_agent_sdk import credentials, forking, private, storage, values
from user_agent_sdk.cli import check, commands, dev, embedded, options, terminal
from user_agent_sdk.cli.journal import _fields
from user_agent_sdk.conductor import connection as rooms
from user_agent_sdk.conductor import transport
from user_agent_sdk.conductor.connection import _explained
from user_agent_sdk.errors import ConfigError, StorageError, UsageError, UserAgentError
from user_agent_sdk.history import times
from user_agent_sdk.history.recorder import Recorder
from user_agent_sdk.logs import json_text
from user_agent_sdk.sandbox import server
from user_agent_sdk.sandbox.server import Sandbox
from user_agent_sdk.settings import load
from user_agent_sdk.watching.server import StatusServer
from user_agent_sdk.worker import signals
from user_agent_sdk.worker.keeping import log_file
from user_agent_sdk.worker.keeping.journal import Journal
from user_agent_sdk.worker.keeping.leftovers import Left

from .historybox import execution

PACKAGE = ROOT / "user_agent_sdk"
# (file, function): a test of this module.
BRANCHES = {
    ("cli/commands.py", "_is_closed_pipe"): "test_a_closed_pipe_is_no_bug_there_either",
    ("cli/commands.py", "_is_full"): "test_a_full_device_is_told_from_a_file_that_is_named",
    ("cli/check.py", "_configuration"): "test_file_modes_say_nothing_there",
    ("cli/check.py", "_python"): "test_a_python_without_its_libraries_is_said",
    ("cli/check.py", "_trust"): "test_the_authorities_are_the_systems_there",
    ("cli/options.py", "about_quotes"): "test_what_cmd_and_powershell_make_of_the_quotes_is_explained",
    ("cli/terminal.py", "wants_color"): "test_an_old_console_gets_no_colours",
    ("cli/terminal.py", "_windows_console_has_color"): "test_an_old_console_gets_no_colours",
    ("conductor/connection.py", "_poller"): "test_exchanges_go_over_select_where_there_is_no_poll",
    ("conductor/transport.py", "_proxy_for"): "test_the_systems_proxy_is_used",
    ("credentials.py", "_warn_if_exposed"): "test_file_modes_say_nothing_there",
    ("credentials.py", "trusted_owners"): "test_owners_and_modes_say_nothing_there",
    ("credentials.py", "_content"): "test_owners_and_modes_say_nothing_there",
    ("private.py", ""): "test_what_is_no_file_is_told_from_what_is_missing",
    ("private.py", "_fault"): "test_owners_and_modes_say_nothing_there",
    ("private.py", "check_folder"): "test_owners_and_modes_say_nothing_there",
    ("private.py", "is_foreign"): "test_a_link_is_nobodys_there",
    ("sandbox/server.py", "close"): "test_a_sandbox_ends_though_a_shutdown_wakes_nobody",
    ("worker/keeping/log_file.py", ""): "test_a_lock_is_windows_own_there",
    ("worker/keeping/log_file.py", "_flush"): "test_a_full_sync_empties_the_drives_cache_on_macos",
    ("worker/keeping/log_file.py", "_flush_folder"): "test_a_lock_is_windows_own_there",
    ("forking.py", ""): "test_nothing_is_asked_of_a_system_that_cannot_fork",
    ("worker/signals.py", ""): "test_ctrl_break_drains",
}
# Waits without an end, in threads that nobody presses Ctrl+C for. No lock wait of the main thread may be one: before
# Python 3.14 Windows does not interrupt it.
ENDLESS = {
    ("history/recorder.py", "_run"),
    ("worker/drain.py", "keep_limit"),  # until a stop begins
    ("testing.py", "run_task"),  # waits for the agent's own function, which nothing could end
    ("worker/polling/gate.py", "_wait"),
    ("worker/running/event_loop.py", "run"),  # the same
}
LOOKED = {  # first, and there is something to get
    ("cli/dev.py", "_close"),
    ("worker/runner.py", "_is_told_to_stop"),
    ("worker/running/hooks.py", "_limited"),
}
NASTY = "đơn ✓ é 🚀 ─│"


def on(name: str, module: types.ModuleType, **more: Any) -> Any:
    """While this lasts, ``module`` believes that it runs there. Not all of Python: pathlib would notice."""
    return mock.patch.object(module, "os", types.SimpleNamespace(**{**vars(os), "name": name, **more}))


def on_windows(module: types.ModuleType, **more: Any) -> Any:
    return on("nt", module, **more)


def below(node: ast.AST, place: tuple[str, str]) -> Iterator[tuple[tuple[str, str], ast.AST]]:
    """Each node with the file and the innermost function that it is in."""
    for child in ast.iter_child_nodes(node):
        inner = (place[0], child.name) if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)) else place
        yield inner, child
        yield from below(child, inner)


class BranchesTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls) -> None:
        files = [path for path in sorted(PACKAGE.rglob("*.py")) if path.name != "_build.py"]
        trees = {path.relative_to(PACKAGE).as_posix(): ast.parse(path.read_text("utf-8")) for path in files}
        cls.nodes = [pair for name, tree in trees.items() for pair in below(tree, (name, ""))]

    def asks(self, node: ast.AST) -> bool:
        """Whether that is a question about the system, or about what only some systems have or do."""
        text = ast.unparse(node) if isinstance(node, (ast.Attribute, ast.Name)) else ""
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "hasattr":
            text = "hasattr " + ast.unparse(node.args[0])
        probed = tuple(f"hasattr {name}" for name in ("os", "signal", "select", "socket", "time", "sys"))
        asked = ("os.name", "sys.platform", "ImportError", "urllib.request.getproxies", *probed)
        return text in asked or text.startswith("errno.") or text.endswith(".winerror")

    def test_every_branch_has_its_test(self) -> None:
        self.assertEqual({place for place, node in self.nodes if self.asks(node)}, set(BRANCHES))
        here = {name for case in (SystemTest, FilesTest, OutputTest) for name in vars(case)}
        self.assertLessEqual(set(BRANCHES.values()), here)

    def test_every_wait_of_the_main_thread_ends(self) -> None:
        found = {
            place
            for place, node in self.nodes
            if isinstance(node, ast.Call) and not node.args and not node.keywords
            and isinstance(node.func, ast.Attribute) and node.func.attr in ("wait", "join", "get", "result", "acquire")
        }  # fmt: skip
        self.assertEqual(found - LOOKED, ENDLESS)

    def test_no_number_of_seconds_is_too_large_for_a_wait(self) -> None:
        """threading.TIMEOUT_MAX is 49 days on Windows: a drain timeout of 115 days ended its timer's thread."""
        self.assertRaises(UsageError, load, {"drain_timeout_s": str(2**32 / 1000)}, environ={}, target=False)


class SystemTest(CliTest):
    def test_ctrl_break_drains(self) -> None:
        """NSSM and consoles may send it; there SIGBREAK is what no other system has."""
        spec = importlib.util.spec_from_file_location(f"{signals.__package__}.signals_there", signals.__file__)
        assert spec is not None and spec.loader is not None
        there = importlib.util.module_from_spec(spec)
        with mock.patch.object(signal, "SIGBREAK", signal.SIGABRT, create=True):
            spec.loader.exec_module(there)
        hangup = [signal.SIGHUP] if hasattr(signal, "SIGHUP") else []
        self.assertEqual(there.STOP, [signal.SIGINT, signal.SIGTERM, signal.SIGABRT, *hangup])
        numbers: queue.SimpleQueue[int] = queue.SimpleQueue()
        with there.into(numbers):
            signal.raise_signal(signal.SIGABRT)
            self.assertEqual(numbers.get(timeout=LONG_S), signal.SIGABRT)
        self.assertEqual(signal.getsignal(signal.SIGABRT), signal.SIG_DFL)

    def test_file_modes_say_nothing_there(self) -> None:
        path = self.write("credentials.json", '{"clientId": "c", "clientSecret": "s"}')
        path.chmod(0o644)
        key = self.write("key.pem", "")
        key.chmod(0o644)
        settings = load({"config_file": str(path)}, environ={})
        for system, warned in (("posix", True), ("nt", False)):
            warnings: list[str] = []
            with on(system, credentials), on(system, check):
                credentials.read(path, ["clientId", "clientSecret"], warnings)
                rows = [row.check for row in check._configuration(settings._replace(client_key=key))]
            self.assertEqual((bool(warnings), "file mode" in rows), (warned, warned), rows)

    def test_the_authorities_are_the_systems_there(self) -> None:
        nothing = ssl.DefaultVerifyPaths(None, None, "", "/nowhere", "", "")  # type: ignore[attr-defined]
        settings = load({"conductor": "https://c.example/api"}, environ={})
        for system, expected in (("posix", "warn"), ("nt", "ok")):
            with on(system, check), mock.patch.object(ssl, "get_default_verify_paths", lambda: nothing):
                self.assertEqual(check._trust(settings).status, expected)

    def test_a_python_without_its_libraries_is_said(self) -> None:
        with mock.patch.dict(sys.modules, {"ssl": None}):  # type: ignore[dict-item]
            self.assertIn(("FAIL", "config-invalid"), [(row.status, row.code) for row in check._python(None)])

    def test_an_old_console_gets_no_colours(self) -> None:
        """Before Windows 10 escapes are printed; Python tells from 3.13 on what the console can."""
        tty = mock.Mock(isatty=lambda: True)

        def console(answer: Any) -> dict[str, Any]:
            return {"nt": types.SimpleNamespace(_supports_virtual_terminal=answer)}

        for environ, modules, colour in (
            ({}, {"nt": None}, False),  # here there is no such module
            ({}, {"nt": types.SimpleNamespace()}, False),  # 3.12
            ({}, console(lambda: False), False),
            ({}, console(lambda: True), True),
            ({}, console(mock.Mock(side_effect=OSError(6, "The handle is invalid"))), False),
            ({"WT_SESSION": "1"}, {"nt": None}, True),
            ({"ConEmuANSI": "ON"}, {"nt": None}, True),
            ({"WT_SESSION": "1", "NO_COLOR": "1"}, {"nt": None}, False),
        ):
            with on_windows(terminal), mock.patch.dict(sys.modules, modules):
                self.assertEqual(terminal.wants_color(tty, "auto", environ), colour, (environ, modules))

    def test_the_systems_proxy_is_used(self) -> None:
        """urllib asks Windows' registry or macOS' settings when the environment names none."""
        def proxy(system: dict[str, str], host: str = "a.example", bypass: bool = False, **environ: str) -> Any:
            named = {name.partition("_")[0]: url for name, url in environ.items()}
            with ExitStack() as stack:
                stack.enter_context(mock.patch.dict(os.environ, environ))
                for name, answer in (("getproxies", {**system, **named}), ("proxy_bypass", bypass)):
                    stack.enter_context(mock.patch.object(urllib.request, name, lambda *_, it=answer: it))
                return transport._proxy_for("https", host, 443, None)

        plain = ("proxy.corp", 8080, None)
        self.assertEqual(proxy({"https": "http://proxy.corp:8080"}), plain)
        self.assertEqual(proxy({"https": "https://proxy.corp:8080"}), plain)  # so says an older urllib
        self.assertIsNone(proxy({"https": "http://proxy.corp:8080"}, bypass=True))  # <local>, say
        self.assertIsNone(proxy({"https": "http://proxy.corp:8080"}, "127.0.0.1"))
        self.assertIsNone(proxy({}))
        self.assertRaises(ConfigError, proxy, {"https": "socks4://proxy.corp:1080"})
        self.assertRaises(ConfigError, proxy, {}, https_proxy="https://proxy.corp:8080")

    def test_what_winsock_says_is_told_with_what_was_asked(self) -> None:
        for error, said in (
            (ConnectionRefusedError(10061, "No connection could be made"), "h:1: No connection could be made"),
            (ConnectionResetError(10054, "An existing connection was forcibly closed by the remote host"), "forcibly"),
            (ConnectionAbortedError(10053, "An established connection was aborted"), "aborted"),
            (TimeoutError(10060, "A connection attempt failed"), "h:1: no answer in time"),
            (socket.gaierror(11001, "getaddrinfo failed"), "the name can't be looked up: getaddrinfo failed"),
        ):
            self.assertIn(said, str(_explained(error, "h:1", False)))
        taken = OSError(10048, "Only one usage of each socket address is normally permitted")
        with mock.patch.object(socket, "create_server", side_effect=taken):
            for listen in (lambda: StatusServer("127.0.0.1:1", mock.Mock()), lambda: Sandbox(1).__enter__()):
                with self.assertRaises(UserAgentError) as caught:
                    listen()
                self.assertIn("Only one usage", caught.exception.message)

    def test_exchanges_go_over_select_where_there_is_no_poll(self) -> None:
        body = os.urandom(1 << 20)
        server = Server(answering(lambda request: request.body or b"ok"))
        self.addCleanup(server.close)
        with (
            mock.patch.object(rooms, "select", mock.Mock(spec=["select"], select=select.select)),
            mock.patch.object(rooms, "sys", types.SimpleNamespace(platform="win32")),
        ):
            connection = rooms.Connection("127.0.0.1", server.port, None, None)
            for content in (None, body, None):
                headers = {"Host": "h", "Content-Length": str(len(content or b""))}
                connection.send("POST", "/", headers, content, LONG_S, 1 << 21)
                reply = connection.fetch()
                self.assertEqual(reply.body, content or b"ok")
            self.assertEqual(server.connections.count, 1)
            connection.close()

    def test_a_clock_of_fifteen_milliseconds_is_enough(self) -> None:
        """What time.monotonic() has on Windows before Python 3.13: no rate is by nothing, no wait a storm."""
        real, asked = time.monotonic, [0]

        def coarse() -> float:
            asked[0] += 1
            return real() // 0.015625 * 0.015625

        work = agent(lambda number: number * 2, workers=3)
        with mock.patch.object(time, "monotonic", coarse), Box() as box:
            ids = [box.submit(work.agent_id or "", {"number": number}) for number in range(30)]
            with working(box, work) as worker:
                ended = [box.wait(one, LONG_S) for one in ids]
                self.assertEqual(worker.stop(), 0)
        self.assertEqual([one.output for one in ended], [{"result": number * 2} for number in range(30)])
        self.assertLess(asked[0], 20_000)

    def test_a_sandbox_ends_though_a_shutdown_wakes_nobody(self) -> None:
        """On Windows only closing wakes a thread that reads: Ctrl+C took 5 s for each open connection."""
        with Sandbox() as sandbox, socket.create_connection(("127.0.0.1", sandbox.port)) as client:
            client.sendall(b"GET /nowhere HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n\r\n" % sandbox.port)
            client.recv(1000)
            threads = [*sandbox._connections.values()]
            began = time.monotonic()
            with on_windows(server):
                sandbox.close()
            self.assertLess(time.monotonic() - began, server.CLOSE_S)
        self.assertEqual([thread.is_alive() for thread in threads], [False])

    def test_nothing_is_asked_of_a_system_that_cannot_fork(self) -> None:
        spec = importlib.util.spec_from_file_location("forking_there", forking.__file__)
        assert spec is not None and spec.loader is not None
        there = importlib.util.module_from_spec(spec)
        with mock.patch.object(sys, "platform", "win32"):
            spec.loader.exec_module(there)
        self.assertFalse(hasattr(there, "_in_child"))
        self.assertIs(there.ours(self), self)

    def test_a_change_on_another_drive_is_named(self) -> None:
        """A path from one drive to another can't be made: relpath() raises ValueError."""
        with on_windows(dev, path=ntpath, fspath=str):
            for path in (r"D:\shared\words.py", r"\\server\share\words.py", r"\\?\C:\bot\words.py"):
                self.assertEqual(dev._short(path, Path("C:/bot")), path)

    def test_what_cmd_and_powershell_make_of_the_quotes_is_explained(self) -> None:
        self.write("agent.py", SUM)
        for words in (["'{num1:", "2}'"], ["'{num1:", "2,", "num2:", "3}'"], ["{num1: 2}"], ["'{}'"]):
            with on_windows(options):
                ended = self.run_main("invoke", "agent.py", "-i", *words)
            self.assertEqual((ended.code, "hint: cmd and PowerShell take" in ended.err), (2, True), ended.err)


class FilesTest(CliTest):
    def test_a_secret_and_an_input_may_be_what_powershell_writes(self) -> None:
        """``"secret" > file`` is UTF-16 with a mark and CR LF; of newer ones, and of Notepad, it is UTF-8."""
        for coding in ("utf-16", "utf-8-sig", "utf-8"):
            Path("secret").write_bytes("s3cr3t\r\n".encode(coding))
            self.assertEqual(credentials._secret_in(Path("secret"), "test", []), "s3cr3t")
            Path("input").write_bytes('{"a": "đ"}\r\n'.encode(coding))
            self.assertEqual(embedded.read_input("input"), {"a": "đ"})

    def test_a_file_on_a_share_can_be_read(self) -> None:
        """SQLite refuses a host in an address, and pathlib puts the share's there."""
        for path, uri in (
            (PureWindowsPath(r"\\server\share\a b#1.db"), "file:////server/share/a%20b%231.db"),
            (PureWindowsPath(r"C:\x y\h.db"), "file:///C:/x%20y/h.db"),
            (PureWindowsPath(r"\\?\C:\x\h.db"), "file:////%3F/C:/x/h.db"),
            (PurePosixPath("/tmp/100%?.db"), "file:///tmp/100%25%3F.db"),
        ):
            self.assertEqual(storage._uri(path), uri)
        with self.assertRaisesRegex(sqlite3.OperationalError, "authority"):
            sqlite3.connect("file://server/share/h.db", uri=True)
        storage.open_shared(Path("a b#%20.db")).close()
        with mock.patch.object(storage, "_uri", wraps=storage._uri) as told:
            storage.open_existing(Path("a b#%20.db")).close()
        told.assert_called_once()
        uri = storage._uri(Path("a b#%20.db").resolve()) + "?mode=ro"
        with contextlib.closing(sqlite3.connect(uri, uri=True)) as db:
            db.execute("VALUES(1)")

    def test_a_folder_on_a_drive_or_share_that_is_not_there_is_an_error(self) -> None:
        """A root is its own parent: ``--journal Q:\\journal`` without a drive Q ended in a RecursionError."""
        with mock.patch.object(os.path, "isdir", return_value=False), self.assertRaises(OSError):
            private.make_folder(Path(Path.cwd().anchor, "nothing"))

    @unittest.skipIf(sys.platform == "win32", "symlinks take a privilege there")
    def test_what_is_no_file_is_told_from_what_is_missing(self) -> None:
        Path("link").symlink_to("nowhere")
        for path, kind in ((Path("link"), StorageError), (Path("nothing"), FileNotFoundError)):
            with self.assertRaises(kind):
                private.open_own(path, os.O_RDONLY)

    def test_owners_and_modes_say_nothing_there(self) -> None:
        Path("folder").mkdir()
        Path("folder/file").touch()
        os.chmod("folder", 0o777)
        os.chmod("folder/file", 0o666)
        there = types.SimpleNamespace(platform="win32")
        with mock.patch.object(private, "sys", there), mock.patch.object(credentials, "sys", there):
            private.make_folder(Path("folder"))
            os.close(private.open_own(Path("folder/file"), os.O_RDONLY))
            private.check_own(Path("folder/file"))
            self.assertEqual(credentials.trusted_owners(None), set())
            self.assertEqual(credentials._content(Path("folder/file"), {-1}), b"")
        if sys.platform != "win32":
            with self.assertRaises(StorageError):
                os.close(private.open_own(Path("folder/file"), os.O_RDONLY))

    @unittest.skipIf(sys.platform == "win32", "symlinks take a privilege there")
    def test_a_link_is_nobodys_there(self) -> None:
        Path("folder").mkdir()
        Path("file").touch(0o600)
        Path("to_folder").symlink_to("folder")
        Path("to_file").symlink_to("file")
        there = types.SimpleNamespace(platform="win32")
        with mock.patch.object(private, "sys", there), mock.patch.object(os, "geteuid", lambda: 4321):
            private.make_folder(Path("to_folder"))
            private.check_own(Path("to_file"))

    @unittest.skipIf(sys.platform == "win32", "there is no fcntl on Windows")
    def test_a_full_sync_empties_the_drives_cache_on_macos(self) -> None:
        macos = mock.Mock(F_FULLFSYNC=51)
        with mock.patch.object(log_file, "fcntl", macos, create=True), mock.patch.object(os, "fsync") as fsync:
            log_file._flush(7)
        macos.fcntl.assert_called_once_with(7, 51)
        fsync.assert_not_called()

    def test_a_lock_is_windows_own_there(self) -> None:
        """Loaded as on Windows: one byte is locked, another process's is refused at once, other failures are raised."""
        outcomes = iter((None, PermissionError(13, "Permission denied"), OSError(22, "Invalid argument")))
        windows = types.ModuleType("msvcrt")
        windows.LK_NBLCK, windows.locking = 2, mock.Mock(side_effect=outcomes)  # type: ignore[attr-defined]
        spec = importlib.util.spec_from_file_location("user_agent_sdk.worker.keeping.there", log_file.__file__)
        assert spec is not None and spec.loader is not None
        there = importlib.util.module_from_spec(spec)
        with mock.patch.dict(sys.modules, msvcrt=windows), mock.patch.object(sys, "platform", "win32"):
            spec.loader.exec_module(there)
        self.assertEqual([there._lock(5), there._lock(5)], [True, False])
        self.assertRaises(OSError, there._lock, 5)
        windows.locking.assert_called_with(5, 2, 1)  # type: ignore[attr-defined]
        with mock.patch.object(sys, "platform", "win32"):
            there._flush_folder(Path("nothing"))

    @contextmanager
    def open_files_stay(self) -> Iterator[list[str]]:
        """As on Windows: what somebody has open can't be renamed, replaced or removed. Which those were."""
        if sys.platform != "win32" and not os.path.isdir("/proc/self/fd"):
            self.skipTest("which files are open is known on Linux only")
        refused: list[str] = []

        def guarded(real: Any) -> Any:
            def act(*paths: Any, **options: Any) -> Any:
                if sys.platform != "win32":
                    links = [f"/proc/self/fd/{number}" for number in os.listdir("/proc/self/fd")]
                    held = {os.readlink(link) for link in links if os.path.lexists(link)}
                    for path in paths:
                        if os.path.abspath(path) in held:
                            refused.append(str(path))
                            raise PermissionError(13, "The process cannot access the file", str(path), 32)
                try:
                    return real(*paths, **options)
                except PermissionError:
                    refused.append(str(paths[0]))
                    raise

            return act

        with ExitStack() as stack:
            for name in ("replace", "rename", "remove", "unlink", "rmdir"):
                stack.enter_context(mock.patch.object(os, name, guarded(getattr(os, name))))
            yield refused

    def test_a_journal_is_set_aside_and_adopted_though_open_files_stay(self) -> None:
        with self.open_files_stay() as refused:
            with open("held", "wb"):  # so that this could fail
                self.assertRaises(PermissionError, os.replace, "held", "elsewhere")
            refused.clear()
            Path("journal").mkdir()
            Path("journal/1.log").write_bytes(b"another program's")
            Path("journal/1.log").chmod(0o600)
            journal, other = Journal(Path("journal")), Journal(Path("journal"))
            with self.assertLogs("user_agent_sdk.worker.keeping.log_file", "ERROR"):
                journal.open()
            other.open()
            row = other.write(entry("left"))
            self.assertTrue(row)
            assert other._file is not None
            other._file.close()  # its process ends
            self.assertEqual([one.task_id for one in journal.adopt().values()], ["left"])
            journal.free(journal.write(entry("gone", task=b"x" * 999)))
            journal.sweep()  # which replaces the file
            self.assertEqual((refused, journal.is_on_disk), ([], True))
            self.assertLess(Path("journal/1.log").stat().st_size, 500)
            with open("journal/1.log", "rb"):  # by ``useragent journal``: it is done later
                journal.free(journal.write(entry("gone", task=b"x" * 999)))
                journal.sweep()
                self.assertEqual((len(refused), journal.is_on_disk), (1, True))
                refused.clear()
                journal.write(entry("next"))
            journal.sweep()
            self.assertEqual(sorted(one.task_id for one in journal.live().values()), ["left", "next"])
            journal.close()

    def test_no_command_renames_or_removes_what_it_has_open(self) -> None:
        self.write("sum_agent.py", SUM)
        with self.open_files_stay() as refused:
            self.assertEqual(self.run_main("invoke", "sum_agent.py", "-r").code, 0)
            for words in (("-e", "out.csv"), ("--html", "out.html"), ("-e", "out.csv")):
                self.assertEqual(self.run_main("history", *words).code, 0)
            self.assertEqual(self.run_main("history-prune", "--older-than", "0s").code, 0)
            self.assertEqual(self.run_main("init", "made", "--vendor").code, 0)
            self.assertEqual(refused, [])
            with open("out.csv"):  # in Excel
                ended = self.run_main("history", "-e", "out.csv")
                self.assertEqual((ended.code, len(refused)), (1, 1))
        self.assertIn("out.csv can't be written: ", ended.err)
        self.assertEqual([path.name for path in Path().glob("*.partial")], [])

    def test_a_damaged_time_is_one_that_every_system_has(self) -> None:
        """Windows knows no time past 3000 and no local time on the first day of 1970: ``journal`` ended as a bug,
        and one damaged row stopped the history for good."""
        for taken_ms in (0, 2**44 - 1, 2**46, 2**70):
            shown = _fields(Left(Path("1.log"), 1, entry("t", taken_ms=taken_ms)))["startedTime"]
            self.assertLess(int(shown[:4]), 3000)

        class Windows(datetime):
            def astimezone(self, tz: tzinfo | None = None) -> Any:
                if self.tzinfo is None and self < datetime(1970, 1, 2, 12):
                    raise OSError(errno.EINVAL, "Invalid argument")
                return super().astimezone(tz)

        times._second.cache_clear()
        self.addCleanup(times._second.cache_clear)
        with mock.patch.object(times, "datetime", Windows), mock.patch.object(values, "datetime", Windows):
            self.assertTrue(times.stamp(0.0).startswith("1970-01-01T00:00:00.000000+00:00"))
            self.assertIsNone(times.moment("1970-01-01T00:00:00"))


class Gone(io.RawIOBase):
    """A pipe whose reader has gone, as Windows' C library tells of it."""

    def __init__(self, error: OSError) -> None:
        self.error, self.number = error, os.open(os.devnull, os.O_WRONLY)

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self.number

    def write(self, data: Any) -> int:
        raise self.error


class Told(io.TextIOWrapper):
    """A stream of a terminal or a pipe in some code page, which refuses what that lacks."""

    def __init__(self, encoding: str, is_terminal: bool, errors: str = "strict") -> None:
        super().__init__(io.BytesIO(), encoding=encoding, errors=errors, newline="\r\n")
        self.is_terminal = is_terminal

    def isatty(self) -> bool:
        return self.is_terminal

    def text(self) -> str:
        self.flush()
        raw = self.buffer.getvalue()  # type: ignore[attr-defined]
        return str(raw.decode(self.encoding))


class OutputTest(CliTest):
    def test_a_full_device_is_told_from_a_file_that_is_named(self) -> None:
        """Windows has the same numbers: 28 for a full disk, 5 for a device that is gone."""
        for error, is_full in (
            (OSError(errno.ENOSPC, "full"), True),
            (OSError(errno.EIO, "gone"), True),
            (OSError(errno.ENOSPC, "full", "history.db"), False),
            (OSError(errno.EINVAL, "what?"), False),
            (ValueError(), False),
        ):
            self.assertEqual(commands._is_full(error), is_full, error)

    def told(self, encoding: str, is_terminal: bool, *words: str) -> tuple[int, str, str]:
        out, err = Told(encoding, is_terminal), Told(encoding, is_terminal, "backslashreplace")
        with mock.patch.multiple(sys, stdout=out, stderr=err):
            code = commands.main(words)
        return code, out.text(), err.text()

    def test_a_closed_pipe_is_no_bug_there_either(self) -> None:
        """``history | more`` ended with "this is a bug: please report it" when its reader left."""
        unread = OSError(errno.EINVAL, "Invalid argument")
        other = OSError(errno.EINVAL, "Invalid argument")
        other.winerror = 87  # type: ignore[attr-defined,unused-ignore]
        for system, error, is_bug in (
            ("nt", unread, False), ("nt", BrokenPipeError(errno.EPIPE, "Broken pipe"), False), ("posix", unread, True),
            ("nt", other, True), ("nt", OSError(errno.EINVAL, "Invalid argument", "a:b"), True),
        ):  # fmt: skip
            raw = Gone(error)
            out, err = io.TextIOWrapper(io.BufferedWriter(raw)), io.StringIO()
            with on(system, commands, dup2=mock.Mock()) as there, mock.patch.multiple(sys, stdout=out, stderr=err):
                self.assertEqual(commands.main(["version"]), 1)
            self.assertEqual(("this is a bug" in err.getvalue(), there.dup2.called), (is_bug, not is_bug), system)
            raw.write = len  # type: ignore[method-assign,assignment]
            out.detach().detach()
            os.close(raw.number)

    def test_json_is_ascii_where_a_pipes_two_ends_may_differ(self) -> None:
        """Python writes the ANSI code page into a pipe, and PowerShell reads the OEM one out of it."""
        for encoding, text in (("cp1252", r'"\u00e9"'), ("cp437", r'"\u00e9"'), ("utf-8", '"é"'), ("UTF8", '"é"')):
            self.assertEqual(json_text("é", Told(encoding, False)), text)

    def test_every_command_prints_on_every_code_page(self) -> None:
        """A print() of an agent's ended its task as FAILED where a service's output was cp1252."""
        self.write("agent.py", f"""
            from user_agent_sdk import user_agent
            @user_agent(agent_id="tell")
            def tell(logger):
                print({NASTY!r})
                logger.info({NASTY!r})
                return {NASTY!r}
            @user_agent(agent_id="fail")
            def fail():
                raise ValueError({NASTY!r})
            """)  # fmt: skip
        recorder = Recorder(Path("execution_history.db"))
        recorder.start()
        recorder.record(*execution({"key": NASTY}, {"result": NASTY}, logs=[NASTY]))
        recorder.close()
        journal = Journal(Path("journal/one"))
        journal.open()
        journal.write(entry(NASTY))
        journal.close()
        Path(f"{NASTY}.json").write_text("{}", "utf-8")
        with Sandbox() as sandbox:
            Path("credentials.json").write_text(json.dumps(sandbox.credentials("tell")), "utf-8")
            Path("credentials.json").chmod(0o600)
            kept = ("--journal", "journal")
            for encoding, is_terminal in (("cp1252", False), ("cp437", True)):
                for expected, *words in (
                    (0, "-h"), (0, "version"), (2, NASTY), (6, "run", f"{NASTY}.py"),
                    (0, "invoke", "agent.py", "-a", "tell"), (1, "invoke", "agent.py", "-a", "fail", "--json"),
                    (0, "check", "agent.py", "--offline", *kept), (0, "history"), (0, "history", "--json"),
                    (0, "history", "-e", f"{NASTY}.csv"), (0, "history", "--html", "r.html"),
                    (0, "hd", "last"), (0, "history-prune", "--older-than", "9w", "--dry-run"),
                    (0, "journal", *kept), (0, "journal", "show", NASTY, *kept),
                    (2, "submit", "-a", "tell", "-i", f"{{{NASTY}"), (0, "submit", "-a", "tell", "--wait", "0"),
                    (1, "init", NASTY) if Path(NASTY).exists() else (0, "init", NASTY),
                ):  # fmt: skip
                    code, out, err = self.told(encoding, is_terminal, *words)
                    self.assertEqual(code, expected, (encoding, words, out, err))
                    self.assertNotIn("internal", err)
            environ = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUTF8": "0", "LC_ALL": "C"}
            environ["PYTHONIOENCODING"] = "cp1252:strict"
            command = [sys.executable, "-m", "user_agent_sdk", "run", "agent.py", "--max-tasks", "1"]
            ended = subprocess.run(command, env=environ, capture_output=True, timeout=LONG_S)
            self.assertEqual(ended.returncode, 0, ended.stderr)
            self.assertIn(b"\\u0111\\u01a1n \\u2713 \xe9 \\U0001f680", ended.stdout)
            ran = [one for one in executions(sandbox.engine) if one.status == "COMPLETED"]
            self.assertEqual([one.output for one in ran], [{"result": NASTY}])

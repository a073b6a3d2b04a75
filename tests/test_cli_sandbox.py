# SPDX-License-Identifier: Apache-2.0
"""``useragent sandbox``: the platform as a process of its own, and the credentials file that it writes."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import stat
import subprocess
import threading
import unittest
from pathlib import Path
from typing import Any
from unittest import mock

from tests.cli import PYTHON, ROOT, SUM, CliTest
from tests.support import entered
from user_agent_sdk.cli.sandbox import _secret_in, write_credentials
from user_agent_sdk.errors import UserAgentError
from user_agent_sdk.sandbox.server import Sandbox
from user_agent_sdk.worker import signals

STUCK = """
    import threading
    from user_agent_sdk import user_agent
    print("loading")
    @user_agent(agent_id="0000#user-agent")
    def stuck(): print("running"); threading.Event().wait()
    """


class SandboxProcess(CliTest):
    def start(self, *words: str) -> dict[str, Any]:
        """Start it on a free port; its addresses."""
        self.process = subprocess.Popen(
            [*PYTHON, "-m", "user_agent_sdk", "sandbox", "--port", "0", "--json", *words],
            env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUTF8": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self.addCleanup(self.process.communicate)
        self.addCleanup(self.process.kill)
        watchdog = threading.Timer(30, self.process.kill)  # a line that never comes fails the test
        watchdog.start()
        self.addCleanup(watchdog.cancel)
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            self.fail(self.process.communicate()[1].decode())
        addresses: dict[str, Any] = json.loads(line)
        self.port = int(addresses["page"].rpartition(":")[2].strip("/"))
        return addresses

    def stop(self, number: int = signal.SIGTERM) -> tuple[int, str]:
        """The exit code, and what was written to stderr; nothing more came to stdout."""
        self.process.send_signal(number)
        out, err = self.process.communicate(timeout=30)
        self.assertEqual(out, b"")
        return self.process.returncode, err.decode()

    @unittest.skipUnless(os.name == "posix", "Windows knows no such signals")
    def test_workers_run_and_tasks_are_submitted_against_it_by_its_credentials_file_alone(self) -> None:
        self.write("sum_agent.py", SUM)
        told = self.start("--credentials", "credentials.json")
        self.assertEqual(list(told), ["page", "serviceUrl", "authUrl", "agentId", "credentials"])
        self.assertEqual(told["credentials"], str(self.folder / "credentials.json"))
        execution_id = self.run_main("submit", "-i", '{"num1": 2, "num2": 3}', "--wait", "0").out.strip()
        done = self.run_main("run", "sum_agent.py", "--max-tasks", "1", "--drain-timeout", "0", "--no-journal")
        self.assertEqual(done.code, 0, done.err)
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        self.addCleanup(connection.close)
        connection.request("GET", f"/api/sandbox/executions/{execution_id}")
        self.assertEqual(json.loads(connection.getresponse().read())["output"], {"result": 5})
        connection.request("GET", "/")
        self.assertIn(b" run agent.py</code>", connection.getresponse().read())
        code, err = self.stop(signal.SIGINT)
        self.assertEqual(code, 0, err)
        self.assertIn(f"sandbox at http://127.0.0.1:{self.port}", err)
        self.assertIn("run agent.py\n", err)
        self.assertNotIn(json.loads(Path("credentials.json").read_text())["clientSecret"], err)

    @unittest.skipUnless(os.name == "posix", "Windows knows no such signals")
    def test_with_an_agent_it_works_too_and_stops_when_told(self) -> None:
        self.write("sum_agent.py", SUM)
        told = self.start("sum_agent.py", "-w", "2", "-r")
        self.assertEqual((told["agentId"], told["credentials"]), ("sum_agent", None))
        ended = self.run_main("submit", "-a", "sum_agent", "--url", told["page"], "-i", '{"num1": 2, "num2": 3}')
        self.assertEqual((ended.code, ended.out), (0, '{"result": 5}\n'), ended.err)
        code, err = self.stop()
        self.assertEqual(code, 0, err)
        self.assertIn("agent sum_agent, 2 workers", err)
        self.assertTrue(Path("execution_history.db").exists())
        self.assertFalse(Path(".useragent").exists(), "its platform ends with it: there is nothing to keep")

    @unittest.skipUnless(os.name == "posix", "Windows knows no such signals")
    def test_a_second_signal_ends_it_at_once_and_what_the_agent_prints_is_not_the_answer(self) -> None:
        self.write("stuck.py", STUCK)
        told = self.start("stuck.py", "-q")
        self.assertEqual(told["agentId"], "0000#user-agent")
        ended = self.run_main("submit", "-a", told["agentId"], "--url", f"localhost:{self.port}", "--wait", "0")
        self.assertEqual(ended.code, 0, ended.err)
        assert self.process.stderr is not None
        self.assertEqual([self.process.stderr.readline() for _ in range(2)], [b"loading\n", b"running\n"])
        self.process.send_signal(signal.SIGTERM)
        threading.Event().wait(2 * signals.REPEAT_S)
        self.assertEqual(self.stop(signal.SIGINT)[0], 130)

    @unittest.skipUnless(os.name == "posix", "Windows knows no such signals")
    def test_a_signal_that_a_wrapper_sends_twice_ends_it_once(self) -> None:
        """The second one killed it, since its handlers were gone before it was closed: exit code -15, or 130. So did
        one that came right after it had told its address."""
        for _ in range(3):
            self.start()
            self.process.send_signal(signal.SIGTERM)
            self.assertEqual(self.stop(signal.SIGINT)[0], 0)


class Refusals(CliTest):
    def test_a_port_that_is_taken_is_said(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as other:
            ended = self.run_main("sandbox", "--port", str(other.getsockname()[1]), "--credentials", "c.json")
        self.assertEqual((ended.code, ended.out), (1, ""))
        self.assertIn("--port, 0 for any", ended.err)
        self.assertFalse(Path("c.json").exists())

    def test_a_port_that_is_none_is_a_usage_error(self) -> None:
        for port in ("-1", "65536", "http"):
            self.assertEqual(self.run_main("sandbox", f"--port={port}").code, 2, port)

    def test_a_credentials_file_that_is_in_the_way_ends_it(self) -> None:
        self.write("credentials.json", '{"clientId": "ours", "clientSecret": "s"}')
        ended = self.run_main("sandbox", "--port", "0", "--credentials", "credentials.json", "--json")
        self.assertEqual((ended.code, ended.out), (1, ""))
        self.assertEqual(self.error_of(ended)["code"], "exists")
        self.assertEqual(json.loads(Path("credentials.json").read_text())["clientId"], "ours")

    def test_an_agent_that_is_not_there_ends_it(self) -> None:
        self.assertEqual(self.run_main("sandbox", "absent.py", "--port", "0").code, 6)


class CredentialsFile(CliTest):
    """Somebody's only copy of a secret lies under that name, more often than not."""

    def setUp(self) -> None:
        super().setUp()
        self.path = self.folder / "credentials.json"
        sandbox = entered(self, Sandbox(0))
        self.given = sandbox.credentials("ü#user-agent")

    def test_only_its_owner_can_read_it(self) -> None:
        write_credentials(self.path, self.given)
        self.assertEqual(json.loads(self.path.read_text("utf-8")), self.given)
        if os.name == "posix":
            self.assertEqual(stat.S_IMODE(self.path.stat().st_mode), 0o600)
        self.assertEqual([self.path], list(self.folder.iterdir()))

    def test_that_of_an_earlier_sandbox_is_replaced(self) -> None:
        write_credentials(self.path, {**self.given, "clientSecret": "old"})
        self.path.chmod(0o644)
        write_credentials(self.path, self.given)
        self.assertEqual(json.loads(self.path.read_text("utf-8")), self.given)
        if os.name == "posix":
            self.assertEqual(stat.S_IMODE(self.path.stat().st_mode), 0o600)

    def test_the_next_sandbox_keeps_its_secret_so_that_workers_go_on(self) -> None:
        """It made a new one at each start: the worker that had read the old one was refused for ever."""
        write_credentials(self.path, self.given)
        kept = _secret_in(self.path)
        self.assertEqual(kept, self.given["clientSecret"])
        self.assertEqual(Sandbox(0, client_secret=kept)._client_secret, kept)
        self.path.write_text(json.dumps({**self.given, "serviceUrl": "https://external-api.next.akabot.io/api"}))
        self.assertIsNone(_secret_in(self.path))

    def test_any_other_file_is_left_alone(self) -> None:
        real = {**self.given, "serviceUrl": "https://external-api.next.akabot.io/api"}
        for text in ("", "{", "[]", "null", '{"clientId": "sandbox"}', '{"clientId": "sandbox", "serviceUrl": 1}',
                     json.dumps(real), json.dumps({**self.given, "clientId": "me"}), " " * 70000,
                     "[" * 5000):  # fmt: skip
            self.path.write_text(text, "utf-8")
            with self.assertRaises(UserAgentError) as caught:
                write_credentials(self.path, self.given)
            self.assertEqual(caught.exception.code, "exists", text[:40])
            self.assertEqual(self.path.read_text("utf-8"), text)
        self.path.unlink()
        self.path.mkdir()
        with self.assertRaises(UserAgentError):
            write_credentials(self.path, self.given)

    def test_a_file_that_cannot_be_written_is_said_and_nothing_is_left_half_done(self) -> None:
        with self.assertRaises(UserAgentError) as caught:
            write_credentials(self.folder / "absent" / "c.json", self.given)
        self.assertEqual(caught.exception.code, "io")
        ended = self.run_main("sandbox", "--port", "0", "--credentials", "x" * 300)
        self.assertEqual((ended.code, "error[io]" in ended.err), (1, True), ended.err)  # "this is a bug"
        with mock.patch("os.replace", side_effect=PermissionError(13, "in use")), self.assertRaises(UserAgentError):
            write_credentials(self.path, self.given)
        self.assertEqual(list(self.folder.iterdir()), [])

    @unittest.skipUnless(hasattr(os, "symlink") and os.name == "posix", "needs symbolic links")
    def test_what_a_link_points_at_is_never_written(self) -> None:
        target = self.write("elsewhere.json", json.dumps(self.given))
        self.path.symlink_to(target)
        write_credentials(self.path, {**self.given, "clientSecret": "new"})
        self.assertEqual(json.loads(target.read_text("utf-8")), self.given)
        self.assertFalse(self.path.is_symlink())


if __name__ == "__main__":
    unittest.main()

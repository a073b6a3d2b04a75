# SPDX-License-Identifier: Apache-2.0
"""``useragent check``: finds what is wrong, says how to mend it, takes no task and tells no secret."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import socket
import ssl
import sys
import time
import unittest
from email.utils import formatdate
from pathlib import Path
from typing import Any
from unittest import mock

from tests.cli import SUM, CliTest, Ended
from tests.support import Request, Server, answering
from user_agent_sdk.cli import check
from user_agent_sdk.conductor.wire import encode
from user_agent_sdk.sandbox.server import Sandbox
from user_agent_sdk.worker.keeping import journal_file
from user_agent_sdk.worker.keeping.journal import Journal
from user_agent_sdk.worker.keeping.journal_file import Entry

AGENT_ID = "0000#user-agent"
DATA = Path(__file__).parent / "data"
SECRETS = {"clientSecret": "s3cr3t/of us", "proxy": "http://clerk:pr0xy-w0rd@proxy.invalid:3128"}


class CheckTest(CliTest):
    def setUp(self) -> None:
        super().setUp()
        self.write("agent.py", SUM)
        self.requests: list[Request] = []
        self.date: str | None = formatdate(usegmt=True)
        self.token: Any = {"access_token": "t0ken-of-the-platform", "expires_in": 60}
        self.base: Any = (404, b'{"message": "No static resource"}')

    def platform(self, certificate: str = "") -> Server:
        tls = None
        if certificate:
            tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            tls.load_cert_chain(DATA / f"{certificate}.pem")
        server = Server(answering(self.answer), tls)
        self.addCleanup(server.close)
        self.give(serviceUrl=f"{server.url}/api", authUrl=f"{server.url}/token")
        return server

    def answer(self, request: Request) -> Any:
        self.requests.append(request)
        if request.target == "/token":
            given = self.token if isinstance(self.token, tuple) else (200, encode(self.token))
        else:
            given = self.base
        head = [f"Date: {self.date}"] if self.date else []
        return (*given[:2], "\r\n".join([*given[2:], *head]))

    def give(self, **changed: str) -> None:
        keys = {"clientId": "the-client", "agentId": AGENT_ID, **SECRETS, "proxy": "", **changed}
        self.write("credentials.json", json.dumps({key: value for key, value in keys.items() if value})).chmod(0o600)

    def check(self, *words: str) -> Ended:
        """Run it with --json; ``rows`` are its findings."""
        ended = self.run_main("check", *words, "--json")
        document = json.loads(ended.out)
        self.assertEqual((document["exit_code"], document["ok"]), (ended.code, ended.code == 0))
        self.rows = document["checks"]
        for row in self.rows:
            self.assertEqual(list(row), ["status", "check", "message", "fix", "code"])
            self.assertIn(row["status"], ("ok", "warn", "FAIL"))
            self.assertEqual((bool(row["fix"]), bool(row["code"])), (row["status"] != "ok", row["status"] == "FAIL"))
        for secret in (*SECRETS.values(), "s3cr3t%2Fof", "pr0xy-w0rd", "t0ken-of-the-platform"):
            self.assertNotIn(secret, ended.out + ended.err)
        return ended

    def found(self, status: str, name: str) -> str:
        """The messages and fixes of all findings of a kind."""
        return "\n".join(f"{row['message']} -> {row['fix']}" for row in self.rows if row["status"] == status
                         and row["check"] == name)  # fmt: skip

    def failed(self) -> list[tuple[str, str]]:
        return [(row["check"], row["code"]) for row in self.rows if row["status"] == "FAIL"]

    def test_when_all_is_well_every_line_says_so(self) -> None:
        self.platform()
        ended = self.check("agent.py")
        self.assertEqual(ended.code, 0, self.rows)
        # The SDK may be installed where these tests run.
        statuses = {row["status"] for row in self.rows if "second copy" not in row["message"]}
        self.assertEqual(statuses, {"ok"}, self.rows)
        names = [row["check"] for row in self.rows]
        for name in ("Python", "SDK", "credentials", "agent", "journal", "proxy", "token", "platform", "clock"):
            self.assertIn(name, names)
        self.assertIn("input_data, logger", self.found("ok", "agent"))
        self.assertIn(f"id {AGENT_ID}", self.found("ok", "agent"))
        settings = self.found("ok", "setting")
        self.assertIn(f"agentId = {AGENT_ID} (from agentId in {self.folder / 'credentials.json'})", settings)
        self.assertIn("clientSecret is set (from ", settings)
        left = {*os.listdir()} - {"__pycache__"}  # that is of Python itself
        self.assertEqual(left, {"agent.py", "credentials.json"})  # a check leaves nothing behind

    def test_the_answer_is_on_stdout_whatever_the_script_prints(self) -> None:
        """Captured apart from stderr: the answer once went to where a print() of the agent's is sent meanwhile."""
        self.platform()
        script = "import user_agent_sdk as sdk\nprint('of the agent')\nsdk.user_agent(agent_id='a')(dir)\n"
        self.write("agent.py", script)
        ended = self.run_process("-m", "user_agent_sdk", "check", "agent.py", "--json", "--offline")
        self.assertIn("checks", json.loads(ended.out))
        self.assertIn("of the agent", ended.err)

    def test_it_never_polls(self) -> None:
        """A poll takes a real task, which nobody would then run."""
        self.platform()
        self.check("agent.py")
        self.assertEqual([(request.method, request.target) for request in self.requests],
                         [("POST", "/token"), ("GET", "/api")])  # fmt: skip
        with Sandbox() as sandbox:
            self.write("credentials.json", json.dumps(sandbox.credentials(AGENT_ID)))
            execution = sandbox.submit(AGENT_ID, {})
            self.assertEqual(self.check("agent.py").code, 0, self.rows)
            self.assertEqual([known["polled_ms"] for known in sandbox.engine.agents() if known.get("polled_ms")], [])
            self.assertEqual(sandbox.wait(execution, 0).attempts[0].poll_count, 0)

    def test_offline_asks_nobody(self) -> None:
        self.platform()
        self.assertEqual(self.check("agent.py", "--offline").code, 0)
        self.assertEqual(self.requests, [])
        self.assertFalse({"token", "platform", "clock"} & {row["check"] for row in self.rows})

    def test_a_pipe_gets_a_tab_separated_table_and_a_terminal_columns(self) -> None:
        self.give()
        lines = self.run_main("check", "--offline").out.splitlines()
        self.assertEqual(lines[0].split("\t"), ["status", "check", "message", "fix", "code"])
        self.assertEqual({line.count("\t") for line in lines}, {4})
        screen = io.StringIO()
        screen.isatty = lambda: True  # type: ignore[method-assign]
        rows = [check.Row("FAIL", "token", "word " * 20, "yes", "auth-refused"), check.Row("ok", "SDK", "1")]
        with contextlib.redirect_stdout(screen), mock.patch.dict(os.environ, {"COLUMNS": "80"}):
            check._print(rows, True)
        self.assertEqual(screen.getvalue().splitlines(), [
            "\x1b[31mFAIL\x1b[0m  token  " + "word " * 12 + "word",
            " " * 13 + "word " * 6 + "word", " " * 13 + "fix: yes",
            "\x1b[32mok  \x1b[0m  SDK    1",
            "\x1b[31m1 thing to mend before a worker can start\x1b[0m"])  # fmt: skip
        with contextlib.redirect_stdout(screen), mock.patch.dict(os.environ, {"COLUMNS": "80"}):
            check._print(rows[1:], False)
        self.assertTrue(screen.getvalue().endswith("\nnothing keeps a worker from starting\n"))

    def test_what_is_wrong_with_the_settings(self) -> None:
        self.assertEqual(self.check().code, 3)
        self.assertEqual(self.failed(), [("configuration", "config-missing")])
        self.assertIn("Workflow Builder", self.found("FAIL", "configuration"))
        self.give(servceUrl="x")
        self.assertEqual(self.check("--offline").code, 0)
        self.assertIn("'servceUrl' -> did you mean 'serviceUrl'?", self.found("warn", "configuration"))
        self.give(caFile=str(DATA / "make.sh"), serviceUrl="https://127.0.0.1:1/api")
        self.assertEqual(self.check("--offline").code, 3)
        self.assertIn("caFile", self.found("FAIL", "connection"))
        self.assertIn("PEM", self.found("FAIL", "connection"))

    def test_environment_and_flags_are_named_as_sources(self) -> None:
        self.give()
        with mock.patch.dict(os.environ, {"USERAGENT_WORKERS": "3"}):
            self.check("--offline", "-a", "flagged")
        self.assertIn("agentId = flagged (from --agent-id)", self.found("ok", "setting"))
        self.assertIn("workers = 3 (from environment variable USERAGENT_WORKERS)", self.found("ok", "setting"))

    def test_the_proxy_is_shown_without_its_password(self) -> None:
        self.give(proxy=SECRETS["proxy"])
        self.assertEqual(self.check("--offline").code, 0)
        self.assertIn("through the proxy proxy.invalid:3128", self.found("ok", "proxy"))
        self.assertIn("proxy = proxy.invalid:3128", self.found("ok", "setting"))

    @unittest.skipUnless(os.name == "posix", "file modes of POSIX")
    def test_files_that_others_may_read(self) -> None:
        self.give(clientCert=str(DATA / "client.pem"), clientKey=str(self.write("key.pem", "x")))
        for path in ("credentials.json", "key.pem"):
            Path(path).chmod(0o644)
        self.check("--offline")
        self.assertIn(f"-> chmod 600 {self.folder / 'key.pem'}", self.found("warn", "file mode"))
        self.assertIn(f"-> chmod 600 {self.folder / 'credentials.json'}", self.found("warn", "configuration"))
        Path("key.pem").chmod(0o600)
        self.check("--offline")
        self.assertIn("key.pem: 600", self.found("ok", "file mode"))

    def test_an_agent_that_cannot_be_used(self) -> None:
        self.give()
        for text, code, word in (
            ("1/0", "agent-load", "ZeroDivisionError"),
            ("x = 1", "no-agent", "@user_agent()"),
            (SUM.replace("return", "yield"), "agent-signature", "yield"),
            (SUM.replace("agent()", "agent(timeout_s=0)"), "config-invalid", "timeout_s"),
        ):
            self.write("agent.py", text)
            self.assertEqual(self.check("agent.py", "--offline").code, 3 if code == "config-invalid" else 6)
            self.assertEqual(self.failed(), [("agent", code)])
            self.assertIn(word, self.found("FAIL", "agent"))
        self.assertEqual(self.check("absent.py", "--offline").code, 6)

    def test_an_agent_is_looked_at_though_the_settings_are_missing(self) -> None:
        self.write("agent.py", SUM + "    print('loading')\n")
        ended = self.check("agent.py")
        self.assertEqual(self.failed(), [("configuration", "config-missing")])
        self.assertIn("sum_agent", self.found("ok", "agent"))
        self.assertNotIn("loading", ended.out)

    def test_a_second_copy_of_the_sdk(self) -> None:
        """Two copies, two registries: the decorator of one is not seen by the command of the other."""
        self.give()
        for folder in ("site", "vendor"):
            (self.folder / folder / "user_agent_sdk").mkdir(parents=True)
        self.write("site/user_agent_sdk/__init__.py", "")  # the other folder is no package
        with mock.patch.object(sys, "path", [*sys.path, "site", "vendor"]):
            self.assertEqual(self.check("--offline").code, 0)
        copies = self.found("warn", "SDK")
        self.assertNotIn(str(self.folder / "vendor"), copies)
        self.assertIn(str(self.folder / "site" / "user_agent_sdk"), copies)
        self.assertIn("pip uninstall", copies)

    def test_a_python_without_its_libraries(self) -> None:
        self.give()
        with mock.patch.dict(sys.modules, {"ssl": None}):
            self.assertEqual(self.check("--offline").code, 3)
        self.assertIn("it lacks ssl", self.found("FAIL", "Python"))

    def test_credentials_that_are_refused(self) -> None:
        self.platform()
        self.token = (401, b'{"error": "unauthorized_client"}')
        self.assertEqual(self.check().code, 4)
        self.assertEqual(self.failed(), [("token", "auth-refused")])
        self.assertIn("clientSecret", self.found("FAIL", "token"))

    def test_a_token_that_the_service_refuses(self) -> None:
        self.platform()
        self.base = (401, b'{"error": "INVALID_TOKEN"}')
        self.assertEqual(self.check().code, 4)
        self.assertIn("of the same platform", self.found("FAIL", "platform"))

    def test_a_platform_that_cannot_be_reached(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as nobody:
            port = nobody.getsockname()[1]
        self.give(serviceUrl=f"http://127.0.0.1:{port}/api", authUrl=f"http://127.0.0.1:{port}/token")
        self.assertEqual(self.check().code, 5)
        self.assertEqual(self.failed(), [("token", "platform-unreachable"), ("platform", "platform-unreachable")])
        self.assertIn("firewall", self.found("FAIL", "platform"))

    def test_somebody_else_answers(self) -> None:
        self.platform()
        for base, status, word in (((302, b"", "Location: /login"), "FAIL", "redirects"), ((503, b""), "FAIL", "wait"),
                                   ((200, b"<html>", "Content-Type: text/html"), "warn", "portal")):  # fmt: skip
            self.base = base
            self.assertEqual(self.check().code, 5 if status == "FAIL" else 0)
            self.assertIn(word, self.found(status, "platform"))
        self.token = (200, b"<html>")
        self.assertEqual(self.check().code, 5)
        self.assertIn("authUrl", self.found("FAIL", "token"))

    def test_certificates(self) -> None:
        self.platform("server")
        self.assertEqual(self.check().code, 5)
        self.assertEqual({code for _, code in self.failed()}, {"tls-untrusted"})
        self.assertIn("caFile", self.found("FAIL", "token"))
        server = self.platform("server")
        trusted = {"caFile": str(DATA / "ca.pem")}
        self.give(serviceUrl=f"{server.url}/api", authUrl=f"{server.url}/token", **trusted)
        self.assertEqual(self.check().code, 0, self.rows)
        self.assertIn("ca.pem alone", self.found("ok", "TLS"))
        server = self.platform("expired")
        self.give(serviceUrl=f"{server.url}/api", authUrl=f"{server.url}/token", **trusted)
        self.assertEqual(self.check().code, 5)
        self.assertIn("the clock of this machine is wrong: it shows", self.found("FAIL", "token"))

    def test_a_clock_that_is_wrong(self) -> None:
        self.platform()
        self.date = "Thu, 01 Jan 2026 00:00:00 GMT"
        with mock.patch.object(time, "time", return_value=1767225600.0 + 300):
            self.assertEqual(self.check().code, 0)
        self.assertIn("300 s ahead of the platform's -> ", self.found("warn", "clock"))
        for date in ("nonsense", None):
            self.date = date
            self.check()
            self.assertNotIn("clock", [row["check"] for row in self.rows])

    def test_what_lies_in_the_journal(self) -> None:
        self.platform()
        self.check()
        [address] = [row["message"] for row in self.rows if "serviceUrl" in row["message"]]
        url = address.split()[2]
        root = self.folder / ".useragent" / "journal"
        states = [journal_file.RESULT, journal_file.TAKEN, journal_file.REJECTED]
        for folder in (journal_file.folder_of(root, "akabot", url, "the-client"), root / "0123456789ab"):
            folder.mkdir(parents=True)
            journal = Journal(folder)
            journal.open()
            done = ("COMPLETED", b'{"status":"COMPLETED"}')
            for row, state in enumerate(states):
                journal.write(Entry(state, f"t{row}", "w", "a", "me", *done))
            self.check()
            self.assertIn(f"{folder / '1.log'} is in use by a running worker", self.found("ok", "journal"))
            journal.close()
        (root / "0123456789ab" / "2.log").mkdir()
        self.assertEqual(self.check().code, 0)
        found = self.found("warn", "journal")
        self.assertIn("2 results or started tasks: undelivered -> start the worker", found)
        self.assertIn("2 results or started tasks: of another platform or client -> start a worker", found)
        self.assertIn("2 results or started tasks: refused for good -> see them: useragent journal", found)
        self.assertIn("2.log can't be read", found)
        self.check("--no-journal")
        self.assertIn("memory only", self.found("warn", "journal"))

    def test_a_journal_that_cannot_be_written(self) -> None:
        self.give()
        self.write("file", "")
        self.assertEqual(self.check("--offline", "--journal", "file/journal").code, 3)
        self.assertIn("--journal DIR", self.found("FAIL", "journal"))
        with mock.patch.object(shutil, "disk_usage", return_value=mock.Mock(free=5 << 20)):
            self.check("--offline")
        self.assertIn("only 5 MB are free", self.found("warn", "journal"))


if __name__ == "__main__":
    unittest.main()

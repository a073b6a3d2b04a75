# SPDX-License-Identifier: Apache-2.0
"""Secrets and certificates change while a worker runs. It used the old ones until somebody restarted it, while
``/healthz`` stayed green and ``check``, a new process, said that all was well."""

from __future__ import annotations

import json
import os
import shutil
import ssl
import sys
import tempfile
import unittest
from pathlib import Path
from typing import Any
from unittest import mock
from urllib.parse import parse_qs

from tests.support import FakeClock, Request, Server, answering
from user_agent_sdk import settings
from user_agent_sdk.conductor.renewal import LOOK_S, Files, Secret, Trust
from user_agent_sdk.conductor.transport import Transport, TransportError
from user_agent_sdk.errors import AuthRefusedError, ConfigError
from user_agent_sdk.worker.connect import connect

DATA = Path(__file__).parent / "data"


class RenewalTest(unittest.TestCase):
    def setUp(self) -> None:
        holder = tempfile.TemporaryDirectory()
        self.addCleanup(holder.cleanup)
        self.folder = Path(holder.name)
        self.clock = FakeClock()

    def write(self, name: str, text: str) -> Path:
        """As deployments do: a new file takes the old one's name."""
        path, made = self.folder / name, self.folder / "made"
        made.write_text(text)
        made.chmod(0o600)
        os.replace(made, path)
        return path

    def serve(self, answer: Any, tls: Any = None) -> Server:
        server = Server(answering(answer), tls)
        self.addCleanup(server.close)
        return server


class FilesTest(RenewalTest):
    def test_a_change_is_told_once_and_looked_for_once_a_minute(self) -> None:
        path = self.write("a", "1")
        files = Files(path, None, clock=self.clock)
        self.write("a", "2")
        self.assertFalse(files.are_replaced(False))
        self.clock.advance(LOOK_S)
        self.assertEqual([files.are_replaced(False), files.are_replaced(True)], [True, False])
        self.write("a", "3")
        self.assertEqual([files.are_replaced(True), files.are_replaced(True)], [True, False])

    def test_a_file_that_is_away_for_a_while_has_changed_when_it_is_back(self) -> None:
        path = self.write("a", "1")
        files = Files(path, clock=self.clock)
        path.unlink()
        self.assertTrue(files.are_replaced(True))
        self.write("a", "1")
        self.assertTrue(files.are_replaced(True))

    @unittest.skipIf(sys.platform == "win32", "symlinks take a privilege there")
    def test_a_link_that_leads_elsewhere_is_a_change(self) -> None:
        """Kubernetes renews a mounted secret by changing one link, ..data."""
        for name in ("one", "two"):
            (self.folder / name).mkdir()
            self.write(f"{name}/key", "same")
        (self.folder / "data").symlink_to("one")
        files = Files(self.folder / "data" / "key", clock=self.clock)
        (self.folder / "data").unlink()
        (self.folder / "data").symlink_to("two")
        self.assertTrue(files.are_replaced(True))


class SecretTest(RenewalTest):
    def setUp(self) -> None:
        super().setUp()
        self.wanted = "the first secret"
        self.server = self.serve(self.answer)

    def answer(self, request: Request) -> Any:
        sent = parse_qs(request.body.decode()).get("client_secret", [""])[0]
        if sent != self.wanted:
            return 401, b'{"error": "unauthorized_client"}'
        return b'{"access_token": "abc", "expires_in": 300}'

    def credentials(self, secret: str, client: str = "me", **more: str) -> None:
        keys = {"clientId": client, "serviceUrl": f"{self.server.url}/api", "authUrl": self.server.url, **more}
        self.write("credentials.json", json.dumps({**keys, **({"clientSecret": secret} if secret else {})}))

    def source(self) -> Any:
        found = settings.load({"config_file": str(self.folder / "credentials.json")}, environ={})
        transport, client = connect(found)
        self.addCleanup(transport.close)
        return client.auth

    def test_a_secret_that_was_replaced_after_a_refusal_is_used_without_a_restart(self) -> None:
        self.credentials("the first secret")
        source = self.source()
        self.wanted = "the second secret"
        self.assertRaises(AuthRefusedError, source.headers)
        self.credentials("the second secret")
        source._retry_at = float("inf")  # revoked long ago: it is in its longest pause
        at_once = mock.patch("user_agent_sdk.conductor.renewal.LOOK_S", 0.0)
        with at_once, self.assertLogs("user_agent_sdk", "INFO") as said:
            self.assertEqual(source.headers(), {"Authorization": "Bearer abc"})
        self.assertIn("The client's secret was read again", said.output[0])
        self.assertNotIn("second", "".join(said.output))

    def test_one_in_a_file_of_its_own_too_before_the_old_one_is_refused(self) -> None:
        self.write("secret", "the first secret\n")
        self.credentials("", clientSecretFile="secret")
        source = self.source()
        self.write("secret", "the second secret\n")
        self.wanted = "the second secret"
        self.assertEqual(source.headers(), {"Authorization": "Bearer abc"})
        self.assertEqual(len(self.server.requests), 1)

    def test_it_is_read_from_where_it_was_found_whatever_the_script_did_since(self) -> None:
        """A task worked in a folder of its own, os.chdir(), or a script's .env set a variable: each file was looked for
        from there with those, and the old secret was used until somebody restarted the worker."""
        self.addCleanup(os.chdir, os.getcwd())
        (self.folder / "elsewhere").mkdir()
        for flags, variables in (
            ({}, {}),
            ({"config_file": "credentials.json"}, {}),
            ({}, {"USERAGENT_CLIENT_SECRET_FILE": "secret"}),
        ):
            with self.subTest(flags=flags, variables=variables):
                os.chdir(self.folder)
                self.credentials("the first secret")
                self.write("secret", "the first secret")
                environ = dict(variables)
                transport, client = connect(settings.load(flags, environ=environ))
                self.addCleanup(transport.close)
                assert client.auth is not None
                os.chdir(self.folder / "elsewhere")
                environ.update(USERAGENT_CLIENT_ID="of the .env", USERAGENT_WORKERS="many")
                self.credentials("the second secret")
                self.write("secret", "the second secret")
                self.wanted = "the second secret"
                self.assertEqual(client.auth.headers(), {"Authorization": "Bearer abc"})

    def test_a_file_that_is_half_written_or_of_another_client_leaves_the_old_secret_in_use(self) -> None:
        self.credentials("the first secret")
        for change in (lambda: self.write("credentials.json", '{"clientId'), lambda: self.credentials("x", "another")):
            source = self.source()
            change()
            with self.assertLogs("user_agent_sdk", "WARNING") as said:
                self.assertEqual(source.headers(), {"Authorization": "Bearer abc"})
            self.assertIn("the old one is used", said.output[0])
            self.credentials("the first secret")

    def test_a_file_that_is_away_leaves_the_old_secret_in_use(self) -> None:
        path = self.write("secret", "the first secret")
        given = {"USERAGENT_CLIENT_SECRET_FILE": str(path), "USERAGENT_CLIENT_ID": "me"}
        self.credentials("")
        _, client = connect(settings.load({"config_file": str(self.folder / "credentials.json")}, environ=given))
        path.unlink()
        assert client.auth is not None
        with self.assertLogs("user_agent_sdk", "WARNING"):
            self.assertEqual(client.auth.headers(), {"Authorization": "Bearer abc"})

    def test_a_sandbox_never_gets_the_secret_of_the_platform(self) -> None:
        path = self.write("secret", "of the platform")
        names = {"USERAGENT_CLIENT_SECRET_FILE": str(path), "USERAGENT_CLIENT_ID": "me"}
        given = {"serviceUrl": f"{self.server.url}/api", "authUrl": self.server.url, "clientId": "me"}
        found = settings.load({}, environ=names, target=False).on_sandbox({**given, "clientSecret": self.wanted})
        transport, client = connect(found)
        self.addCleanup(transport.close)
        self.write("secret", "of the platform, renewed")
        assert client.auth is not None
        self.assertEqual(client.auth.headers(), {"Authorization": "Bearer abc"})

    def test_what_is_read_again_is_never_shown(self) -> None:
        found = settings.load({"config_file": None}, environ={"USERAGENT_CLIENT_SECRET": "hush-hush", "PASSWORD": "x"},
                              target=False)  # fmt: skip
        self.assertNotIn("hush", repr(found))
        self.assertNotIn("PASSWORD", repr(found))
        self.assertNotIn("hush", repr(Secret("hush-hush")))

    def test_one_that_can_not_be_read_yet_is_read_again_though_nothing_of_the_file_changes(self) -> None:
        """Root put the new file there and gave it to the worker's user a second later. The worker had come between, and
        used the old secret until somebody restarted it: the file's inode, size and time stayed the same."""
        read = mock.Mock(side_effect=[ConfigError("Permission denied"), "2"])
        secret = Secret("1", Files(self.write("secret", "1"), clock=self.clock), read)
        self.write("secret", "2")
        with self.assertLogs("user_agent_sdk", "WARNING"):
            self.assertFalse(secret.is_renewed(at_once=True))
        self.assertTrue(secret.is_renewed(at_once=True))
        self.assertEqual((secret.value, secret.is_renewed(at_once=True)), ("2", False))


class TrustTest(RenewalTest):
    def transport(self, **files: Path) -> Transport:
        transport = Transport(**files)
        self.addCleanup(transport.close)
        return transport

    def tls(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(DATA / "server.pem")
        return context

    def send(self, transport: Transport, server: Server) -> bytes:
        return transport.send("GET", server.url + "/", headers={}, timeout_s=10).fetch().body

    def test_after_a_tls_failure_a_replaced_ca_file_is_read_again(self) -> None:
        server = self.serve(lambda request: b"in", self.tls())
        ca_file = self.write("ca.pem", (DATA / "client.pem").read_text())
        transport = self.transport(ca_file=ca_file)
        self.assertRaises(TransportError, self.send, transport, server)
        self.assertRaises(TransportError, self.send, transport, server)
        shutil.copy(DATA / "ca.pem", ca_file)
        with self.assertLogs("user_agent_sdk.conductor.renewal", "INFO") as said:
            self.assertEqual(self.send(transport, server), b"in")
        self.assertIn("Certificates were read again", said.output[0])

    def test_authorities_that_the_environment_names_are_read_again_too(self) -> None:
        """A company renewed the authority of its proxy in the file that all programs read: the workers were cut off
        until somebody restarted them."""
        server = self.serve(lambda request: b"in", self.tls())
        none = {"SSL_CERT_FILE": "", "REQUESTS_CA_BUNDLE": "", "CURL_CA_BUNDLE": ""}
        for name in none:
            ca_file = self.write("ca.pem", (DATA / "client.pem").read_text())
            with self.subTest(name), mock.patch.dict(os.environ, {**none, name: str(ca_file)}):
                transport = self.transport()
                self.assertRaises(TransportError, self.send, transport, server)
                shutil.copy(DATA / "ca.pem", ca_file)
                with self.assertLogs("user_agent_sdk.conductor.renewal", "INFO"):
                    self.assertEqual(self.send(transport, server), b"in")

    def test_authorities_of_the_environment_that_are_away_leave_the_old_ones_in_use(self) -> None:
        """A look that met a file half-written, or a script's os.chdir() before a relative name, went on with no
        authority at all, or with the system's in place of the company's one."""
        self.addCleanup(os.chdir, os.getcwd())
        none = {"SSL_CERT_FILE": "", "REQUESTS_CA_BUNDLE": "", "CURL_CA_BUNDLE": ""}
        for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"):
            os.chdir(self.folder)
            shutil.copy(DATA / "ca.pem", "ca.pem")
            with self.subTest(name), mock.patch.dict(os.environ, {**none, name: "ca.pem"}):
                trust = Trust(None, None, None)
                first = trust.context()
                self.write("ca.pem", "half of")
                os.chdir(DATA)
                with self.assertLogs("user_agent_sdk.conductor.renewal", "WARNING") as said:
                    for _ in range(3):
                        trust.doubt()
                        self.assertIs(trust.context(), first)
                self.assertEqual(len(said.output), 1, "it is said once")
                (self.folder / "ca.pem").unlink()
                trust.doubt()
                self.assertIs(trust.context(), first)
                shutil.copy(DATA / "ca.pem", self.folder / "ca.pem")
                trust.doubt()
                self.assertIsNot(trust.context(), first)

    def test_without_a_failure_files_are_looked_at_once_a_minute(self) -> None:
        path = self.write("client.pem", (DATA / "client.pem").read_text())
        trust = Trust(DATA / "ca.pem", path, None)
        trust._files._clock = self.clock
        trust._files._looked_at = self.clock()
        first = trust.context()
        self.write("client.pem", (DATA / "client.pem").read_text() + "\n")
        self.assertIs(trust.context(), first)
        self.clock.advance(LOOK_S)
        with self.assertLogs("user_agent_sdk.conductor.renewal", "INFO"):
            self.assertIsNot(trust.context(), first)

    def test_files_that_are_no_good_any_more_leave_the_old_ones_in_use(self) -> None:
        ca_file = self.write("ca.pem", (DATA / "ca.pem").read_text())
        trust = Trust(ca_file, None, None)
        first = trust.context()
        self.write("ca.pem", "half of")
        trust.doubt()
        with self.assertLogs("user_agent_sdk.conductor.renewal", "WARNING") as said:
            self.assertIs(trust.context(), first)
        self.assertIn("the old certificates are used", said.output[0])
        self.assertRaises(ConfigError, Trust(ca_file, None, None).context)

    def test_files_that_were_no_good_are_read_again_though_they_look_the_same(self) -> None:
        good = (DATA / "ca.pem").read_text()
        ca_file = self.write("ca.pem", good)
        trust = Trust(ca_file, None, None)
        first = trust.context()
        self.write("ca.pem", "x" * len(good))
        found = os.stat(ca_file)
        trust.doubt()
        with self.assertLogs("user_agent_sdk.conductor.renewal", "WARNING"):
            self.assertIs(trust.context(), first)
        ca_file.write_text(good)
        os.utime(ca_file, ns=(found.st_atime_ns, found.st_mtime_ns))
        trust.doubt()
        with self.assertLogs("user_agent_sdk.conductor.renewal", "INFO"):
            self.assertIsNot(trust.context(), first)

    def test_no_file_gets_the_keys_of_our_sessions(self) -> None:
        """SSLKEYLOGFILE, which ssl.create_default_context() heeds: whoever reads that file reads all that we sent."""
        server, keys = self.serve(lambda request: b"in", self.tls()), self.folder / "keys"
        with mock.patch.dict(os.environ, {"SSLKEYLOGFILE": str(keys)}):
            self.assertEqual(self.send(self.transport(ca_file=DATA / "ca.pem"), server), b"in")
        self.assertFalse(keys.exists())


if __name__ == "__main__":
    unittest.main()

# SPDX-License-Identifier: Apache-2.0
"""A worker in a company's network: real squid, real nginx, certificates of every kind, names that only the proxy knows.

But for the last test the platform behind them is the sandbox; all is run as operators run it, by ``useragent``.
"""

from __future__ import annotations

import json
import os
import ssl
import subprocess
import sys
import unittest
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock
from urllib.parse import quote, urlsplit

from user_agent_sdk.sandbox.server import Sandbox

from . import WANTED
from .networks import NAME, PASSWORD, USER, Networks
from .stack import wait_until
from .test_agents import SUM, RealAgentTestCase
from .worker import ROOT, Worker

AGENT = "00000000-0000-0000-0000-000000000001#user-agent"
PATIENCE_S = 60.0
OF_NETWORKS = ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "ssl_cert_file", "ssl_cert_dir")
IS_STRICT = bool(ssl.create_default_context().verify_flags & ssl.VERIFY_X509_STRICT)  # Python 3.13 and later

Row = dict[str, Any]


@contextmanager
def environment(**added: str) -> Iterator[None]:
    """Ours, without what it says of proxies and authorities, and with what is ``added``."""
    clean = {
        key: value
        for key, value in os.environ.items()
        if key.lower() not in OF_NETWORKS and not key.startswith(("USERAGENT_", "CONDUCTOR_"))
    }
    with mock.patch.dict("os.environ", {**clean, "PYTHONPATH": str(ROOT), **added}, clear=True):
        yield


def secured(credentials: dict[str, str], url: str, **keys: str) -> dict[str, str]:
    """The same platform by another address."""
    moved = {key: url + urlsplit(credentials[key]).path for key in ("serviceUrl", "authUrl")}
    return {**credentials, **moved, **keys}


@unittest.skipUnless(WANTED, "squid and nginx run only with USERAGENT_REAL=1")
class NetworkTestCase(unittest.TestCase):
    sandbox: Sandbox
    networks: Networks
    ca: str

    @classmethod
    def setUpClass(cls) -> None:
        cls.sandbox = Sandbox().__enter__()
        cls.addClassCleanup(cls.sandbox.close)
        cls.networks = Networks(cls.sandbox.port)
        cls.networks.start()
        cls.addClassCleanup(cls.networks.stop)
        cls.ca = cls.networks.file("ca")

    def setUp(self) -> None:
        self.networks.forget()

    def credentials(self, site: str, host: str = "127.0.0.1", **keys: str) -> dict[str, str]:
        return secured(self.sandbox.credentials(AGENT), self.networks.url(site, host), **{"caFile": self.ca, **keys})

    def worker(self, credentials: dict[str, str], *options: str) -> Worker:
        return Worker(SUM, credentials, *options)

    def check(self, credentials: dict[str, str], *options: str, **environ: str) -> tuple[int, list[Row], str]:
        """``useragent check``: its exit code, its findings, and all that it printed."""
        worker = self.worker(credentials)
        self.addCleanup(worker.__exit__)
        with environment(**environ):
            done = subprocess.run(
                [sys.executable, "-m", "user_agent_sdk", "check", str(worker.script), "--json", *options],
                cwd=worker.folder,
                capture_output=True,
                text=True,
                encoding="utf-8",
                timeout=PATIENCE_S,
            )
        self.assertNotIn("Traceback", done.stderr)
        document = json.loads(done.stdout)
        return done.returncode, document["checks"], done.stdout + done.stderr

    def completes(self, credentials: dict[str, str], tasks: int = 3, **environ: str) -> list[str]:
        """A worker completes ``tasks`` by these credentials; its log."""
        ids = [self.sandbox.submit(AGENT, {"num1": number, "num2": 1}) for number in range(tasks)]
        worker = self.worker(credentials)
        with environment(**environ), worker:
            done = [self.sandbox.wait(execution_id, PATIENCE_S) for execution_id in ids]
            self.assertEqual(worker.stop(), 0, worker.log)
        self.assertEqual([one.output for one in done], [{"result": number + 1} for number in range(tasks)], worker.log)
        return worker.log

    def says(self, credentials: dict[str, str], *words: str, then: str = "", **environ: str) -> None:
        """A worker's log has a line with all ``words``; it is stopped when there is one with ``then`` too."""
        worker = self.worker(credentials)

        def has_said() -> bool:
            lines = list(worker.log)
            return any(all(word in line for word in words) for line in lines) and any(then in line for line in lines)

        with environment(**environ), worker:
            said = wait_until(has_said, PATIENCE_S)
            self.assertEqual(worker.stop(), 0, worker.log)
        self.assertTrue(said, (words, worker.log))
        self.assertNotIn("Traceback", "\n".join(worker.log))

    def assert_failed(self, found: tuple[int, list[Row], str], code: str, message: str, fix: str) -> None:
        status, rows, _ = found
        failed = [row for row in rows if row["status"] == "FAIL"]
        self.assertEqual(status, 5, rows)
        self.assertEqual({row["code"] for row in failed}, {code}, rows)
        for row in failed:
            self.assertRegex(row["message"], message)
            self.assertIn(fix, row["fix"])


class Proxies(NetworkTestCase):
    def locked(self, password: str = PASSWORD) -> str:
        return self.networks.locked_proxy.replace("//", f"//{USER}:{quote(password, safe='')}@")

    def tunnels(self) -> list[tuple[str, str, str]]:
        port = urlsplit(self.networks.url("company")).port
        passed = [one for one in self.networks.passed() if one.method == "CONNECT"]
        self.assertEqual({one.target for one in passed} - {f"{NAME}:{port}"}, set())
        return [(one.connection, one.status, one.user) for one in passed]

    def test_https_goes_through_connect_and_its_connections_are_used_again(self) -> None:
        """The name is squid's to look up: here nobody knows it."""
        self.completes(self.credentials("company", NAME, proxy=self.networks.proxy), tasks=10)
        arrived, tunnels = self.networks.arrived("company"), self.tunnels()
        self.assertGreaterEqual(len(arrived), 21, "a token, ten polls, ten reports")
        self.assertLessEqual(len({one.connection for one in arrived}), 3, "main, slot and lease threads have one each")
        self.assertEqual(len(tunnels), len({one.connection for one in arrived}))
        self.assertEqual({status for _, status, _ in tunnels}, {"200"})

    def test_a_proxy_with_a_password_is_given_it_and_nobody_else_is(self) -> None:
        log = self.completes(self.credentials("company", NAME, proxy=self.locked()))
        self.assertEqual({(status, user) for _, status, user in self.tunnels()}, {("200", USER)})
        status, rows, printed = self.check(self.credentials("company", NAME, proxy=self.locked()))
        self.assertEqual(status, 0, rows)
        for place in (printed, *log):
            self.assertNotIn(PASSWORD, place)
            self.assertNotIn(quote(PASSWORD, safe=""), place)

    def test_a_password_that_is_missing_or_wrong_is_said(self) -> None:
        for proxy, message in (
            (self.networks.locked_proxy, "the proxy wants a user name and a password"),
            (self.locked("wrong"), "the proxy refused the user name and password"),
        ):
            with self.subTest(message):
                credentials = self.credentials("company", NAME, proxy=proxy)
                self.assert_failed(self.check(credentials), "platform-unreachable", message, "USER:PASSWORD@HOST:PORT")
                self.says(credentials, message, "USER:PASSWORD@HOST:PORT")

    def test_a_host_that_the_proxy_forbids_is_said(self) -> None:
        credentials = self.credentials("company", "forbidden.test", proxy=self.networks.proxy)
        message, fix = "the proxy answered CONNECT with 403", "ask for this host to be let through"
        self.assert_failed(self.check(credentials), "platform-unreachable", message, fix)
        self.says(credentials, message, fix)

    def test_the_environments_proxy_is_used_with_its_password_but_never_for_loopback(self) -> None:
        self.completes(self.credentials("company", NAME), HTTPS_PROXY=self.locked())
        self.assertEqual({(status, user) for _, status, user in self.tunnels()}, {("200", USER)})
        self.networks.forget()
        self.completes(self.credentials("company", "localhost"), HTTPS_PROXY=self.locked())
        self.assertEqual(self.tunnels(), [])

    def test_no_proxy_takes_suffixes_and_networks(self) -> None:
        proxy = self.networks.proxy
        for host, no_proxy, is_direct in (
            ("127.0.0.1", "10.0.0.0/8, 127.0.0.0/8", True),
            ("127.0.0.1", "10.0.0.0/8", False),
            ("localhost", "other.test,.localhost", True),
            ("localhost", ".calhost", False),
        ):
            with self.subTest(host=host, no_proxy=no_proxy):
                self.networks.forget()
                self.completes(self.credentials("company", host, proxy=proxy), tasks=1, NO_PROXY=no_proxy)
                tunnels = [one for one in self.networks.passed() if one.method == "CONNECT"]
                self.assertEqual(tunnels == [], is_direct, tunnels)
        for no_proxy, way in ((".test", "directly"), ("test", "directly"), (".est", "through the proxy")):
            with self.subTest(no_proxy=no_proxy):
                found = self.check(self.credentials("company", NAME), "--offline", https_proxy=proxy, no_proxy=no_proxy)
                said = [row["message"] for row in found[1] if row["check"] == "proxy"]
                self.assertEqual([way in message for message in said], [True], said)  # both addresses are of one host

    def test_plain_http_keeps_its_connection_to_the_proxy_too(self) -> None:
        url = self.networks.url("plain", NAME)
        self.completes(
            {"agentId": AGENT, "platform": "conductor", "serviceUrl": f"{url}/api", "proxy": self.networks.proxy}
        )
        passed = [one for one in self.networks.passed() if one.target.startswith(url)]
        self.assertGreaterEqual(len(passed), 4, "a poll, and a report and poll for each task")
        self.assertLess(len({one.connection for one in passed}), len(passed))
        self.assertEqual(len(self.networks.arrived("plain")), len(passed), "none went past the proxy")


class Certificates(NetworkTestCase):
    def test_a_private_authority_is_trusted_by_ca_file_or_ssl_cert_file(self) -> None:
        self.completes(self.credentials("company"))
        credentials = self.credentials("company")
        del credentials["caFile"]
        self.completes(credentials, SSL_CERT_FILE=self.ca)
        self.assertEqual(self.check(credentials, SSL_CERT_FILE=self.ca)[0], 0)

    def test_what_is_not_trusted_is_said_with_its_own_remedy(self) -> None:
        """An expired certificate, or one for another host, is not mended by caFile."""
        lax = self.networks.file("lax_ca")
        for site, authority, message, fix in (
            ("expired", self.ca, "certificate has expired", "have it renewed, unless this machine's clock is wrong"),
            ("elsewhere", self.ca, "certificate is not valid for '127.0.0.1'", "use the host name"),
            ("self_signed", self.ca, "self.signed certificate", "set caFile to its PEM file"),
            ("company", lax, "certificate", "set caFile to its PEM file"),
            ("lax_authority", lax, "Basic Constraints of CA cert not marked critical", "issued again"),
            ("no_key_id", self.ca, "Missing Authority Key Identifier", "issued again"),
        ):
            with self.subTest(site):
                self.networks.forget()
                credentials = self.credentials(site, caFile=authority)
                if fix == "issued again" and not IS_STRICT:
                    self.assertEqual(self.check(credentials)[0], 0)
                    continue
                self.assert_failed(self.check(credentials), "tls-untrusted", message, fix)
                if site != "self_signed":  # whose words differ between releases of OpenSSL
                    self.says(credentials, message, fix)
                self.assertEqual(self.networks.arrived(site), [], "nothing is said to a server that is not trusted")

    def test_the_remedy_for_a_self_signed_certificate_works(self) -> None:
        self.completes(self.credentials("self_signed", caFile=self.networks.file("self_signed")))

    def test_through_a_proxy_the_certificate_is_still_the_servers(self) -> None:
        credentials = self.credentials("expired", NAME, proxy=self.networks.proxy)
        self.assert_failed(self.check(credentials), "tls-untrusted", "certificate has expired", "renewed")

    def test_ssl_cert_file_that_points_nowhere_is_said(self) -> None:
        credentials = self.credentials("company")
        del credentials["caFile"]
        nowhere = str(Path(self.networks.folder, "nowhere.pem"))
        found = self.check(credentials, SSL_CERT_FILE=nowhere)
        self.assert_failed(found, "tls-untrusted", "certificate", "caFile")
        warned = [row["message"] for row in found[1] if row["status"] == "warn" and row["check"] == "TLS"]
        self.assertEqual(warned, [f"SSL_CERT_FILE names a file that does not exist: {nowhere}"])
        words = ("SSL_CERT_FILE names a file that does not exist", nowhere)
        self.says(credentials, *words, then="There is no token yet", SSL_CERT_FILE=nowhere)  # first heeds signals then

    def test_no_switch_turns_verification_off(self) -> None:
        """The names by which other programs and libraries are told to trust anybody."""
        off = {"PYTHONHTTPSVERIFY": "0", "CURL_SSL_NO_VERIFY": "1", "SSL_VERIFY": "false", "USERAGENT_VERIFY": "false",
               "GIT_SSL_NO_VERIFY": "1", "NODE_TLS_REJECT_UNAUTHORIZED": "0", "USERAGENT_INSECURE": "1"}  # fmt: skip
        keys = {"verify": "false", "insecure": "true", "verifySsl": "false", "sslVerify": "false"}
        for site in ("expired", "elsewhere", "self_signed"):
            with self.subTest(site):
                found = self.check(self.credentials(site, **keys), **off)
                self.assert_failed(found, "tls-untrusted", "certificate", "")
                self.assertEqual(self.networks.arrived(site), [])

    def test_ipv6_loopback(self) -> None:
        if not self.networks.has_ipv6:
            self.skipTest("this machine has no ::1")
        self.completes(self.credentials("company", "[::1]"))
        self.assertEqual({one.client for one in self.networks.arrived("company")}, {"::1"})
        self.networks.forget()
        self.completes(self.credentials("company", "[::1]", proxy=self.networks.proxy), NO_PROXY="::/64, fe80::/10")
        self.assertEqual({one.client for one in self.networks.arrived("company")}, {"::1"})
        self.completes(self.credentials("company", "[::1]", proxy=self.networks.proxy))
        port = urlsplit(self.networks.url("company")).port
        tunnels = {(one.method, one.target) for one in self.networks.passed() if one.method == "CONNECT"}
        self.assertEqual(tunnels, {("CONNECT", f"[::1]:{port}")})


class ClientCertificates(NetworkTestCase):
    def test_a_worker_shows_its_certificate_and_its_connections_are_used_again(self) -> None:
        self.completes(self.credentials("mutual", clientCert=self.networks.file("client")), tasks=10)
        arrived = self.networks.arrived("mutual")
        self.assertEqual({one.verified for one in arrived}, {"SUCCESS"})
        self.assertGreaterEqual(len(arrived), 21)
        self.assertLessEqual(len({one.connection for one in arrived}), 3)

    def test_certificate_and_key_may_be_two_files(self) -> None:
        files = {
            "clientCert": str(self.networks.folder / "client.crt"),
            "clientKey": str(self.networks.folder / "client.key"),
        }
        self.assertEqual(self.check(self.credentials("mutual", **files))[0], 0)
        status, rows, _ = self.check(self.credentials("mutual", clientCert=files["clientCert"]))
        self.assertEqual(status, 3, "a certificate without its key")
        self.assertIn("clientCert", next(row["message"] for row in rows if row["status"] == "FAIL"))

    def test_none_or_one_that_the_server_does_not_know_is_said(self) -> None:
        """nginx refuses them with a 400 of its own, which was taken for the token endpoint's."""
        for keys in ({}, {"clientCert": self.networks.file("stranger")}):
            with self.subTest(keys):
                credentials = self.credentials("mutual", **keys)
                message, fix = "the server wants a client certificate that it knows", "set clientCert and clientKey"
                self.assert_failed(self.check(credentials), "platform-unreachable", message, fix)
                self.says(credentials, message, fix)


class RealPlatform(RealAgentTestCase):
    def test_a_task_completes_through_squid_nginx_and_gateway_on_the_real_platform(self) -> None:
        """squid with a password -> nginx with TLS of a private authority and a client certificate -> the akaBot paths
        and tokens -> Conductor and Keycloak, for a host whose name only squid can look up."""
        agent_id = self.agent()
        with Networks(self.stack.gateway.port) as networks:
            proxy = networks.locked_proxy.replace("//", f"//{USER}:{quote(PASSWORD, safe='')}@")
            url, files = (
                networks.url("mutual", NAME),
                {"caFile": networks.file("ca"), "clientCert": networks.file("client")},
            )
            worker = Worker(SUM, secured(self.stack.credentials(agent_id), url, proxy=proxy, **files))
            with environment(), worker:
                tasks = [self.complete(agent_id, {"num1": number, "num2": 3}, PATIENCE_S) for number in range(5)]
                self.assertEqual(worker.stop(), 0, worker.log)
            arrived, passed = networks.arrived(), [one for one in networks.passed() if one.method == "CONNECT"]
        self.assertEqual([task["outputData"] for task in tasks], [{"result": number + 3} for number in range(5)])
        self.assertEqual({(one.site, one.verified) for one in arrived}, {("mutual", "SUCCESS")})
        self.assertGreaterEqual(len(arrived), 11, "a token, five polls, five reports")
        self.assertEqual({(one.status, one.user) for one in passed}, {("200", USER)})
        self.assertEqual(len(passed), len({one.connection for one in arrived}), "a tunnel a connection")
        self.assertLessEqual(len(passed), 3)
        self.assertEqual(self.stack.gateway.count("report", status=200), 5)

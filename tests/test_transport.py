# SPDX-License-Identifier: Apache-2.0
"""Where a request may go, through whom, and whom it trusts on the way."""

from __future__ import annotations

import base64
import contextlib
import select
import socket
import ssl
import threading
import time
import traceback
import unittest
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock
from urllib.parse import quote

from user_agent_sdk.conductor import renewal
from user_agent_sdk.conductor.connection import SLOW_TIMES, Connection
from user_agent_sdk.conductor.reply import Response
from user_agent_sdk.conductor.transport import UNDER_WAY_MAX, Transport, TransportError, _proxy_for, is_loopback
from user_agent_sdk.errors import ConfigError, PlatformError
from user_agent_sdk.logs import redactor

from .support import PATIENCE_S, Arrivals, Handler, Peer, Request, Server, answering, at_once

DATA = Path(__file__).parent / "data"
CA = str(DATA / "ca.pem")
SOON_S = 0.15
CANARY = "canary-3f9d"


def tls(name: str, *, asks_client: bool = False) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(DATA / f"{name}.pem")
    if asks_client:
        context.load_verify_locations(CA)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def echo(request: Request) -> bytes:
    return request.body or request.target.encode()


class TransportTest(unittest.TestCase):
    def serve(self, handler: Handler, context: ssl.SSLContext | None = None) -> Server:
        server = Server(handler, context)
        self.addCleanup(server.close)
        return server

    def transport(self, **options: Any) -> Transport:
        transport = Transport(**options)
        self.addCleanup(transport.close)
        return transport

    def send(self, transport: Transport, url: str, timeout_s: float = 5.0, body: bytes | None = None) -> Response:
        headers = {"Authorization": f"Bearer {CANARY}"}
        method = "GET" if body is None else "POST"
        return transport.send(method, url, headers=headers, body=body, timeout_s=timeout_s).fetch()

    def assert_fails(self, transport: Transport, url: str, timeout_s: float = 5.0) -> TransportError:
        with self.assertRaises(TransportError) as caught:
            self.send(transport, url, timeout_s)
        self.assertNotIn(CANARY, "".join(traceback.format_exception(None, caught.exception, None)))
        return caught.exception

    @contextlib.contextmanager
    def over_soon(self, times: int = 1) -> Iterator[None]:
        start = time.monotonic()
        yield
        self.assertGreater(time.monotonic() - start, SOON_S * 0.9, "it ended for another reason")
        self.assertLess(time.monotonic() - start, SOON_S * times + 1.0)


class Requests(TransportTest):
    def test_a_request_is_what_urllib_makes_of_it_and_the_connection_stays(self) -> None:
        """urllib's own handlers say "Connection: close" with every request."""
        server = self.serve(answering(echo))
        transport = self.transport()
        self.assertEqual(self.send(transport, f"{server.url}/a%23b/?c=d").body, b"/a%23b/?c=d")
        self.assertEqual(self.send(transport, f"{server.url}/p", body=b"{}").body, b"{}")
        got, posted = server.requests
        self.assertEqual((got.method, got.target, posted.method), ("GET", "/a%23b/?c=d", "POST"))
        self.assertEqual(got.headers["host"], f"127.0.0.1:{server.port}")
        self.assertEqual((got.headers["accept-encoding"], posted.headers["content-length"]), ("gzip", "2"))
        self.assertTrue(got.headers["user-agent"].startswith("user-agent-sdk/"))
        self.assertNotIn("connection", got.headers)
        self.assertNotIn("content-length", got.headers)
        self.assertEqual(server.connections.count, 1)

    def test_an_address_without_a_path_asks_for_the_root(self) -> None:
        """``check`` asks for the serviceUrl as it is: without a path the request had no target at all."""
        server = self.serve(answering(echo))
        transport = self.transport()
        for rest, target in (("", "/"), ("?a=b", "/?a=b"), ("#c", "/"), ("//d?e=f?#g", "//d?e=f?")):
            self.assertEqual(self.send(transport, server.url + rest).body.decode(), target)

    def test_any_status_is_a_response(self) -> None:
        server = self.serve(answering(lambda request: (int(request.target[1:]), b"x")))
        transport = self.transport()
        for status in (201, 300, 400, 401, 404, 407, 429, 500, 503, 599):
            self.assertEqual(self.send(transport, f"{server.url}/{status}").status, status)

    def test_a_reply_may_be_limited(self) -> None:
        server = self.serve(answering(lambda request: bytes(1001)))
        transport = self.transport()
        with self.assertRaisesRegex(TransportError, "announces 1001 bytes, 1000 are allowed"):
            transport.send("GET", server.url + "/", headers={}, timeout_s=5, limit_bytes=1000).fetch()

    def test_a_redirect_is_a_reply_and_the_other_host_hears_nothing(self) -> None:
        """urllib's own follows it as a GET without the body, and takes the Authorization along."""
        other = self.serve(answering(echo))
        server = self.serve(answering(lambda request: (int(request.target[1:]), b"", f"Location: {other.url}/x")))
        transport = self.transport()
        for status in (301, 302, 303, 307, 308):
            for body in (None, b"{}"):
                self.assertEqual(self.send(transport, f"{server.url}/{status}", body=body).status, status)
        self.assertEqual((other.connections.count, other.requests), (0, []))


class Addresses(TransportTest):
    BAD = (
        "file:///etc/hostname",
        "data:text/plain,x",
        "ftp://127.0.0.1/x",
        "gopher://127.0.0.1/x",
        "127.0.0.1/api",
        "",
        "http:///x",
        "http://127.0.0.1:99999/x",
        "http://127.0.0.1:port/x",
        f"https://user:{CANARY}@127.0.0.1/x",
        f"ftp://user:{CANARY}@127.0.0.1/x",
        f"https://user:{CANARY}@[::/x",
        "http:127.0.0.1/x",
        "http:/127.0.0.1/x",
        "http://127.0.0.1%2F.example/x",
        f"https://127.0.0.1%2F{CANARY}@b.example/x",
        f"https://127.0.0.1%3F{CANARY}@b.example/x",
        "https://127.0.0.1/caf\u00e9/api",  # a worker started on such, and each of its polls failed
        "https://127.0.0.1/a b/api",
    )

    def test_only_http_and_https_to_a_host_and_no_password_in_it(self) -> None:
        transport = self.transport()
        for url in self.BAD:
            for use in (transport.check, lambda url: self.send(transport, url)):
                with self.subTest(url), self.assertRaises(ConfigError) as caught:
                    use(url)
                self.assertNotIn(CANARY, str(caught.exception))

    def test_a_good_address_is_checked_without_sending_anything(self) -> None:
        server = self.serve(answering(echo))
        self.transport().check(server.url + "/api")
        self.assertEqual(server.connections.count, 0)

    def test_what_never_leaves_this_machine(self) -> None:
        for host in ("localhost", "LOCALHOST", "localhost.", "127.0.0.1", "127.9.9.9", "::1", "[::1]"):
            self.assertTrue(is_loopback(host), host)
        for host in ("localhost.example", "128.0.0.1", "0.0.0.0", "::2", "", "127.0.0.1.example"):
            self.assertFalse(is_loopback(host), host)


class Threads(TransportTest):
    def test_each_thread_has_its_own_connection_and_keeps_it(self) -> None:
        server = self.serve(answering(echo))
        transport = self.transport()
        gate = threading.Barrier(4)

        def three() -> list[bytes]:
            bodies = []
            for _ in range(3):
                gate.wait(PATIENCE_S)
                bodies.append(self.send(transport, server.url + "/x").body)
            return bodies

        self.assertEqual(at_once(4, three), [[b"/x"] * 3] * 4)
        self.assertEqual(server.connections.count, 4)

    def test_a_thread_can_have_a_second_exchange_under_way(self) -> None:
        waiting, go = Arrivals(), threading.Event()
        self.addCleanup(go.set)

        def answer(request: Request) -> bytes:
            if request.target == "/slow":
                waiting.arrived()
                go.wait(PATIENCE_S)
            return request.target.encode()

        server = self.serve(answering(answer))
        transport = self.transport()
        for _ in range(2):
            slow = transport.send("GET", server.url + "/slow", headers={}, timeout_s=5.0)
            waiting.wait(1)
            self.assertEqual(self.send(transport, server.url + "/x").body, b"/x")
            go.set()
            self.assertEqual(slow.fetch().body, b"/slow")
        self.assertEqual(server.connections.count, 2)

    def test_a_reply_that_nobody_fetched_is_in_nobodys_way(self) -> None:
        server = self.serve(answering(echo))
        transport = self.transport()

        def send(target: str) -> Connection:
            return transport.send("GET", server.url + target, headers={}, timeout_s=5.0)

        for number in range(3):
            send(f"/lost{number}")
            for _ in range(2):
                sent = [send("/1"), send("/2")]
                self.assertEqual([each.fetch().body for each in sent], [b"/1", b"/2"])
        self.assertEqual(server.connections.count, 2 + 3)

    def test_however_many_are_under_way_in_a_thread_each_gets_its_own_reply(self) -> None:
        server = self.serve(answering(echo))
        transport = self.transport()
        targets = [f"/{number}" for number in range(UNDER_WAY_MAX + 3)]
        for _ in range(2):
            sent = [transport.send("GET", server.url + target, headers={}, timeout_s=5.0) for target in targets]
            self.assertEqual([each.fetch().body.decode() for each in sent], targets)
        self.assertEqual(server.connections.count, len(targets) + 3, "those over the number were not kept")

    def watched(self) -> tuple[Server, Arrivals]:
        left = Arrivals()

        def handle(peer: Peer) -> None:
            peer.request()
            peer.reply(b"ok")
            peer.until_left()
            left.arrived()

        return self.serve(handle), left

    def test_the_connection_of_a_thread_ends_with_it(self) -> None:
        server, left = self.watched()
        transport = self.transport()
        at_once(3, lambda: self.send(transport, server.url + "/x"))
        left.wait(3)

    def test_close_closes_those_of_other_threads_and_can_be_followed_by_more(self) -> None:
        server, left = self.watched()
        transport = self.transport()
        used, done = Arrivals(), threading.Event()
        self.addCleanup(done.set)

        def use() -> None:
            self.send(transport, server.url + "/x")
            used.arrived()
            done.wait(PATIENCE_S)

        threads = [threading.Thread(target=use, daemon=True) for _ in range(3)]
        for thread in threads:
            thread.start()
        used.wait(3)
        transport.close()
        left.wait(3)
        self.assertEqual(self.send(transport, server.url + "/x").body, b"ok")
        done.set()
        for thread in threads:
            thread.join(PATIENCE_S)

    def test_hosts_do_not_share_a_connection(self) -> None:
        one, two = self.serve(answering(lambda request: b"1")), self.serve(answering(lambda request: b"2"))
        transport = self.transport()
        bodies = [self.send(transport, server.url + "/").body for server in (one, two, one, two)]
        self.assertEqual(bodies, [b"1", b"2", b"1", b"2"])
        self.assertEqual((one.connections.count, two.connections.count), (1, 1))


class Tls(TransportTest):
    def test_a_certificate_of_ca_file_is_trusted_and_the_connection_kept(self) -> None:
        """TLS 1.3's tickets come after the handshake: they must not pass for a closed connection."""
        server = self.serve(answering(echo), tls("server"))
        for host in ("127.0.0.1", "localhost"):
            transport = self.transport(ca_file=CA)
            url = f"https://{host}:{server.port}/x"
            self.assertEqual([self.send(transport, url).body for _ in range(3)], [b"/x"] * 3)
        self.assertEqual(server.connections.count, 2)

    def test_ssl_cert_file_names_authorities_too(self) -> None:
        server = self.serve(answering(echo), tls("server"))
        with mock.patch.dict("os.environ", {"SSL_CERT_FILE": CA}):
            self.assertEqual(self.send(self.transport(), server.url + "/x").body, b"/x")

    def test_what_requests_and_curl_trust_is_trusted_too_after_that(self) -> None:
        server = self.serve(answering(echo), tls("server"))
        none = {"SSL_CERT_FILE": "", "REQUESTS_CA_BUNDLE": "", "CURL_CA_BUNDLE": ""}
        for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
            with mock.patch.dict("os.environ", {**none, name: CA}):
                self.assertEqual(self.send(self.transport(), server.url + "/x").body, b"/x")
        with mock.patch.dict("os.environ", {"SSL_CERT_FILE": str(DATA / "server.pem"), "REQUESTS_CA_BUNDLE": CA}):
            self.assertIsNone(renewal.bundle())
        with mock.patch.dict("os.environ", {**none, "REQUESTS_CA_BUNDLE": str(DATA)}):  # OpenSSL's kind of folder
            self.assert_fails(self.transport(), server.url + "/x")

    def test_ssl_cert_file_that_names_no_file_is_said(self) -> None:
        server, absent = self.serve(answering(echo), tls("server")), str(DATA / "absent.pem")
        with mock.patch.dict("os.environ", {"SSL_CERT_FILE": absent}):
            with self.assertLogs("user_agent_sdk.conductor.renewal", "WARNING") as logs:
                self.assert_fails(self.transport(), server.url + "/x")
            self.assertEqual([absent in line for line in logs.output], [True])
            self.assertEqual(self.send(self.transport(ca_file=CA), server.url + "/x").body, b"/x")

    def test_what_can_not_be_trusted_is_not_talked_to(self) -> None:
        for name, ca_file, why, remedy in (
            ("server", None, "certificate", "caFile"),
            ("expired", CA, "expired", "renewed"),
            ("wrong_host", CA, "elsewhere|mismatch|not valid for", "host name"),
        ):
            with self.subTest(name, ca_file=ca_file):
                server = self.serve(answering(echo), tls(name))
                error = self.assert_fails(self.transport(ca_file=ca_file), server.url + "/x")
                self.assertEqual((error.code, error.sent), ("tls-untrusted", False))
                self.assertRegex(str(error), f"certificate is not trusted: .*({why})")
                self.assertIn(remedy, error.hints[0])
                self.assertEqual(server.requests, [])

    def test_a_port_that_speaks_no_tls(self) -> None:
        server = self.serve(lambda peer: (peer.sock.recv(1000), peer.send(b"HTTP/1.1 400 Bad\r\n\r\n")))
        error = self.assert_fails(self.transport(ca_file=CA), f"https://127.0.0.1:{server.port}/x")
        self.assertIn("TLS failed", str(error))
        self.assertEqual((error.code, error.sent), ("platform-unreachable", False))

    def test_a_port_that_only_speaks_tls(self) -> None:
        server = self.serve(answering(echo), tls("server"))
        self.assert_fails(self.transport(), f"http://127.0.0.1:{server.port}/x")

    def test_the_deadline_holds_within_tls(self) -> None:
        """It was only looked at where a read had to wait: a server that sent without a pause, one byte a chunk, held
        its caller for as long as it liked."""
        chunks = b"1;abcdefgh\r\na\r\n" * 20_000

        def floods(peer: Peer) -> None:
            peer.request()
            peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            with contextlib.suppress(OSError):
                while True:
                    peer.send(chunks)

        def drips(peer: Peer) -> None:
            peer.request()
            peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
            while not peer.has_left(within_s=0.01):
                peer.send(b"x")

        silent = self.serve(Peer.until_left)
        for name, url in (
            ("no handshake", f"https://127.0.0.1:{silent.port}/x"),
            ("no reply", self.serve(Peer.until_left, tls("server")).url + "/x"),
            ("a dripping body", self.serve(drips, tls("server")).url + "/x"),
            ("a body without a pause", self.serve(floods, tls("server")).url + "/x"),
        ):
            with self.subTest(name), self.over_soon(SLOW_TIMES):
                self.assert_fails(self.transport(ca_file=CA), url, SOON_S)

    def test_the_deadline_holds_for_a_large_request_within_tls(self) -> None:
        left = threading.Event()
        server = self.serve(lambda peer: left.wait(PATIENCE_S), tls("server"))
        self.addCleanup(left.set)
        transport = self.transport(ca_file=CA)
        start = time.monotonic()
        with self.assertRaises(TransportError) as caught:
            self.send(transport, server.url + "/x", 0.4, bytes(16_000_000))
        self.assertTrue(caught.exception.sent)
        self.assertLess(time.monotonic() - start, 0.4 * SLOW_TIMES + 1.0)

    def test_an_answer_that_comes_before_the_request_has_gone_out_is_read_within_tls_too(self) -> None:
        """A gateway said 413 and closed. Python 3.10 to 3.12 have an SSLEOFError for that, no ConnectionError: the 413
        stayed unread, and the report that was too large was sent again for ever."""

        def handle(peer: Peer) -> None:
            peer.sock.recv(1000)
            peer.send(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            peer.close()

        server = self.serve(handle, tls("server"))
        self.assertEqual(self.send(self.transport(ca_file=CA), server.url + "/x", 5.0, bytes(30_000_000)).status, 413)

    def test_a_client_certificate_is_shown_where_it_is_asked_for(self) -> None:
        server = self.serve(answering(echo), tls("server", asks_client=True))
        transport = self.transport(ca_file=CA, client_cert=str(DATA / "client.pem"))
        self.assertEqual(self.send(transport, server.url + "/x").body, b"/x")
        url = server.url + "/x"
        errors = (self.assert_fails(self.transport(ca_file=CA), url) for _ in range(30))
        self.assertTrue(any("clientCert" in str(error) for error in errors), "a reset may overtake the server's alert")

    def test_files_that_can_not_be_used_are_named_before_anything_is_sent(self) -> None:
        for options, name in (
            ({"ca_file": str(DATA / "absent.pem")}, "caFile"),
            ({"ca_file": str(DATA / "make.sh")}, "caFile"),
            ({"ca_file": str(DATA)}, "caFile"),
            ({"client_cert": str(DATA / "absent.pem")}, "clientCert"),
            ({"client_cert": CA}, "clientCert"),
            ({"client_cert": str(DATA / "client_locked.pem")}, "clientCert"),  # never asks for the password
            ({"client_cert": str(DATA / "client.pem"), "client_key": str(DATA / "server.pem")}, "clientCert"),
        ):
            with self.subTest(options), self.assertRaisesRegex(ConfigError, f"^{name} .*data"):
                Transport(**options).check("https://127.0.0.1:1/x")

    def test_authorities_of_the_environment_that_can_not_be_used_are_named(self) -> None:
        """They were "caFile None"."""
        path = str(DATA / "make.sh")
        names = mock.patch.dict("os.environ", {"SSL_CERT_FILE": "", "REQUESTS_CA_BUNDLE": path})
        with names, self.assertRaises(ConfigError) as caught:
            Transport().check("https://127.0.0.1:1/x")
        self.assertTrue(caught.exception.message.startswith(f"certificate authorities {path}: "))

    def test_verification_is_never_off(self) -> None:
        context = Transport()._trust.context()
        self.assertEqual((context.verify_mode, context.check_hostname), (ssl.CERT_REQUIRED, True))
        self.assertEqual(context.minimum_version, ssl.TLSVersion.TLSv1_2)


def passes_on(peer: Peer) -> None:
    """A proxy: joins the two ends of a CONNECT, answers anything else itself."""
    while (request := peer.request()) is not None:
        if request.method != "CONNECT":
            peer.reply(b"by proxy")
            continue
        port = int(request.target.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port), PATIENCE_S) as onward:
            peer.send(b"HTTP/1.1 200 Connection established\r\nVia: a proxy\r\n\r\n")
            ends = {peer.sock: onward, onward: peer.sock}
            while True:
                for end in select.select(list(ends), [], [], PATIENCE_S)[0]:
                    data = end.recv(65536)
                    if not data:
                        return
                    ends[end].sendall(data)


class Proxies(TransportTest):
    def through(self, proxy: Server, **options: Any) -> Transport:
        return self.transport(proxy=f"http://user:{CANARY}%21@127.0.0.1:{proxy.port}", ca_file=CA, **options)

    def test_https_goes_through_a_tunnel_that_is_kept_and_the_server_sees_no_proxy_password(self) -> None:
        server, proxy = self.serve(answering(echo), tls("server")), self.serve(passes_on)
        transport = self.through(proxy)
        self.assertEqual([self.send(transport, server.url + "/x").body for _ in range(3)], [b"/x"] * 3)
        self.assertEqual((proxy.connections.count, server.connections.count), (1, 1))
        (connect,) = proxy.requests
        self.assertEqual((connect.method, connect.target), ("CONNECT", f"127.0.0.1:{server.port}"))
        basic = "Basic dXNlcjpjYW5hcnktM2Y5ZCE="  # user:canary-3f9d!
        self.assertEqual(connect.headers["proxy-authorization"], basic)
        self.assertNotIn("authorization", connect.headers)
        self.assertNotIn("proxy-authorization", server.requests[0].headers)

    def test_http_asks_the_proxy_with_the_whole_address_over_a_connection_that_is_kept(self) -> None:
        proxy = self.serve(passes_on)
        transport = self.through(proxy)
        url = "http://platform.example/api?x=1"
        self.assertEqual([self.send(transport, url).body for _ in range(3)], [b"by proxy"] * 3)
        self.assertEqual(proxy.connections.count, 1)
        request = proxy.requests[0]
        self.assertEqual((request.target, request.headers["host"]), (url, "platform.example"))
        self.assertIn("proxy-authorization", request.headers)

    def test_the_certificate_is_the_servers_not_the_proxys(self) -> None:
        server, proxy = self.serve(answering(echo), tls("wrong_host")), self.serve(passes_on)
        self.assertEqual(self.assert_fails(self.through(proxy), server.url + "/x").code, "tls-untrusted")

    def test_a_proxy_that_does_not_pass_us_on_is_named_without_its_password(self) -> None:
        def says(data: bytes) -> Handler:
            return lambda peer: (peer.request(), peer.send(data), peer.until_left())

        for name, handler, why in (
            ("407", says(b"HTTP/1.1 407 Auth\r\nContent-Length: 0\r\n\r\n"), "refused the user name and password"),
            ("502", says(b"HTTP/1.1 502 Bad\r\nContent-Length: 0\r\n\r\n"), "answered CONNECT with 502"),
            ("302", says(b"HTTP/1.1 302 Login\r\nLocation: http://x/\r\n\r\n"), "answered CONNECT with 302"),
            ("garbage", says(b"\x00\x01garbage\r\n\r\n"), "not HTTP/1.1"),
            ("hangs up", lambda peer: peer.request(), "closed without a reply"),
            ("resets", lambda peer: (peer.request(), peer.reset()), ""),
            ("talks on", says(b"HTTP/1.1 200 OK\r\n\r\nmore"), "answered CONNECT with 200"),
        ):
            with self.subTest(name):
                proxy = self.serve(handler)
                error = self.assert_fails(self.through(proxy), "https://platform.example/x")
                self.assertFalse(error.sent)
                self.assertIn(f"platform.example:443 through the proxy 127.0.0.1:{proxy.port}: ", str(error))
                self.assertIn(why, str(error))

    def test_a_dead_or_silent_proxy(self) -> None:
        proxy = self.serve(Peer.until_left)
        with self.over_soon():
            self.assertFalse(self.assert_fails(self.through(proxy), "https://platform.example/x", SOON_S).sent)
        proxy.close()
        error = self.assert_fails(self.through(proxy), "https://platform.example/x")
        self.assertIn(f"through the proxy 127.0.0.1:{proxy.port}: ", str(error))

    def test_a_407_for_plain_http_is_the_proxys_too(self) -> None:
        proxy = self.serve(answering(lambda request: (407, b"")))
        error = self.assert_fails(self.through(proxy), "http://platform.example/x")
        self.assertIn("the proxy refused the user name and password", str(error))
        bare = self.transport(proxy=f"http://127.0.0.1:{proxy.port}")
        error = self.assert_fails(bare, "http://platform.example/x")
        self.assertIn("the proxy wants a user name and a password", str(error))
        self.assertFalse(error.sent)


class WhichProxy(unittest.TestCase):
    def proxy(
        self, host: str, explicit: str | None = None, scheme: str = "https", port: int = 443, **environ: str
    ) -> str | None:
        with mock.patch.dict("os.environ", environ, clear=True):
            proxy = _proxy_for(scheme, host, port, explicit)
        return f"{proxy.host}:{proxy.port}" if proxy else None

    def test_the_environment_names_it_by_scheme(self) -> None:
        self.assertEqual(self.proxy("a.example", https_proxy="http://p:1", http_proxy="http://q:2"), "p:1")
        self.assertEqual(self.proxy("a.example", scheme="http", https_proxy="http://p:1", http_proxy="q:2"), "q:2")
        self.assertEqual(self.proxy("a.example", ALL_PROXY="http://p:1"), "p:1")
        self.assertEqual(self.proxy("a.example", https_proxy="http://p"), "p:80")
        self.assertEqual(self.proxy("a.example", https_proxy="http://[::1]:3128"), "::1:3128")

    def test_loopback_needs_none_unless_it_is_set_by_hand(self) -> None:
        for host in ("127.0.0.1", "localhost", "::1"):
            self.assertIsNone(self.proxy(host, https_proxy="http://p:1"))
            self.assertEqual(self.proxy(host, "http://own:3"), "own:3")

    def test_the_setting_wins_over_the_environment(self) -> None:
        self.assertEqual(self.proxy("a.example", "http://own:3", https_proxy="http://p:1"), "own:3")

    def test_no_proxy_names_hosts_domains_and_networks(self) -> None:
        no_proxy = "other, .corp.example,b.example, 10.0.0.0/8,fd00::/8,192.0.2.7, nonsense/99"
        for explicit in (None, "http://own:3"):
            for host in ("x.corp.example", "b.example", "10.1.2.3", "fd00::1", "192.0.2.7"):
                self.assertIsNone(self.proxy(host, explicit, https_proxy="http://p:1", no_proxy=no_proxy), host)
            for host in ("a.example", "11.1.2.3", "fe80::1", "192.0.2.8"):
                self.assertIsNotNone(self.proxy(host, explicit, https_proxy="http://p:1", no_proxy=no_proxy), host)
        self.assertIsNone(self.proxy("a.example", https_proxy="http://p:1", no_proxy="*"))

    def test_no_proxy_may_name_a_port(self) -> None:
        """A proxy was used for a platform that NO_PROXY names with its port."""
        no_proxy = "a.example:8443,.corp.example:443,[fd00::1]:8443,192.0.2.7:8443"
        for host, port, is_named in (
            ("a.example", 8443, True),
            ("a.example", 443, False),
            ("x.corp.example", 443, True),
            ("fd00::1", 8443, True),
            ("fd00::1", 443, False),
            ("192.0.2.7", 8443, True),
            ("192.0.2.7", 443, False),
        ):
            found = self.proxy(host, https_proxy="http://p:1", no_proxy=no_proxy, port=port)
            self.assertEqual(found, None if is_named else "p:1", (host, port))

    def test_one_that_can_not_be_used_is_said_without_its_password(self) -> None:
        for url in (
            f"socks5://user:{CANARY}@p:1",
            f"https://user:{CANARY}@p:1",
            f"http://user:{CANARY}@:1",
            f"http://user:{CANARY}@p:port",
            f"http://user:{CANARY}@p:99999",
            f"http://user:{CANARY}@[::1",
            f"http://user:{CANARY}%40p:1",
            f"http://{CANARY}%40p:1",
            *(f"http://{CANARY}{sign}x@p:1" for sign in "#/?"),  # each went to a host of that name
        ):
            with self.subTest(url), self.assertRaises(ConfigError) as caught:
                self.proxy("a.example", url)
            shown = "".join(traceback.format_exception(None, caught.exception, None))
            self.assertNotIn(CANARY, shown + "".join(caught.exception.hints))

    def test_its_password_is_blanked_wherever_it_was_set(self) -> None:
        """That of a proxy of the environment stood in the log and in `check` when the proxy's own page repeated it."""
        for password in ("pa55-of-http_proxy", "pa55 of http_proxy", "pa55%of%http_proxy"):
            url = f"http://joe:{quote(password, safe='')}@p:1"
            self.assertEqual(self.proxy("a.example", scheme="http", http_proxy=url), "p:1")
            basic = base64.b64encode(f"joe:{password}".encode()).decode()
            for said in (f"denied: joe:{password}", f"denied: Basic {basic}", f"denied: {url}"):
                self.assertNotIn("pa55", redactor.brief(said))
                self.assertNotIn(basic[-20:-4], redactor(said))

    def test_it_is_found_out_once(self) -> None:
        """The system's proxies can change while a worker runs; what it started with can't break it later."""
        transport = Transport()
        with mock.patch.dict("os.environ", {"https_proxy": "http://p:1"}):
            transport.check("https://a.example/x")
        with mock.patch.dict("os.environ", {"https_proxy": "socks5://p:1"}):
            transport.check("https://a.example/x")
            self.assertRaises(ConfigError, transport.check, "https://b.example/x")


class Errors(unittest.TestCase):
    def test_a_transport_error_is_the_platforms(self) -> None:
        self.assertTrue(issubclass(TransportError, PlatformError))
        self.assertFalse(issubclass(ConfigError, PlatformError))


if __name__ == "__main__":
    unittest.main()

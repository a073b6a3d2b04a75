# SPDX-License-Identifier: Apache-2.0
"""One connection: kept, never trusted for longer than its deadline, and never used to say a thing twice."""

from __future__ import annotations

import contextlib
import gc
import select
import socket
import sys
import threading
import time
import types
import unittest
import warnings
from collections.abc import Iterator
from typing import Any
from unittest import mock

from user_agent_sdk.conductor import connection as rooms
from user_agent_sdk.conductor.connection import Connection, Proxy, TransportError, _encoded
from user_agent_sdk.conductor.reply import Response

from .support import Arrivals, Handler, Peer, Server, answering, at_once

SOON_S = 0.15
LIMIT = 1_000_000
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class ConnectionTest(unittest.TestCase):
    def serve(self, handler: Handler) -> Server:
        server = Server(handler)
        self.addCleanup(server.close)
        return server

    def connect(self, server: Server) -> Connection:
        return self.connect_to("127.0.0.1", server.port)

    def connect_to(self, host: str, port: int) -> Connection:
        connection = Connection(host, port, None, None)
        self.addCleanup(connection.close)
        return connection

    def ask(self, connection: Connection, timeout_s: float = 5.0, body: bytes | None = None) -> Response:
        headers = {"Host": "h", **({"Content-Length": str(len(body))} if body is not None else {})}
        method = "GET" if body is None else "POST"
        connection.send(method, "/a?b=c", headers, body, timeout_s, LIMIT)
        return connection.fetch()

    def assert_fails(self, connection: Connection, timeout_s: float = 5.0, body: bytes | None = None) -> TransportError:
        with self.assertRaises(TransportError) as caught:
            self.ask(connection, timeout_s, body)
        self.assertNotIn("\n", str(caught.exception))
        return caught.exception

    @contextlib.contextmanager
    def over_soon(self, limit_s: float = SOON_S) -> Iterator[None]:
        start = time.monotonic()
        yield
        self.assertGreater(time.monotonic() - start, limit_s * 0.9, "it ended for another reason")
        self.assertLess(time.monotonic() - start, limit_s + 1.0)


class Kept(ConnectionTest):
    def test_the_same_connection_carries_one_exchange_after_the_other(self) -> None:
        server = self.serve(answering(lambda request: request.body or request.target.encode()))
        connection = self.connect(server)
        self.assertEqual([self.ask(connection, body=body).body for body in (b"1", None, b"3")], [b"1", b"/a?b=c", b"3"])
        self.assertEqual(server.connections.count, 1)

    def test_a_reply_without_a_body_keeps_it_too(self) -> None:
        def handle(peer: Peer) -> None:
            while peer.request():
                peer.send(b"HTTP/1.1 204 No Content\r\n\r\n")

        server = self.serve(handle)
        connection = self.connect(server)
        self.assertEqual([self.ask(connection).status for _ in range(3)], [204] * 3)
        self.assertEqual(server.connections.count, 1)

    def test_what_the_server_ends_is_opened_anew(self) -> None:
        for reply in (
            b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
            b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
            b"HTTP/1.1 200 OK\r\n\r\nok",
        ):
            with self.subTest(reply):

                def handle(peer: Peer, reply: bytes = reply) -> None:
                    peer.request()
                    peer.send(reply)

                server = self.serve(handle)
                connection = self.connect(server)
                self.assertEqual([self.ask(connection).body for _ in range(3)], [b"ok"] * 3)
                self.assertEqual(server.connections.count, 3)

    def test_a_connection_that_was_closed_at_rest_is_noticed_before_it_is_used(self) -> None:
        """Else the request would be lost, and a report could not be known to have had no effect."""
        for end in (Peer.close, Peer.reset):
            with self.subTest(end.__name__):
                closed = Arrivals()

                def handle(peer: Peer, end: Any = end, closed: Arrivals = closed) -> None:
                    peer.request()
                    peer.send(OK)
                    if peer.number == 0:
                        end(peer)
                        closed.arrived()
                    else:
                        peer.until_left()

                server = self.serve(handle)
                connection = self.connect(server)
                self.ask(connection)
                closed.wait(1)
                self.assertEqual(self.ask(connection, body=b"report").body, b"ok")
                self.assertEqual([request.body for request in server.requests], [b"", b"report"])

    def test_bytes_that_nobody_asked_for_never_answer_the_next_request(self) -> None:
        for late in (False, True):
            with self.subTest(late=late):
                sent = Arrivals()

                def handle(peer: Peer, late: bool = late, sent: Arrivals = sent) -> None:
                    peer.request()
                    stray = OK.replace(b"ok", b"no")
                    if peer.number:
                        peer.send(OK)
                    elif late:
                        peer.send(OK)
                        peer.send(stray)
                    else:
                        peer.send(OK + stray)
                    sent.arrived()
                    peer.until_left()

                server = self.serve(handle)
                connection = self.connect(server)
                self.ask(connection)
                sent.wait(1)
                self.assertEqual(self.ask(connection).body, b"ok")
                self.assertEqual(server.connections.count, 2)

    def test_a_reply_that_nobody_fetched_never_answers_the_next_request(self) -> None:
        server = self.serve(answering(lambda request: request.target.encode()))
        connection = self.connect(server)
        for target in ("/1", "/2"):
            connection.send("GET", target, {"Host": "h"}, None, 5.0, LIMIT)
        self.assertEqual(connection.fetch().body, b"/2")
        self.assertEqual(server.connections.count, 2)

    def test_closed_from_another_thread_meanwhile_there_is_no_reply_to_fetch(self) -> None:
        connection = self.connect(self.serve(Peer.until_left))
        connection.send("GET", "/", {"Host": "h"}, None, 5.0, LIMIT)
        connection.close()
        with self.assertRaisesRegex(TransportError, "was closed") as caught:
            connection.fetch()
        self.assertTrue(caught.exception.sent)

    def test_a_reply_has_the_age_that_it_has(self) -> None:
        """Of one that came while its process was stopped nobody can tell when it came: it was dated a second ago,
        and a task ran that another worker had completed."""
        for stopped_s, wall_s in ((60.0, 60.0), (0.0, 600.0)):  # SIGSTOP; a sleep, in which monotonic stands still
            go = threading.Event()

            def handle(peer: Peer, go: threading.Event = go) -> None:
                peer.request()
                go.wait(5.0)
                peer.send(OK)
                peer.until_left()

            connection = self.connect(self.serve(handle))
            connection.send("GET", "/", {"Host": "h"}, None, 3600.0, LIMIT)
            real, looks = connection._poll, iter((False, False))

            def looked(
                writes: bool, wait_s: float, real: Any = real, looks: Any = looks, go: threading.Event = go
            ) -> Any:
                self.assertLessEqual(wait_s, rooms.LOOK_S)
                if next(looks, True):
                    go.set()
                    return real(writes, 5.0)
                return False

            connection._poll = looked
            with self.subTest(stopped_s=stopped_s, wall_s=wall_s):
                self.assertEqual(connection.fetch().body, b"ok")
                self.assertLess(connection.age_s, 5.0)
                clock = types.SimpleNamespace(
                    monotonic=lambda s=stopped_s: time.monotonic() + s, time=lambda s=wall_s: time.time() + s
                )
                with mock.patch.object(rooms, "time", clock):
                    self.assertGreaterEqual(connection.age_s, max(stopped_s, wall_s))

    def test_a_reply_that_came_in_time_can_be_fetched_late(self) -> None:
        """A poll's, whose slot had to wait longer for the reply to its report: the task would be lost."""
        sent = Arrivals()

        def handle(peer: Peer) -> None:
            peer.request()
            peer.send(OK)
            sent.arrived()
            peer.until_left()

        connection = self.connect(self.serve(handle))
        connection.send("GET", "/", {"Host": "h"}, None, 0.05, LIMIT)
        sent.wait(1)
        threading.Event().wait(0.06)
        self.assertEqual(connection.fetch().body, b"ok")

    def test_the_rest_of_one_that_has_begun_is_waited_for_when_it_is_fetched_late(self) -> None:
        """A large one does not fit what the system keeps for us: nobody read, so it could not all come in time."""
        begun = Arrivals()

        def handle(peer: Peer) -> None:
            peer.request()
            peer.send(OK[:-1])
            begun.arrived()
            if not peer.has_left(2 * rooms.OVERTIME_S):
                peer.send(OK[-1:])
            peer.until_left()

        connection = self.connect(self.serve(handle))
        connection.send("GET", "/", {"Host": "h"}, None, 0.05, LIMIT)
        begun.wait(1)
        threading.Event().wait(0.06)
        self.assertEqual(connection.fetch().body, b"ok")

    def test_one_that_never_came_is_over_when_it_is_fetched_late(self) -> None:
        connection = self.connect(self.serve(Peer.until_left))
        connection.send("GET", "/", {"Host": "h"}, None, 0.05, LIMIT)
        threading.Event().wait(0.06)
        with self.over_soon(0.0), self.assertRaisesRegex(TransportError, "no answer in time"):
            connection.fetch()

    def test_a_connection_that_rested_long_is_not_trusted(self) -> None:
        server = self.serve(answering(lambda request: b"ok"))
        connection = self.connect(server)
        self.ask(connection)
        at, wall_s = connection._silent_at
        for by_one_s, by_other_s, is_stale in (
            (25.0, 25.0, False),
            (60.0, 60.0, True),  # a firewall forgets one in a minute, and tells nobody
            (0.0, 60.0, True),  # the computer slept, and its monotonic clock stood still
        ):
            connection._silent_at = (at - by_one_s, wall_s - by_other_s)
            self.assertEqual(connection._is_stale(), is_stale)
        self.ask(connection)
        self.assertEqual(server.connections.count, 2)

    def test_without_poll_select_notices_a_closed_connection(self) -> None:
        ours, theirs = socket.socketpair()
        with ours, mock.patch.object(rooms, "select", mock.Mock(spec=["select"], select=select.select)):
            poll = rooms._poller(ours)
            self.assertTrue(poll(True, 0.0))
            self.assertFalse(poll(False, 0.0))
            theirs.close()
            self.assertTrue(poll(False, 0.0))


class Deadlines(ConnectionTest):
    """The timeout is for all of an exchange: urllib's own, per read, let a dripping server hold on ten times longer."""

    def test_a_silent_server(self) -> None:
        connection = self.connect(self.serve(Peer.until_left))
        with self.over_soon():
            error = self.assert_fails(connection, SOON_S)
        self.assertTrue(error.sent)
        self.assertIn("no answer in time", str(error))

    def test_a_silent_server_on_a_kept_connection(self) -> None:
        def handle(peer: Peer) -> None:
            peer.request()
            peer.send(OK)
            peer.until_left()

        connection = self.connect(self.serve(handle))
        self.ask(connection)
        with self.over_soon():
            self.assertTrue(self.assert_fails(connection, SOON_S).sent)

    def drip(self, start: bytes, again: bytes) -> Handler:
        def handle(peer: Peer) -> None:
            peer.request()
            peer.send(start)
            while not peer.has_left(within_s=0.01):
                peer.send(again)

        return handle

    def test_a_server_that_drips(self) -> None:
        for name, start, again in (
            ("headers", b"HTTP/1.1 200 OK\r\nX-A: ", b"x"),
            ("a body", b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n", b"x"),
            ("a body to the end", b"HTTP/1.1 200 OK\r\n\r\n", b"x"),
            ("chunks", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
        ):
            with self.subTest(name), self.over_soon():
                self.assertTrue(self.assert_fails(self.connect(self.serve(self.drip(start, again))), SOON_S).sent)

    def test_endless_interim_replies(self) -> None:
        """A loop of these still held http.client after six seconds, whatever its timeout."""
        connection = self.connect(self.serve(self.drip(b"", b"HTTP/1.1 100 Continue\r\n\r\n")))
        self.assertIn("interim", str(self.assert_fails(connection, 5.0)))

    def test_a_server_that_does_not_read(self) -> None:
        left = threading.Event()
        connection = self.connect(self.serve(lambda peer: left.wait(10)))
        self.addCleanup(left.set)
        with self.over_soon(0.2 * rooms.SLOW_TIMES):
            self.assertTrue(self.assert_fails(connection, 0.2, body=bytes(16_000_000)).sent)

    def test_a_large_body_on_a_slow_line_has_more_time(self) -> None:
        """A task of 3 MB came to no worker behind a line of 200 kB/s: each poll of it was given up after 10 s, until
        its tries were used up. A result of 10 MB was sent again for ever."""
        body, pause = bytes(400_000), threading.Event()

        def handle(peer: Peer) -> None:
            came = b""
            while len(came.partition(b"\r\n\r\n")[2]) < len(body):
                came += peer.sock.recv(10_000)
                pause.wait(0.01)
            peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body))
            for start in range(0, len(body), 10_000):
                peer.send(body[start : start + 10_000])
                pause.wait(0.01)

        connection = self.connect(self.serve(handle))
        began = time.monotonic()
        self.assertEqual(self.ask(connection, body=body, timeout_s=0.5).body, body)
        self.assertGreater(time.monotonic() - began, 0.6)

    @unittest.skipUnless(sys.platform == "linux", "other systems answer for a full backlog")
    def test_a_server_that_does_not_accept(self) -> None:
        with socket.create_server(("127.0.0.1", 0), backlog=0) as listener, contextlib.ExitStack() as waiting:
            for _ in range(3):
                sock = waiting.enter_context(socket.socket())
                sock.setblocking(False)
                sock.connect_ex(listener.getsockname())
            connection = self.connect_to("127.0.0.1", listener.getsockname()[1])
            with self.over_soon():
                self.assertFalse(self.assert_fails(connection, SOON_S).sent)

    def test_connecting_has_a_deadline_of_its_own(self) -> None:
        with mock.patch.object(rooms, "_connect", side_effect=OSError("no")) as connect:
            self.assert_fails(self.connect_to("h.example", 1), 30.0)
        self.assertLessEqual(connect.call_args[0][2] - time.monotonic(), rooms.CONNECT_S)


class Names(ConnectionTest):
    """getaddrinfo has no timeout: where it hangs, only a thread is lost."""

    def hang(self) -> tuple[Arrivals, threading.Event]:
        asked, answer = Arrivals(), threading.Event()
        self.addCleanup(answer.set)
        real = socket.getaddrinfo

        def look_up(host: str, port: int, *args: Any, **options: Any) -> Any:
            if host != "hangs.example":
                return real(host, port, *args, **options)
            asked.arrived()
            answer.wait(10)
            return real("127.0.0.1", port, *args, **options)

        lasting = mock.patch.object(rooms, "CONNECT_S", 1e6)  # no other look-up begins meanwhile
        for patch in (mock.patch.object(socket, "getaddrinfo", look_up), lasting):
            patch.start()
            self.addCleanup(patch.stop)
        return asked, answer

    def test_a_look_up_that_hangs_is_given_up_and_asked_once_for_all(self) -> None:
        asked, answer = self.hang()
        server = self.serve(answering(lambda request: b"ok"))
        with self.over_soon():
            errors = at_once(4, lambda: self.assert_fails(self.connect_to("hangs.example", server.port), SOON_S))
        self.assertEqual([(type(error), error.sent) for error in errors], [(TransportError, False)] * 4)
        with self.over_soon():
            self.assert_fails(self.connect_to("hangs.example", server.port), SOON_S)
        self.assertEqual(asked.count, 1)
        self.assertEqual(self.ask(self.connect(server)).body, b"ok", "others go on meanwhile")
        answer.set()
        self.assertEqual(self.ask(self.connect_to("hangs.example", server.port)).body, b"ok")

    def test_a_look_up_that_never_ends_is_not_waited_for_by_all_who_come_later(self) -> None:
        """One call of the system's resolver hung, and its host could not be reached until a restart, though others had
        answers again. Of those that hang there are never many."""
        while rooms._look_ups:  # of the test before
            threading.Event().wait(0.01)
        server, real, stuck = self.serve(answering(lambda request: b"ok")), socket.getaddrinfo, threading.Event()
        self.addCleanup(stuck.set)
        hang, calls = 1, []

        def look_up(host: str, *args: Any) -> Any:
            calls.append(host)
            if len(calls) <= hang:
                stuck.wait(20)
            return real("127.0.0.1", *args)

        def asked_later(windows: int) -> None:
            ahead_s = 1000 * rooms.SELDOM_S + windows * rooms.CONNECT_S - time.monotonic()
            later = mock.Mock(time=time.time, monotonic=lambda: time.monotonic() + ahead_s)
            with mock.patch.object(rooms, "time", later):
                self.ask(self.connect_to("hung.example", server.port), SOON_S)

        with mock.patch.object(socket, "getaddrinfo", look_up), mock.patch.object(rooms, "LOOK_UPS_MOST", 2):
            with self.assertRaises(TransportError):
                asked_later(0)
            asked_later(1)
            self.assertEqual(len(calls), 2)
            hang = 99
            for windows in range(2, 8):
                with self.assertRaises(TransportError):
                    asked_later(windows)
            self.assertEqual(len(calls), 4, "two that hang, and one for all who come after")
            hang = 0
            asked_later(70)
            self.assertEqual(len(calls), 5, "that one may hang for ever, too")

    def test_a_scripts_own_look_up_may_name_its_parameters_as_it_likes(self) -> None:
        """Well-known snippets for SOCKS or IPv4 replace it by a function of places: no request got out any more. One
        that looks at the name, name.endswith(".corp"), was asked for an address, and in bytes."""
        server, real = self.serve(answering(lambda request: b"ok")), socket.getaddrinfo

        def look_up(*args: Any) -> Any:
            return real("127.0.0.1" if args[0].endswith(".example") else "nowhere.invalid", *args[1:])

        with mock.patch.object(socket, "getaddrinfo", look_up):
            for host in ("by-name.example", "127.0.0.1"):
                self.assertEqual(self.ask(self.connect_to(host, server.port)).body, b"ok")

    def test_a_name_that_nobody_knows(self) -> None:
        with mock.patch.object(socket, "getaddrinfo", side_effect=socket.gaierror(-2, "Name or service not known")):
            error = self.assert_fails(self.connect_to("nowhere.example", 443))
        self.assertEqual(
            str(error),
            "nowhere.example:443: the name can't be looked up: Name or service not known (check the host name and DNS)",
        )
        self.assertEqual((error.sent, error.hints), (False, ("check the host name and DNS",)))

    def test_a_name_that_can_be_none(self) -> None:
        self.assertFalse(self.assert_fails(self.connect_to("a" * 80 + ".example", 443)).sent)

    def test_no_thread_for_a_look_up_fails_at_once_and_only_once(self) -> None:
        """The first try used to leave a look-up on the books that no thread would ever end."""
        server = self.serve(answering(lambda request: b"ok"))
        for error in (RuntimeError("can't start new thread"), MemoryError("can't start new thread")):
            with mock.patch.object(threading.Thread, "start", side_effect=error):
                failed = self.assert_fails(self.connect_to("localhost", server.port))
            self.assertIn("can't start new thread", str(failed))
            self.assertEqual(self.ask(self.connect_to("localhost", server.port)).body, b"ok")

    def test_a_dead_address_leaves_time_for_the_next(self) -> None:
        """A host with a broken IPv6 route was never reached by IPv4: the dead address took all the time."""
        server = self.serve(answering(lambda request: b"ok"))
        tried: list[float] = []
        alive = (socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", server.port))
        dead = (socket.AF_INET, socket.SOCK_STREAM, 0, "", ("192.0.2.1", 9))

        class Socket(socket.socket):
            def connect(self, address: Any) -> None:
                if address == dead[4]:
                    tried.append(self.gettimeout() or 0.0)
                    raise socket.timeout("timed out")
                super().connect(address)

        with mock.patch.object(socket, "getaddrinfo", return_value=[dead, alive]), mock.patch("socket.socket", Socket):
            self.assertEqual(self.ask(self.connect_to("two.example", server.port), 4.0).body, b"ok")
        self.assertAlmostEqual(tried[0], 2.0, delta=0.5)

    def test_nobody_listens(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
        error = self.assert_fails(self.connect_to("127.0.0.1", port))
        self.assertFalse(error.sent)
        self.assertTrue(str(error).startswith(f"127.0.0.1:{port}: "))


class BrokenOff(ConnectionTest):
    def test_a_reply_cut_after_any_byte_by_close_or_reset_is_a_failure_and_sent_once(self) -> None:
        data = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n0123456789"
        cuts = [(kept, end) for kept in range(0, len(data), 3) for end in (Peer.close, Peer.reset)]

        def handle(peer: Peer) -> None:
            kept, end = cuts[peer.number]
            peer.request()
            peer.send(data[:kept])
            end(peer)

        server = self.serve(handle)
        connection = self.connect(server)
        for kept, end in cuts:
            with self.subTest(kept=kept, end=end.__name__):
                error = self.assert_fails(connection, body=b"{}")
                self.assertTrue(error.sent)
        self.assertEqual(server.arrivals.count, len(cuts), "a request was repeated")

    def test_what_is_not_http(self) -> None:
        def handle(peer: Peer) -> None:
            peer.request()
            peer.send(b"SSH-2.0-OpenSSH\r\n\r\n")

        self.assertIn("not HTTP/1.1: it begins 'SSH-2.0", str(self.assert_fails(self.connect(self.serve(handle)))))

    def test_an_answer_that_comes_before_the_request_has_gone_out_is_read(self) -> None:
        """A proxy says 413 and closes without reading on. Taken for a broken connection, the report
        that is too large would be sent again for ever."""

        def handle(peer: Peer) -> None:
            peer.sock.recv(1000)
            peer.send(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            peer.sock.shutdown(socket.SHUT_RDWR)

        connection = self.connect(self.serve(handle))
        self.assertEqual(self.ask(connection, body=bytes(30_000_000)).status, 413)

    def test_a_connection_that_breaks_while_sending_counts_as_sent(self) -> None:
        def handle(peer: Peer) -> None:
            peer.sock.recv(1000)
            peer.reset()

        self.assertTrue(self.assert_fails(self.connect(self.serve(handle)), body=bytes(30_000_000)).sent)

    def test_closing_from_another_thread_ends_an_exchange_with_an_error(self) -> None:
        server = self.serve(answering(lambda request: closing.arrived() and closed.wait(10) and b"late"))
        closing, closed = Arrivals(), threading.Event()
        self.addCleanup(closed.set)
        connection = self.connect(server)
        errors: list[TransportError] = []
        thread = threading.Thread(target=lambda: errors.append(self.assert_fails(connection)), daemon=True)
        thread.start()
        closing.wait(1)
        connection.close()
        thread.join(5)
        self.assertTrue(errors and errors[0].sent)
        closed.set()
        self.assertEqual(self.ask(connection).body, b"late", "it can be used again")

    def test_an_interrupt_leaves_no_half_read_reply_behind(self) -> None:
        server = self.serve(answering(lambda request: b"ok"))
        connection = self.connect(server)
        self.ask(connection)
        with mock.patch.object(Connection, "receive", side_effect=KeyboardInterrupt):
            self.assertRaises(KeyboardInterrupt, self.ask, connection)
        self.assertEqual(self.ask(connection).body, b"ok")
        self.assertEqual(server.connections.count, 2)


class TheRequest(ConnectionTest):
    def test_a_request_is_one_piece_with_its_body(self) -> None:
        data = _encoded("POST", "/a", {"Host": "h", "X-A": "caf\xe9"}, b"{}")
        self.assertEqual(data, b"POST /a HTTP/1.1\r\nHost: h\r\nX-A: caf\xe9\r\n\r\n{}")

    def test_nothing_can_be_smuggled_into_it(self) -> None:
        server = self.serve(answering(lambda request: b"ok"))
        for target, headers in (
            ("/a b", {}),
            ("/a\r\nX: y", {}),
            ("/caf\xe9", {}),
            ("/a\0", {}),
            ("/a", {"X": "a\r\nY: b"}),
            ("/a", {"X": "a\nY: b"}),
            ("/a", {"X": "a\rY: b"}),
            ("/a", {"X\r\nY": "b"}),
            ("/a", {"X": "a\0"}),
            ("/a", {"Authorization": "Bearer canary-\u20ac"}),
        ):
            with self.subTest(target=target, headers=headers):
                with self.assertRaises(TransportError) as caught:
                    self.connect(server).send("GET", target, headers, None, 5.0, LIMIT)
                self.assertFalse(caught.exception.sent)
                self.assertNotIn("canary", str(caught.exception))
        self.assertEqual(server.connections.count, 0)

    def test_a_proxy_shows_no_password(self) -> None:
        self.assertEqual(repr(Proxy("p", 80, "Basic canary")), "Proxy(p:80)")
        self.assertEqual(repr(Proxy("::1", 80, None)), "Proxy([::1]:80)")


class Descriptors(ConnectionTest):
    def test_a_connection_that_is_dropped_closes_its_socket(self) -> None:
        """Connections belong to threads, and threads end."""
        left = Arrivals()

        def handle(peer: Peer) -> None:
            peer.request()
            peer.send(OK)
            peer.until_left()
            left.arrived()

        connection = Connection("127.0.0.1", self.serve(handle).port, None, None)
        self.ask(connection)
        with warnings.catch_warnings(record=True) as leaks:
            warnings.simplefilter("always")
            del connection
            gc.collect()
        self.assertEqual(leaks, [])
        left.wait(1)

    def test_no_descriptor_left_is_an_error_like_any_other(self) -> None:
        server = self.serve(answering(lambda request: b"ok"))
        with mock.patch("socket.socket", side_effect=OSError(24, "Too many open files")):
            error = self.assert_fails(self.connect(server))
        self.assertEqual((error.sent, "Too many open files" in str(error)), (False, True))


if __name__ == "__main__":
    unittest.main()

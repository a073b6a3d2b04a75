# SPDX-License-Identifier: Apache-2.0
"""What several test files share: a server that says exactly the bytes a test wants, a clock that
moves when it is told to, and waits that end when something has happened."""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import select
import socket
import struct
import threading
import unittest
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, Callable, NamedTuple, TypeVar

from user_agent_sdk.sandbox.engine import Engine
from user_agent_sdk.sandbox.tasks import Execution

IS_WINE = os.name == "nt" and hasattr(ctypes.WinDLL("ntdll"), "wine_get_version")  # type: ignore[attr-defined]
Value = TypeVar("Value")
PATIENCE_S = 10.0  # a test that waits longer has failed


def unless_wine_lacks(what: str) -> Callable[[Any], Any]:
    """Marks a test that Wine, which stands for Windows on a Linux machine, can't run: for want of ``what``."""
    return unittest.skipIf(IS_WINE, f"Wine lacks {what}")


def executions(engine: Engine) -> list[Execution]:
    """Those of a sandbox, the newest first."""
    return engine.view(lambda found, _: [one.snapshot() for one in found])


class Telling(logging.Handler):
    """Sets ``event`` at a record."""

    def __init__(self, event: threading.Event) -> None:
        super().__init__()
        self._event = event

    def emit(self, record: logging.LogRecord) -> None:
        self._event.set()


class FakeClock:
    """Seconds that pass by ``advance`` alone."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


class Arrivals:
    """Counts what arrives; ``wait(n)`` returns when n have, or fails the test."""

    def __init__(self) -> None:
        self._changed = threading.Condition()  # guards count
        self.count = 0

    def arrived(self) -> int:
        with self._changed:
            self.count += 1
            self._changed.notify_all()
            return self.count

    def wait(self, count: int) -> None:
        with self._changed:
            if not self._changed.wait_for(lambda: self.count >= count, PATIENCE_S):
                raise AssertionError(f"{self.count} of {count} arrived")


class Request(NamedTuple):
    """A request as a server saw it; header names are in lower case."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes


class Peer:
    """The server's end of one connection. ``number`` counts the connections from 0."""

    def __init__(self, server: Server, sock: socket.socket, number: int) -> None:
        self._server = server
        self.sock = sock
        self.number = number
        self._file = sock.makefile("rb")

    def request(self) -> Request | None:
        """The next whole request, also put on the server's list; None when the client has left."""
        try:
            method, target, _ = self._file.readline().decode("latin-1").split(" ", 2)
        except (OSError, ValueError):
            return None
        headers = {}
        while line := self._file.readline().decode("latin-1").strip():
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        body = self._file.read(int(headers.get("content-length", 0)))
        request = Request(method, target, headers, body)
        self._server.requests.append(request)
        self._server.arrivals.arrived()
        return request

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def reply(self, body: bytes = b"", status: int = 200, head: str = "Content-Type: application/json") -> None:
        extra = f"{head}\r\n" if head else ""
        self.send(f"HTTP/1.1 {status} Said\r\n{extra}Content-Length: {len(body)}\r\n\r\n".encode("latin-1") + body)

    def has_left(self, within_s: float) -> bool:
        """True once the client has closed (or sent more); waits that long for it at most."""
        return bool(select.select([self.sock], [], [], within_s)[0])

    def until_left(self) -> None:
        """Read and forget until the client closes."""
        with contextlib.suppress(OSError):
            while self._file.read1(65536):
                pass

    def reset(self) -> None:
        """Close with a RST, as a crashed peer or a firewall does."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("hh" if os.name == "nt" else "ii", 1, 0))
        self.close()

    def close(self) -> None:
        self._file.close()
        self.sock.close()


Handler = Callable[[Peer], Any]


class Server:
    """A TCP server on loopback that runs ``handler(peer)``, each connection on a thread of its own,
    and closes the connection when the handler returns. A context manager."""

    def __init__(self, handler: Handler, tls: Any = None) -> None:
        self._handler = handler
        self._tls = tls
        self.requests: list[Request] = []
        self.arrivals = Arrivals()  # of requests
        self.connections = Arrivals()
        self._socks: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._is_closing = False
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(PATIENCE_S * 6)
        self.port: int = self._listener.getsockname()[1]
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}"
        self._threads.append(threading.Thread(target=self._accept, daemon=True))
        self._threads[0].start()

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._is_closing = True
        with contextlib.suppress(OSError):  # what closes a socket under a thread that waits on it crashes Wine's server
            socket.create_connection(("127.0.0.1", self.port), 1).close()
        self._threads[0].join(PATIENCE_S)
        self._listener.close()
        for sock in self._socks:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()
        for thread in self._threads:
            thread.join(PATIENCE_S)

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            if self._is_closing:
                sock.close()
                return
            sock.settimeout(PATIENCE_S)
            self._socks.append(sock)
            number = self.connections.arrived() - 1
            thread = threading.Thread(target=self._serve, args=(sock, number), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, sock: socket.socket, number: int) -> None:
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._tls is not None:
                sock = self._tls.wrap_socket(sock, server_side=True)
            peer = Peer(self, sock, number)
        except OSError:
            sock.close()
            return
        try:
            self._handler(peer)
        except OSError:  # the client left first
            pass
        finally:
            peer.close()


def answering(answer: Callable[[Request], Any]) -> Handler:
    """A well-behaved handler: keeps the connection; ``answer`` gives a body, or (status, body[, header lines])."""

    def handle(peer: Peer) -> None:
        while (request := peer.request()) is not None:
            given = answer(request)
            status, body, *head = given if isinstance(given, tuple) else (200, given)
            peer.reply(body, status, *head)

    return handle


def entered(case: unittest.TestCase, context: AbstractContextManager[Value]) -> Value:
    """Enter a context until the test ends: TestCase.enterContext is newer than Python 3.9."""
    value = context.__enter__()
    case.addCleanup(context.__exit__, None, None, None)
    return value


def at_once(count: int, call: Callable[[], Any]) -> Sequence[Any]:
    """Run ``call`` on ``count`` threads that start together; its results, or what it raised."""
    gate = threading.Barrier(count)
    results: list[Any] = [None] * count

    def run(index: int) -> None:
        gate.wait(PATIENCE_S)
        try:
            results[index] = call()
        except Exception as error:
            results[index] = error

    threads = [threading.Thread(target=run, args=(index,), daemon=True) for index in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
        assert not thread.is_alive(), "a thread hangs"
    return results

# SPDX-License-Identifier: Apache-2.0
"""One persistent HTTP/1.1 connection, with a total deadline for each exchange.

What urllib lacks: its timeout is for each read, so a server that drips bytes could hold a caller for ever, and its
connections end with every reply. Here no wait lasts beyond the exchange's deadline, which only bytes that move put off;
a request leaves in one piece, and a look-up of a name can be given up. Used by one thread at a time."""

from __future__ import annotations

import contextlib
import ipaddress
import math
import select
import socket
import sys
import threading
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Callable, NamedTuple

from .. import forking
from .reply import BadReplyError, Reader, Response, TransportError

if TYPE_CHECKING:
    from concurrent.futures import Future

    from .renewal import Trust

CONNECT_S = 10.0
IDLE_LIMIT_S = 30.0  # firewalls forget an idle connection without telling either end
OVERTIME_S = 0.1  # for a reply that came in time, and was fetched late
LARGE_OVERTIME_S = 10.0  # for the rest of a large reply that this side began to read late
PIECE_BYTES = 65536
SLOW_BYTES_PER_S = 65536  # a megabyte that comes, or goes, puts the deadline off by 16 s,
SLOW_TIMES = 6  # to so many timeouts at most: else a large task would never get over a slow line
LOOK_UPS_MOST, SELDOM_S = 8, 600.0  # so many that hang begin one every CONNECT_S, more so seldom
LOOK_S = 0.5  # how exactly is known since when a reply may have been here


class Proxy(NamedTuple):
    """Where connections go first; ``authorization`` is a ready Proxy-Authorization value or None."""

    host: str
    port: int
    authorization: str | None

    def __repr__(self) -> str:
        return f"Proxy({at(self.host, self.port)})"


def at(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _left(deadline: float) -> float:
    """Seconds until ``deadline`` (monotonic). Raises TimeoutError when there are none."""
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError("timed out")
    return left


class Connection(Reader):
    """A connection to one origin, opened when it is first needed and again when it went stale."""

    _poll: Callable[[bool, float], Any]  # of the open socket, which never blocks by itself

    def __init__(self, host: str, port: int, tls: Trust | None, proxy: Proxy | None) -> None:
        super().__init__()
        self._host, self._port, self._tls, self._proxy = host, port, tls, proxy
        self._where = at(host, port) + (f" through the proxy {at(proxy.host, proxy.port)}" if proxy else "")
        self._sock: socket.socket | None = None
        self._deadline = self._last_deadline = 0.0  # monotonic; every wait ends at the first, put off to the second
        self._limit_bytes = 0  # of the reply
        self.sent_at = 0.0  # monotonic; the last request, once its connection was open
        self._broke_off: OSError | None = None  # the error that ended the sending
        self._is_silent = False  # nothing of the reply has come
        self._silent_at = (0.0, 0.0)  # monotonic and wall clock; then nothing had
        self.is_busy = False  # a reply is owed, which must not answer another request

    def send(
        self, method: str, target: str, headers: Mapping[str, str], body: bytes | None, timeout_s: float,
        limit_bytes: int,
    ) -> None:  # fmt: skip
        """The first half of an exchange: one request, sent once. Both are over within ``timeout_s``, or SLOW_TIMES as
        much with a large body: bytes that the system took may be long on their way. Raises TransportError."""
        now, is_sent = time.monotonic(), False
        self._broke_off, self._limit_bytes = None, limit_bytes
        try:
            request, sock = _encoded(method, target, headers, body), self._sock
            if sock is None or self._is_stale():
                self._deadline = now + min(timeout_s, CONNECT_S)
                sock = self._open()
            self._deadline, self._last_deadline = now + timeout_s, now + timeout_s * SLOW_TIMES
            self.is_busy = is_sent = self._is_silent = True
            self.sent_at = time.monotonic()
            self._silent_at = (self.sent_at, time.time())
            try:
                self._write(sock, request)
            except OSError as error:  # over TLS, Python 3.10 to 3.12 have an SSLEOFError for a reset
                if not isinstance(error, ConnectionError) and type(error).__name__ != "SSLEOFError":
                    raise
                self._broke_off = error  # the server may have answered: a 413 does not wait for the end
        except BaseException as error:
            raise self._given_up(error, is_sent) from None

    def fetch(self) -> Response:
        """The second half: the reply to what was sent. Raises TransportError."""
        try:
            if self._deadline <= time.monotonic() and self._poll(False, OVERTIME_S):
                self._deadline = time.monotonic() + LARGE_OVERTIME_S
            reply, keep = self.read(self._limit_bytes)
            self.is_busy = False
            if not keep or self._broke_off is not None:
                self.close()
            if reply.status == 407 and self._proxy:
                raise self._refused_by(self._proxy)
            if reply.status == 400 and self._tls and b"SSL certificate" in reply.body[:500]:  # nginx, before anything
                raise self._refused("the server wants a client certificate that it knows", _CLIENT_CERTIFICATE)
            return reply
        except BaseException as error:
            raise self._given_up(error, True) from None

    @property
    def age_s(self) -> float:
        """How long ago the last reply may have come, at most: it was not there at the last look. By the clock that
        went further, since a process may be stopped, and a computer sleep, while a reply waits for it."""
        at, wall_s = self._silent_at
        return max(time.monotonic() - at, time.time() - wall_s)

    def _given_up(self, error: BaseException, is_sent: bool) -> BaseException:
        """The error to raise, after the connection was closed: half an exchange is no state to go on from."""
        self.close()
        if self._tls is not None and type(error).__module__ == "ssl":
            self._tls.doubt()
        if isinstance(error, (OSError, BadReplyError, ValueError)):
            return _explained(self._broke_off or error, self._where, is_sent)
        return error

    def _refused(self, why: str, remedy: str) -> TransportError:
        """Somebody on the way would not pass us on."""
        return TransportError(f"{self._where}: {why}", sent=False, hints=(remedy,))

    def _refused_by(self, proxy: Proxy) -> TransportError:
        """For a 407."""
        why, what = "the proxy wants a user name and a password", "set"
        if proxy.authorization:
            why, what = "the proxy refused the user name and password", "correct them in"
        return self._refused(why, f"{what} proxy: http://USER:PASSWORD@HOST:PORT, special characters as %XX")

    def close(self) -> None:
        """Close the socket, from any thread: an exchange that is under way ends with an error."""
        sock, self._sock, self.is_busy = self._sock, None, False
        if sock is not None:
            with contextlib.suppress(OSError):
                # Wakes a thread that still waits. Not SSLSocket's own shutdown: that would let it read ciphertext.
                socket.socket.shutdown(sock, socket.SHUT_RDWR)
            sock.close()

    __del__ = close  # connections are kept by thread, and threads end

    def _is_stale(self) -> bool:
        """Closed by the other end, or holding bytes that answer nothing we asked: at rest there are none."""
        return self.is_busy or bool(self.held) or self.age_s > IDLE_LIMIT_S or bool(self._poll(False, 0.0))

    def _open(self) -> socket.socket:
        self.close()
        self.held.clear()
        first = (self._proxy.host, self._proxy.port) if self._proxy else (self._host, self._port)
        sock = self._use(_connect(*first, self._deadline))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._tls is not None:
            if self._proxy:
                self._tunnel_through(sock, self._proxy)
            sock.settimeout(_left(self._deadline))
            sock = self._use(self._tls.context().wrap_socket(sock, server_hostname=self._host))
        return sock

    def _use(self, sock: socket.socket) -> socket.socket:
        sock.setblocking(False)
        self._sock, self._poll = forking.ours(sock), _poller(sock)
        return sock

    def _tunnel_through(self, sock: socket.socket, proxy: Proxy) -> None:
        to = at(self._host, self._port)
        headers = {"Host": to}
        if proxy.authorization:
            headers["Proxy-Authorization"] = proxy.authorization
        self._write(sock, _encoded("CONNECT", to, headers, None))
        status = int(self.read_head()[0][1])
        if status == 407:
            raise self._refused_by(proxy)
        if status != 200 or self.held:
            remedy = "check the host name and port" if status >= 500 else "ask for this host to be let through"
            raise self._refused(f"the proxy answered CONNECT with {status}", remedy)

    def _write(self, sock: socket.socket, request: bytes) -> None:
        left = memoryview(request)
        while left:
            count: int = self._attempt(sock.send, left, True)
            left = left[count:]
            self._put_off(count)

    def receive(self) -> bytes:
        sock = self._sock
        if sock is None:
            return b""
        if self._tls is not None:  # which may have read ahead: there may be nothing to wait for
            _left(self._deadline)
        else:
            self._wait(False)
        piece: bytes = self._attempt(sock.recv, PIECE_BYTES, False)
        self._is_silent = False
        self._put_off(len(piece))
        return piece

    def _put_off(self, count: int) -> None:
        deadline = min(self._deadline + count / SLOW_BYTES_PER_S, self._last_deadline)
        self._deadline = max(self._deadline, deadline)

    def _attempt(self, act: Callable[[Any], Any], argument: object, writes: bool) -> Any:
        while True:
            try:
                return act(argument)
            except OSError as error:
                # By their names: ssl is not loaded for plain http.
                waits = {"BlockingIOError": writes, "SSLWantReadError": False, "SSLWantWriteError": True}
                if type(error).__name__ not in waits:
                    raise
                self._wait(waits[type(error).__name__])

    def _wait(self, writes: bool) -> None:
        while not self._poll(writes, min(_left(self._deadline), LOOK_S)):
            if self._is_silent:
                self._silent_at = (time.monotonic(), time.time())


def _poller(sock: socket.socket) -> Callable[[bool, float], Any]:
    """A call that waits so many seconds until ``sock`` can be written to, or read from; falsy when it can't.
    select() alone can't watch descriptors over 1023."""
    if sys.platform != "win32" and hasattr(select, "poll"):
        readable, writable = select.poll(), select.poll()
        readable.register(sock, select.POLLIN)
        writable.register(sock, select.POLLOUT)
        return lambda writes, wait_s: (writable if writes else readable).poll(math.ceil(wait_s * 1000))
    return lambda writes, wait_s: any(select.select(() if writes else (sock,), (sock,) if writes else (), (), wait_s))


def _encoded(method: str, target: str, headers: Mapping[str, str], body: bytes | None) -> bytes:
    """The request's bytes. Raises ValueError, which quotes no header, for what would be another request."""
    if not (target.isascii() and target.isprintable()) or " " in target:
        raise ValueError("the address has characters that must be percent-encoded")
    lines = [f"{method} {target} HTTP/1.1", *[f"{name}: {value}" for name, value in headers.items()]]
    head = "\r\n".join(lines)
    if not len(lines) - 1 == head.count("\r") == head.count("\n") or "\0" in head:
        raise ValueError("a header has a line break in it")
    try:
        return f"{head}\r\n\r\n".encode("latin-1") + (body or b"")
    except UnicodeEncodeError:
        raise ValueError("a header has characters that can't be sent") from None


_look_ups: dict[tuple[str, int, float], Future[list[Any]]] = {}  # under way; its setdefault() and pop() are atomic


def _addresses(host: str, port: int, deadline: float) -> list[Any]:
    """getaddrinfo has no timeout, so it runs in a daemon thread that a caller can give up on: one thread a name,
    however many callers wait, and another one later, since one may hang for ever."""

    def look_up() -> None:
        try:  # by place, as the standard library asks: a script's own getaddrinfo may name its parameters otherwise
            mine.set_result(socket.getaddrinfo(host, port, 0, socket.SOCK_STREAM))
        except Exception as error:
            mine.set_exception(error)
        _look_ups.pop(key)

    with contextlib.suppress(ValueError):  # a name, or a local address with its interface (fe80::1%eth0)
        is_6 = ipaddress.ip_address(host.replace("%", "?")).version == 6
        return [(socket.AF_INET6 if is_6 else socket.AF_INET, socket.SOCK_STREAM, 0, "", (host, port))]
    from concurrent import futures  # here: an embedded platform is found by its address

    key = (host, port, time.monotonic() // (CONNECT_S if len(_look_ups) < LOOK_UPS_MOST else SELDOM_S))
    mine: Future[list[Any]] = futures.Future()
    answer = _look_ups.setdefault(key, mine)
    if answer is mine:
        try:
            threading.Thread(target=look_up, name="look-up", daemon=True).start()
        except (RuntimeError, MemoryError) as error:  # no thread to be had: said now, tried again by the next caller
            mine.set_exception(OSError(f"no name look-up: {error}"))
            _look_ups.pop(key)
    try:
        return answer.result(_left(deadline))
    except futures.TimeoutError:
        raise TimeoutError("the name look-up timed out") from None


def _connect(host: str, port: int, deadline: float) -> socket.socket:
    """Tries each address, with a fair share of the time: a dead one must not cost the living its turn."""
    last: OSError = OSError(f"{host} has no address")
    found = _addresses(host, port, deadline)
    for tries_left, (family, kind, protocol, _, address) in zip(range(len(found), 0, -1), found):
        sock = None
        try:
            sock = socket.socket(family, kind, protocol)  # of a family that this machine may lack
            sock.settimeout(_left(deadline) / tries_left)
            sock.connect(address)
            return sock
        except OSError as error:
            last = error
            if sock is not None:
                sock.close()
    raise last


_CLIENT_CERTIFICATE = "set clientCert and clientKey to the PEM files that the platform's operators gave you"
_CA_FILE = "if your company has a certificate authority of its own, set caFile to its PEM file"
_DATES = "have it renewed, unless this machine's clock is wrong"
_NAME = "use the host name that the certificate is for, or have one issued for this name"
_STRICT = "have it, or its authority's, issued again as RFC 5280 says: Python 3.13 and later check that strictly"
# By OpenSSL's X509_V_ERR_ numbers; any other is _STRICT.
_REMEDIES = {**dict.fromkeys((2, 18, 19, 20, 21), _CA_FILE), 9: _DATES, 10: _DATES, 62: _NAME, 64: _NAME}


def _explained(error: Exception, where: str, is_sent: bool) -> TransportError:
    """The error as one sentence with a remedy; never the request, which holds a token."""
    if isinstance(error, socket.gaierror):
        why = f"{where}: the name can't be looked up: {error.strerror}"
        return TransportError(why, sent=False, hints=("check the host name and DNS",))
    if isinstance(error, (TimeoutError, socket.timeout)):
        return TransportError(f"{where}: no answer in time", sent=is_sent)
    if type(error).__module__ != "ssl":
        why = getattr(error, "strerror", None) or str(error) or type(error).__name__
        return TransportError(f"{where}: {why}", sent=is_sent)
    why = getattr(error, "verify_message", "") or getattr(error, "reason", None) or str(error)
    if not hasattr(error, "verify_message"):
        hints = (_CLIENT_CERTIFICATE,) if "CERTIFICATE_REQUIRED" in why or "ALERT_UNKNOWN_CA" in why else ()
        return TransportError(f"{where}: TLS failed: {why}", sent=is_sent, hints=hints)
    why = f"{where}: the server's certificate is not trusted: {why.rstrip('.')}"
    remedy = _REMEDIES.get(getattr(error, "verify_code", 0), _STRICT)
    return TransportError(why, sent=False, code="tls-untrusted", hints=(remedy,))

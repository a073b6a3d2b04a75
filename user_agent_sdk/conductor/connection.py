"""One persistent HTTP/1.1 connection, with a total deadline for each exchange.

What urllib lacks: its timeout is for each read, so a server that drips bytes could hold a caller for
ever, and its connections end with every reply. Here the socket's timeout shrinks before each read,
a request leaves in one piece, and a look-up of a name can be given up. Used by one thread at a time.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import ipaddress
import math
import re
import select
import socket
import sys
import threading
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Callable, NamedTuple

from ..errors import PlatformError
from .reply import BadReplyError, Reader, Response

if TYPE_CHECKING:
    import ssl

CONNECT_S = 10.0
IDLE_LIMIT_S = 30.0  # firewalls forget an idle connection without telling either end
OVERTIME_S = 0.1  # for a reply that came in time, and was fetched late
PIECE_BYTES = 65536
_NOT_IN_TARGET = re.compile(r"[^\x21-\x7e]")


class TransportError(PlatformError):
    """There was no usable reply. ``sent`` is False when nothing can have reached the server."""

    def __init__(self, message: str, *, sent: bool, code: str = "platform-unreachable", hints: tuple[str, ...] = ()):
        super().__init__(message, code=code, hints=hints)
        self.sent = sent

    def __str__(self) -> str:
        """With the remedy: a log has one line for it."""
        return f"{self.message} ({self.hints[0]})" if self.hints else self.message


class RefusedError(OSError):
    """Somebody on the way would not pass us on; the second argument is what to do about it."""


class Proxy(NamedTuple):
    """Where connections go first; ``authorization`` is a ready Proxy-Authorization value or None."""

    host: str
    port: int
    authorization: str | None

    def __repr__(self) -> str:
        return f"Proxy({_at(self.host, self.port)})"

    def refused_us(self) -> RefusedError:
        """For a 407."""
        if self.authorization:
            why, what = "the proxy refused the user name and password", "correct them in"
        else:
            why, what = "the proxy wants a user name and a password", "set"
        return RefusedError(why, f"{what} proxy: http://USER:PASSWORD@HOST:PORT, special characters as %XX")


def _at(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _left(deadline: float) -> float:
    """Seconds until ``deadline`` (monotonic). Raises TimeoutError when there are none."""
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError("timed out")
    return left


class _Link(Reader):
    """An open socket, and what was read from it. No wait lasts beyond ``deadline``."""

    def __init__(self, sock: socket.socket, deadline: float) -> None:
        """``sock`` is new: nothing was read from it."""
        super().__init__()
        self.sock = sock
        self.deadline = deadline
        self.used_at = time.monotonic()
        self.is_owed = False  # a reply, which must not answer another request
        sock.setblocking(False)
        self._is_tls = type(sock) is not socket.socket  # which may have read ahead
        self._poll = _poller(sock)

    def is_stale(self) -> bool:
        """Closed by the other end, or holding bytes that answer nothing we asked: at rest there are none."""
        is_in_use = self.is_owed or bool(self.held)
        return is_in_use or time.monotonic() - self.used_at > IDLE_LIMIT_S or bool(self._poll(False, 0.0))

    def receive(self) -> bytes:
        if not self._is_tls:
            self._wait(False)
        piece: bytes = self._attempt(self.sock.recv, PIECE_BYTES, False)
        return piece

    def send(self, request: bytes) -> None:
        left = memoryview(request)
        while left:
            left = left[self._attempt(self.sock.send, left, True) :]

    def _attempt(self, act: Callable[[Any], Any], argument: object, writes: bool) -> Any:
        while True:
            try:
                return act(argument)
            except OSError as error:
                kind = type(error).__name__
                if kind not in ("BlockingIOError", "SSLWantReadError", "SSLWantWriteError"):
                    raise
                self._wait(writes if kind == "BlockingIOError" else kind == "SSLWantWriteError")

    def _wait(self, writes: bool) -> None:
        while not self._poll(writes, _left(self.deadline)):
            pass

    def close(self) -> None:
        with contextlib.suppress(OSError):
            # Wakes a thread that still waits. Not SSLSocket's own shutdown: that would let it read ciphertext.
            socket.socket.shutdown(self.sock, socket.SHUT_RDWR)
        self.sock.close()


def _poller(sock: socket.socket) -> Callable[[bool, float], Any]:
    """A call that waits so many seconds until ``sock`` can be written to, or read from; falsy when it can't.
    select() alone can't watch descriptors over 1023."""
    if sys.platform != "win32" and hasattr(select, "poll"):
        readable, writable = select.poll(), select.poll()
        readable.register(sock, select.POLLIN)
        writable.register(sock, select.POLLOUT)
        return lambda writes, wait_s: (writable if writes else readable).poll(math.ceil(wait_s * 1000))
    return lambda writes, wait_s: any(select.select(() if writes else (sock,), (sock,) if writes else (), (), wait_s))


class Connection:
    """A connection to one origin, opened when it is first needed and again when it went stale."""

    def __init__(self, host: str, port: int, tls: ssl.SSLContext | None, proxy: Proxy | None) -> None:
        self._host = host
        self._port = port
        self._tls = tls
        self._proxy = proxy
        self._link: _Link | None = None
        self._was_sent = False  # some of a request, as is the next of this exchange alone
        self._broke_off: ConnectionError | None = None  # what ended the sending

    def begin(
        self, method: str, target: str, headers: Mapping[str, str], body: bytes | None, timeout_s: float
    ) -> Connection:
        """Send one request, once; :meth:`finish` must follow, and both are over within ``timeout_s``.

        Raises TransportError.
        """
        deadline = time.monotonic() + timeout_s
        self._was_sent, self._broke_off = False, None
        try:
            request = _encoded(method, target, headers, body)
            link = self._link
            if link is None or link.is_stale():
                self.close()
                link = self._link = self._open(min(deadline, time.monotonic() + CONNECT_S))
            link.deadline, link.is_owed = deadline, True
            self._was_sent = True
            try:
                link.send(request)
            except ConnectionError as error:
                # It stopped listening, maybe because it has answered: a 413 does not wait for the end.
                self._broke_off = error
            return self
        except BaseException as error:
            raise self._given_up(error) from None

    def finish(self, limit_bytes: int) -> Response:
        """The reply to what :meth:`begin` sent. Raises TransportError."""
        try:
            link, now = self._link, time.monotonic()
            if link is None:
                raise BadReplyError("the connection was closed")
            if link.deadline <= now:
                link.deadline = now + OVERTIME_S
            reply, keep = link.read(limit_bytes)
            link.used_at, link.is_owed = time.monotonic(), False
            if not keep or self._broke_off is not None:
                self.close()
            if reply.status == 407 and self._proxy:
                raise self._proxy.refused_us()
            if reply.status == 400 and self._tls and b"SSL certificate" in reply.body[:500]:  # nginx, before anything
                raise RefusedError("the server wants a client certificate that it knows", _CLIENT_CERTIFICATE)
            return reply
        except BaseException as error:
            raise self._given_up(error) from None

    def _given_up(self, error: BaseException) -> BaseException:
        """What to raise. Half an exchange is no state to go on from."""
        self.close()
        if not isinstance(error, (OSError, BadReplyError, ValueError)):
            return error
        cause = error if isinstance(error, RefusedError) else self._broke_off or error
        return _explained(cause, self._where(), self._was_sent)

    def close(self) -> None:
        """From another thread too: an exchange that is under way ends with an error."""
        link, self._link = self._link, None
        if link is not None:
            link.close()

    __del__ = close  # connections are kept by thread, and threads end

    def _where(self) -> str:
        where = _at(self._host, self._port)
        return f"{where} through the proxy {_at(self._proxy.host, self._proxy.port)}" if self._proxy else where

    def _open(self, deadline: float) -> _Link:
        first = (self._proxy.host, self._proxy.port) if self._proxy else (self._host, self._port)
        sock = _connect(*first, deadline)
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._tls is not None:
                if self._proxy:
                    self._tunnel_through(sock, self._proxy, deadline)
                sock.settimeout(_left(deadline))
                sock = self._tls.wrap_socket(sock, server_hostname=self._host)
            return _Link(sock, deadline)
        except BaseException:
            sock.close()
            raise

    def _tunnel_through(self, sock: socket.socket, proxy: Proxy, deadline: float) -> None:
        to = _at(self._host, self._port)
        headers = {"Host": to}
        if proxy.authorization:
            headers["Proxy-Authorization"] = proxy.authorization
        link = _Link(sock, deadline)
        link.send(_encoded("CONNECT", to, headers, None))
        _, status, _ = link.read_head()
        if status == 407:
            raise proxy.refused_us()
        if status != 200 or link.held:
            remedy = "check the host name and port" if status >= 500 else "ask for this host to be let through"
            raise RefusedError(f"the proxy answered CONNECT with {status}", remedy)


def _encoded(method: str, target: str, headers: Mapping[str, str], body: bytes | None) -> bytes:
    """The request's bytes. Raises ValueError, which quotes no header, for what would be another request."""
    if _NOT_IN_TARGET.search(target):
        raise ValueError("the address has characters that must be percent-encoded")
    lines = [f"{method} {target} HTTP/1.1"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    head = "\r\n".join(lines)
    if not len(lines) - 1 == head.count("\r") == head.count("\n") or "\0" in head:
        raise ValueError("a header has a line break in it")
    try:
        return f"{head}\r\n\r\n".encode("latin-1") + (body or b"")
    except UnicodeEncodeError:
        raise ValueError("a header has characters that can't be sent") from None


class _LookUps:
    """Name look-ups that a caller can give up on: getaddrinfo has no timeout, so each runs in a
    daemon thread. One thread a name, however many callers wait and however long it hangs."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # guards _pending
        self._pending: dict[tuple[str, int], concurrent.futures.Future[list[Any]]] = {}

    def addresses(self, host: str, port: int, deadline: float) -> list[Any]:
        try:
            ipaddress.ip_address(host)
            return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except ValueError:
            pass
        with self._lock:
            pending = self._pending.get((host, port))
            if pending is None:
                pending = concurrent.futures.Future()
                look_up = threading.Thread(
                    target=self._look_up, args=(host, port, pending), name="look-up", daemon=True
                )
                try:
                    look_up.start()
                except RuntimeError as error:  # no thread to be had: said now, tried again by the next caller
                    raise OSError(f"no name look-up: {error}") from None
                self._pending[host, port] = pending
        try:
            return pending.result(_left(deadline))
        except concurrent.futures.TimeoutError:
            raise TimeoutError("the name look-up timed out") from None

    def _look_up(self, host: str, port: int, answer: concurrent.futures.Future[list[Any]]) -> None:
        try:
            answer.set_result(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except Exception as error:
            answer.set_exception(error)
        with self._lock:
            del self._pending[host, port]


_look_ups = _LookUps()


def _connect(host: str, port: int, deadline: float) -> socket.socket:
    """Tries each address, with a fair share of the time: a dead one must not cost the living its turn."""
    last: OSError = OSError(f"{host} has no address")
    found = _look_ups.addresses(host, port, deadline)
    for tries_left, (family, kind, protocol, _, address) in zip(range(len(found), 0, -1), found):
        try:
            sock = socket.socket(family, kind, protocol)
        except OSError as error:  # a family that this machine lacks, or no descriptor left
            last = error
            continue
        try:
            sock.settimeout(_left(deadline) / tries_left)
            sock.connect(address)
            return sock
        except OSError as error:
            sock.close()
            last = error
    raise last


def _explained(error: Exception, where: str, sent: bool) -> TransportError:
    """The error as one sentence with a remedy; never the request, which holds a token."""
    if isinstance(error, RefusedError):
        return TransportError(f"{where}: {error.args[0]}", sent=False, hints=(error.args[1],))
    if isinstance(error, socket.gaierror):
        why = f"{where}: the name can't be looked up: {error.strerror}"
        return TransportError(why, sent=False, hints=("check the host name and DNS",))
    if isinstance(error, (TimeoutError, socket.timeout)):
        return TransportError(f"{where}: no answer in time", sent=sent)
    if isinstance(error, OSError) and type(error).__module__ == "ssl":
        return _tls_explained(error, where, sent)
    said = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return TransportError(f"{where}: {said}", sent=sent)


_CLIENT_CERTIFICATE = "set clientCert and clientKey to the PEM files that the platform's operators gave you"
_CA_FILE = "if your company has a certificate authority of its own, set caFile to its PEM file"
_DATES = "have it renewed, unless this machine's clock is wrong"
_NAME = "use the host name that the certificate is for, or have one issued for this name"
_STRICT = "have it, or its authority's, issued again as RFC 5280 says: Python 3.13 and later check that strictly"
# By OpenSSL's X509_V_ERR_ numbers; any other is _STRICT.
_REMEDIES = {**dict.fromkeys((2, 18, 19, 20, 21), _CA_FILE), 9: _DATES, 10: _DATES, 62: _NAME, 64: _NAME}


def _tls_explained(error: OSError, where: str, sent: bool) -> TransportError:
    why = getattr(error, "verify_message", "") or getattr(error, "reason", None) or str(error)
    if not hasattr(error, "verify_message"):
        hints = (_CLIENT_CERTIFICATE,) if "CERTIFICATE_REQUIRED" in why or "ALERT_UNKNOWN_CA" in why else ()
        return TransportError(f"{where}: TLS failed: {why}", sent=sent, hints=hints)
    remedy = _REMEDIES.get(getattr(error, "verify_code", 0), _STRICT)
    return TransportError(
        f"{where}: the server's certificate is not trusted: {why.rstrip('.')}",
        sent=False,
        code="tls-untrusted",
        hints=(remedy,),
    )

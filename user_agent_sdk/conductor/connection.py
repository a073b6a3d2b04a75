"""One persistent HTTP/1.1 connection, with a total deadline for each exchange.

The stock classes of ``http.client`` with three parts replaced: a reader that shrinks the socket's
timeout before every read (urllib's timeout is for each read, so a server that drips bytes could hold
a caller for ever), a response that parses only the headers that we use, and a connect that can give
up on a name look-up. Used by one thread at a time.
"""

from __future__ import annotations

import http.client
import io
import ipaddress
import queue
import select
import socket
import threading
import time
import zlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import PlatformError

if TYPE_CHECKING:
    import ssl

CONNECT_S = 10.0
IDLE_LIMIT_S = 30.0  # firewalls forget an idle connection without telling either end
PIECE_BYTES = 65536
_MAX_HEADERS = 100
_MAX_INTERIM = 8  # a server may send "100 Continue" as often as it likes; we don't listen as long


class TransportError(PlatformError):
    """There was no usable reply. ``sent`` is False when nothing can have reached the server."""

    def __init__(self, message: str, *, sent: bool, code: str = "platform-unreachable", hints: tuple[str, ...] = ()):
        super().__init__(message, code=code, hints=hints)
        self.sent = sent


class Response(NamedTuple):
    """A reply, its body read to the end and unpacked; header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def media_type(self) -> str:
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()


class Proxy(NamedTuple):
    """Where connections go first; ``authorization`` is a ready Proxy-Authorization value or None."""

    host: str
    port: int
    authorization: str | None

    def __repr__(self) -> str:
        return f"Proxy({self.host}:{self.port})"


class _SocketReader(io.RawIOBase):
    """The receiving half of a socket. Outside an exchange (``deadline`` None) it has nothing to give."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self.deadline: float | None = None

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        if self.deadline is None:
            return None
        self._sock.settimeout(_left(self.deadline))
        return self._sock.recv_into(buffer)


def _left(deadline: float) -> float:
    """Seconds until ``deadline`` (monotonic). Raises TimeoutError when there are none."""
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError("timed out")
    return left


class _Reply(http.client.HTTPResponse):
    """Reads status line and headers without building an email message of them, and leaves the
    connection's reader open for the next reply."""

    fields: dict[str, str]
    keep: bool

    def __init__(self, reader: Any, method: str | None) -> None:
        super().__init__(_Reader(reader), method=method)  # type: ignore[arg-type]

    def begin(self) -> None:
        for _ in range(_MAX_INTERIM):
            version, status, reason = self._read_status()  # type: ignore[attr-defined]
            fields = self._read_fields()
            if status >= 200 or status == 101:
                break
        else:
            raise http.client.HTTPException("more interim replies than one exchange may have")
        self.status = self.code = status
        self.reason = reason.strip()
        self.version = 10 if version == "HTTP/1.0" else 11
        self.fields = fields
        connection = fields.get("connection", "").lower()
        self.keep = "keep-alive" in connection if self.version == 10 else "close" not in connection
        self.chunked = fields.get("transfer-encoding", "").lower() == "chunked"
        self.chunk_left = None
        self.length = None if self.chunked else self._body_length(fields.get("content-length"))
        if self.length is None and not self.chunked:
            self.keep = False  # the body ends with the connection
        self.will_close = False  # stock code would close the socket before the body is read

    def _body_length(self, announced: str | None) -> int | None:
        if self.status in (204, 304) or self._method == "HEAD":  # type: ignore[attr-defined]
            return 0
        if announced is None:
            return None
        if not announced.isdecimal():
            raise http.client.HTTPException(f"Content-Length is {announced[:40]!r}")
        return int(announced)

    def _read_fields(self) -> dict[str, str]:
        fields: dict[str, str] = {}
        for _ in range(_MAX_HEADERS):
            line = self.fp.readline(PIECE_BYTES + 1)
            if len(line) > PIECE_BYTES:
                raise http.client.LineTooLong("header line")
            if line in (b"\r\n", b"\n"):
                return fields
            if not line:
                raise http.client.HTTPException("the connection closed within the headers")
            name, _, value = line.partition(b":")
            fields[name.decode("latin-1").lower()] = value.strip().decode("latin-1")
        raise http.client.HTTPException(f"more than {_MAX_HEADERS} headers")

    def _close_conn(self) -> None:
        self.fp = None  # type: ignore[assignment]

    def read_body(self, limit_bytes: int) -> bytes:
        """All of the body, unpacked. Raises HTTPException past ``limit_bytes`` or when it is cut off."""
        if self.length is not None:
            if self.length > limit_bytes:
                raise http.client.HTTPException(f"the reply announces {self.length} bytes, {limit_bytes} are allowed")
            body = self.fp.read(self.length) if self.length else b""
            if len(body) < self.length:
                raise http.client.IncompleteRead(body, self.length - len(body))
            self._close_conn()
        else:
            body = self._read_pieces(limit_bytes)
        encoding = self.fields.get("content-encoding", "identity").lower()
        if encoding == "identity" or not body:
            return body
        if encoding not in ("gzip", "x-gzip"):
            raise http.client.HTTPException(f"the reply is encoded as {encoding[:40]!r}, which was not asked for")
        return _gunzip(body, limit_bytes)

    def _read_pieces(self, limit_bytes: int) -> bytes:
        body = bytearray()
        while piece := self.read1(PIECE_BYTES):
            body += piece
            if len(body) > limit_bytes:
                raise http.client.HTTPException(f"the reply is over {limit_bytes} bytes")
        return bytes(body)


class _Reader:
    """What HTTPResponse expects of a socket: something that hands it the file to read from."""

    def __init__(self, reader: Any) -> None:
        self._reader = reader

    def makefile(self, mode: str) -> Any:
        return self._reader


def _gunzip(packed: bytes, limit_bytes: int) -> bytes:
    unpacker = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
    try:
        body = unpacker.decompress(packed, limit_bytes + 1)
    except zlib.error:
        raise http.client.HTTPException("the reply says gzip and is not") from None
    if len(body) > limit_bytes:
        raise http.client.HTTPException(f"the reply unpacks to more than {limit_bytes} bytes")
    if not unpacker.eof:
        raise http.client.HTTPException("the gzip reply is cut off")
    return body


class Connection(http.client.HTTPConnection):
    """A connection to one origin, opened when it is first needed and again when it went stale."""

    def __init__(self, host: str, port: int, tls: ssl.SSLContext | None, proxy: Proxy | None) -> None:
        super().__init__(host, port)
        self._tls = tls
        self._proxy = proxy
        self._raw: _SocketReader | None = None
        self._reader: Any = None
        self._used_at = 0.0
        self._is_readable: Any = None

    def exchange(
        self,
        method: str,
        target: str,
        headers: Mapping[str, str],
        body: bytes | None,
        timeout_s: float,
        limit_bytes: int,
    ) -> Response:
        """Send one request and read its reply, all within ``timeout_s``; never sends it twice.

        Raises TransportError.
        """
        deadline = time.monotonic() + timeout_s
        if self.sock is not None and self._is_stale():
            self.close()
        sent = False
        try:
            if self.sock is None:
                self._open(min(deadline, time.monotonic() + CONNECT_S))
            assert self._raw is not None
            self._raw.deadline = deadline
            self.sock.settimeout(_left(deadline))
            sent = True
            self.request(method, target, body, dict(headers))
            reply: Any = self.getresponse()
            content = reply.read_body(limit_bytes)
            self._raw.deadline = None
            self._used_at = time.monotonic()
        except (OSError, http.client.HTTPException, ValueError) as error:
            self.close()
            raise _explained(error, self._where(), sent) from None
        except BaseException:
            self.close()  # half an exchange is no state to go on from
            raise
        if not reply.keep:
            self.close()
        return Response(reply.status, reply.fields, content)

    def _where(self) -> str:
        where = f"{self.host}:{self.port}"
        return f"{where} through the proxy {self._proxy.host}:{self._proxy.port}" if self._proxy else where

    def _is_stale(self) -> bool:
        """Closed by the other end, or holding bytes that answer nothing we asked."""
        assert self._reader is not None
        if time.monotonic() - self._used_at > IDLE_LIMIT_S:
            return True
        return bool(self._reader.peek(1)) or bool(self._is_readable())

    def _open(self, deadline: float) -> None:
        first = (self._proxy.host, self._proxy.port) if self._proxy else (self.host, self.port)
        sock = _connect(*first, deadline)
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._tls is not None:
                if self._proxy:
                    self._tunnel_through(sock, self._proxy, deadline)
                sock.settimeout(_left(deadline))
                sock = self._tls.wrap_socket(sock, server_hostname=self.host)
        except BaseException:
            sock.close()
            raise
        self.sock = sock
        self._raw = _SocketReader(sock)
        self._reader = reader = io.BufferedReader(self._raw, PIECE_BYTES)
        self.response_class = lambda sock, method: _Reply(reader, method)  # type: ignore[assignment]
        self._is_readable = _readable_probe(sock)

    def _tunnel_through(self, sock: socket.socket, proxy: Proxy, deadline: float) -> None:
        host = f"[{self.host}]" if ":" in self.host else self.host
        lines = [f"CONNECT {host}:{self.port} HTTP/1.1", f"Host: {host}:{self.port}"]
        if proxy.authorization:
            lines.append(f"Proxy-Authorization: {proxy.authorization}")
        sock.settimeout(_left(deadline))
        sock.sendall(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1"))
        raw = _SocketReader(sock)
        raw.deadline = deadline
        reply = _Reply(io.BufferedReader(raw, 1), "CONNECT")  # not a byte more than the reply: TLS follows it
        reply.begin()
        if reply.status == 407:
            raise ProxyError(
                "the proxy wants a user name and a password", "set proxy to http://USER:PASSWORD@HOST:PORT"
            )
        if reply.status != 200:
            raise ProxyError(f"the proxy answered {reply.status} {reply.reason}", "ask for this host to be let through")

    def close(self) -> None:
        super().close()
        self._raw = self._reader = self._is_readable = None


class ProxyError(OSError):
    """A proxy refused to connect us; the second argument is what to do about it."""


def _readable_probe(sock: socket.socket) -> Any:
    """A call that tells whether ``sock`` has something to read, at once. A connection at rest has
    nothing: what it can have is its end. select() alone can't watch descriptors over 1023."""
    if hasattr(select, "poll"):
        poller = select.poll()
        poller.register(sock, select.POLLIN)
        return lambda: poller.poll(0)
    return lambda: select.select([sock], [], [], 0)[0]


class _LookUps:
    """Name look-ups that a caller can give up on: getaddrinfo has no timeout, so each runs in a
    daemon thread. One thread a name, however many callers wait and however long it hangs."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # guards _waiting
        self._waiting: dict[tuple[str, int], list[queue.SimpleQueue[Any]]] = {}

    def addresses(self, host: str, port: int, deadline: float) -> list[Any]:
        try:
            ipaddress.ip_address(host)
            return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except ValueError:
            pass
        answer: queue.SimpleQueue[Any] = queue.SimpleQueue()
        with self._lock:
            waiting = self._waiting.setdefault((host, port), [])
            waiting.append(answer)
            first = len(waiting) == 1
        if first:
            threading.Thread(target=self._look_up, args=(host, port), name="look-up", daemon=True).start()
        try:
            found = answer.get(timeout=_left(deadline))
        except queue.Empty:
            raise TimeoutError("the name look-up timed out") from None
        if isinstance(found, BaseException):
            raise found
        return list(found)

    def _look_up(self, host: str, port: int) -> None:
        found: Any
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            found = error
        with self._lock:
            waiting = self._waiting.pop((host, port), [])
        for answer in waiting:
            answer.put(found)


_look_ups = _LookUps()


def _connect(host: str, port: int, deadline: float) -> socket.socket:
    last: OSError = OSError(f"{host} has no address")
    for family, kind, protocol, _, address in _look_ups.addresses(host, port, deadline):
        sock = socket.socket(family, kind, protocol)
        try:
            sock.settimeout(_left(deadline))
            sock.connect(address)
            return sock
        except OSError as error:
            sock.close()
            last = error
    raise last


def _explained(error: Exception, where: str, sent: bool) -> TransportError:
    """The error as one sentence with a remedy; never the request, which holds a token."""
    if isinstance(error, ProxyError):
        return TransportError(f"{where}: {error.args[0]}", sent=False, hints=(error.args[1],))
    if isinstance(error, socket.gaierror):
        return TransportError(f"{where}: the name is not known", sent=False, hints=("check the host name and DNS",))
    if isinstance(error, (TimeoutError, socket.timeout)):
        return TransportError(f"{where}: no answer in time", sent=sent)
    if isinstance(error, OSError) and type(error).__module__ == "ssl":
        return _tls_explained(error, where, sent)
    said = str(error) or type(error).__name__
    return TransportError(f"{where}: {said}", sent=sent)


def _tls_explained(error: OSError, where: str, sent: bool) -> TransportError:
    why = getattr(error, "verify_message", "") or getattr(error, "reason", None) or str(error)
    if not hasattr(error, "verify_message"):
        return TransportError(f"{where}: TLS failed: {why}", sent=sent)
    return TransportError(
        f"{where}: the server's certificate is not trusted: {why}",
        sent=False,
        code="tls-untrusted",
        hints=("if your company has a certificate authority of its own, set caFile to its PEM file",),
    )

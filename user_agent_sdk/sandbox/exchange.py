# SPDX-License-Identifier: Apache-2.0
"""HTTP/1.1 and JSON for the sandbox's server: requests read, replies written, bodies parsed.

A body is parsed strictly, since the real server is strict about a report's JSON.
"""

from __future__ import annotations

import json
import math
import re
import socket
from collections.abc import Mapping
from itertools import accumulate
from typing import Any, Callable, NamedTuple
from urllib.parse import parse_qsl

from ..conductor.reply import BadReplyError, Reader
from .tasks import ReportRefused

BODY_MAX_BYTES = 64 * 1024 * 1024
DEPTH_MAX = 1000
NUMBER_MAX_CHARS = 1000


class Request(NamedTuple):
    """``path`` is still percent-encoded; ``headers`` have their names in lower case, and the
    values of one that came several times are joined by commas."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes

    def number(self, name: str, default: int) -> int:
        """A whole number of the query. Raises ReportRefused."""
        text = self.query.get(name, "")
        try:
            return int(text) if text else default
        except ValueError:
            raise ReportRefused(500, f"Method parameter {name!r}: {text!r} is not a number") from None


class Reply(NamedTuple):
    """``head``: more header lines, each with its end."""

    status: int
    body: bytes = b""
    media_type: str = "application/json"
    head: str = ""

    @classmethod
    def of(cls, value: object, status: int = 200) -> Reply:
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
        return cls(status, text.encode("utf-8", "surrogatepass"))

    @classmethod
    def error(cls, status: int, message: str) -> Reply:
        """A refusal as Conductor words it: the client need not try again."""
        return cls.of({"status": status, "message": message, "instance": "sandbox", "retryable": False}, status)

    def encode(self, keep: bool) -> bytes:
        """The whole reply, for a single send."""
        from http import HTTPStatus  # urllib has loaded it
        head = f"HTTP/1.1 {self.status} {HTTPStatus(self.status).phrase}\r\n{self.head}"
        if self.status != 204:
            head += f"Content-Type: {self.media_type}\r\nContent-Length: {len(self.body)}\r\n"
        if not keep:
            head += "Connection: close\r\n"
        return f"{head}\r\n".encode() + self.body


class Requests(Reader):
    """Takes requests off a connection, one after the other."""

    first_line = re.compile(r"([A-Z]+) (/[!-~]*) HTTP/1\.(\d)\r?$")

    def __init__(self, connection: socket.socket) -> None:
        super().__init__()
        self._connection = connection

    def receive(self) -> bytes:
        piece = self._connection.recv(65536)
        if not piece:
            raise ConnectionError("the client has left")
        return piece

    def take(self) -> tuple[Request, bool]:
        """The next request, and whether another may follow it. Raises BadReplyError, ReportRefused, OSError."""
        if not self.held:
            self.held += self.receive()
        if not self.held[:1].isalpha():  # a TLS handshake, say, whose client would wait for an answer until its timeout
            raise BadReplyError("not an HTTP request")
        (method, target, minor), headers = self.read_head()
        if method not in ("GET", "POST", "PUT", "DELETE"):  # the last two are refused as the real server does
            raise ReportRefused(501, f"Unsupported method ({method!r})")
        if "transfer-encoding" in headers:
            raise ReportRefused(411, "a body needs a Content-Length")
        given = headers.get("content-length", "0")
        if not (given.isascii() and given.isdigit()):
            raise ReportRefused(400, "the Content-Length is not a number")
        length = int(given[:12])
        if length > BODY_MAX_BYTES:
            raise ReportRefused(413, f"the body is larger than {BODY_MAX_BYTES} bytes")
        if headers.get("expect", "").lower() == "100-continue":
            self._connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        path, _, query = target.partition("?")
        request = Request(method, path, dict(parse_qsl(query)), headers, self.exactly(length))
        return request, minor != "0" and "close" not in headers.get("connection", "").lower()


def serve(connection: socket.socket, handle: Callable[[Request], Reply | None]) -> None:
    """Answer a connection's requests until one side ends it; where ``handle`` returns None it is ended without a reply.
    Raises OSError when the client has left."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    requests, keep = Requests(connection), True
    while keep:
        try:
            request, keep = requests.take()
            reply = handle(request)
        except BadReplyError:
            reply, keep = Reply.error(400, "not an HTTP request, or too long"), False
        except ReportRefused as error:
            reply, keep = Reply.error(error.http_status, error.message), False
        if reply is None:
            return
        connection.sendall(reply.encode(keep))


def parse_object(body: bytes) -> dict[str, Any]:
    """A request's JSON object, read as the real server reads it: NaN, a depth over 1000 and numbers of more than 1000
    characters are refused, 1e400 becomes a text, a lone surrogate "?". Raises ReportRefused."""
    if not body:
        raise ReportRefused(500, "Required request body is missing")
    try:
        value = _DECODER.decode(body.decode("utf-8"))
        if body.count(b"[") + body.count(b"{") > DEPTH_MAX and _depth(body) > DEPTH_MAX:
            raise ValueError(f"Document nesting depth exceeds the maximum allowed ({DEPTH_MAX})")
        if b"\\ud" in body.lower():
            value = json.loads(json.dumps(value, ensure_ascii=False).encode("utf-8", "replace"))
    except (ValueError, RecursionError) as error:
        raise ReportRefused(500, f"JSON parse error: {error}") from None
    if not isinstance(value, dict):
        raise ReportRefused(500, "JSON parse error: an object is needed")
    return value


def _depth(body: bytes) -> int:
    """How deep a JSON text is nested."""
    outside = b"".join(body.replace(b"\\\\", b"").replace(b'\\"', b"").split(b'"')[::2])  # of its strings
    return max(accumulate((byte in b"[{") - (byte in b"]}") for byte in outside))


def _refuse_constant(text: str) -> None:
    raise ValueError(f"Non-standard token '{text}'")


def _short(text: str) -> str:
    if len(text) > NUMBER_MAX_CHARS:
        raise ValueError(f"Number value length ({len(text)}) exceeds the maximum allowed ({NUMBER_MAX_CHARS})")
    return text


def _parse_float(text: str) -> float | str:
    value = float(_short(text))
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    return value


_DECODER = json.JSONDecoder(
    parse_constant=_refuse_constant, parse_float=_parse_float, parse_int=lambda text: int(_short(text))
)

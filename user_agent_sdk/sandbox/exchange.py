"""HTTP/1.1 and JSON for the sandbox's server: requests read, replies written, bodies parsed.

By hand, since ``http.server`` parses headers with the ``email`` package, which costs more than all
the rest of an exchange; and strictly, since the real server is strict about a report's JSON.
"""

from __future__ import annotations

import json
import math
import socket
from collections.abc import Mapping
from functools import lru_cache
from http import HTTPStatus
from itertools import accumulate
from typing import Any, BinaryIO, NamedTuple
from urllib.parse import parse_qsl

from .tasks import ReportRefused

BODY_MAX_BYTES = 64 * 1024 * 1024
DEPTH_MAX = 1000
NUMBER_MAX_CHARS = 1000
_LINE_MAX_BYTES = 65536
_HEADERS_MAX = 100
_ENCODER = json.JSONEncoder(separators=(",", ":"))


class Request(NamedTuple):
    """``path`` is still percent-encoded; ``headers`` have their names in lower case."""

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
        return cls(status, _ENCODER.encode(value).encode())

    @classmethod
    def error(cls, status: int, message: str) -> Reply:
        """As Conductor words its refusals: whoever gets one need not try again."""
        return cls.of({"status": status, "message": message, "instance": "sandbox", "retryable": False}, status)

    def encode(self, keep: bool) -> bytes:
        """The whole reply, for a single send."""
        head = f"HTTP/1.1 {self.status} {HTTPStatus(self.status).phrase}\r\n{self.head}"
        if self.status != 204:
            head += f"Content-Type: {self.media_type}\r\nContent-Length: {len(self.body)}\r\n"
        if not keep:
            head += "Connection: close\r\n"
        return f"{head}\r\n".encode() + self.body


def read_request(stream: BinaryIO, connection: socket.socket) -> Request | None:
    """The next request, None at the end of the connection. Raises OSError, and ReportRefused for what is no
    request that can be answered: then the connection is of no more use."""
    line = stream.readline(_LINE_MAX_BYTES)
    if not line:
        return None
    try:
        method, target, version = line.decode("ascii").split()
    except ValueError:
        raise ReportRefused(400, "not an HTTP request") from None
    headers: dict[str, str] = {}
    while True:
        line = stream.readline(_LINE_MAX_BYTES)
        if line in (b"\r\n", b"\n"):
            break
        if not line.endswith(b"\n") or len(headers) == _HEADERS_MAX:
            raise ReportRefused(431, "the headers are cut short, or too large")
        name, _, value = line.decode("latin-1").partition(":")
        headers[name.lower()] = value.strip()
    if version != "HTTP/1.1":
        headers["connection"] = "close"
    path, query = _split(target)
    return Request(method, path, query, headers, _read_body(stream, connection, headers))


def _read_body(stream: BinaryIO, connection: socket.socket, headers: Mapping[str, str]) -> bytes:
    if "transfer-encoding" in headers:
        raise ReportRefused(411, "a body needs a Content-Length")
    given = headers.get("content-length", "0")
    if not (given.isascii() and given.isdigit()):
        raise ReportRefused(400, "the Content-Length is not a number")
    length = int(given[:12])
    if length > BODY_MAX_BYTES:
        raise ReportRefused(413, f"the body is larger than {BODY_MAX_BYTES} bytes")
    if length and headers.get("expect", "").lower() == "100-continue":
        connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
    body = stream.read(length) if length else b""
    if len(body) < length:
        raise ReportRefused(400, "the body is cut short")
    return body


@lru_cache(maxsize=1024)  # a worker polls the same few addresses for ever
def _split(target: str) -> tuple[str, Mapping[str, str]]:
    path, _, query = target.partition("?")
    return path, dict(parse_qsl(query))


def parse_object(body: bytes) -> dict[str, Any]:
    """A request's JSON object, read as the real server reads it: NaN, a depth over 1000 and numbers
    of more than 1000 characters are refused, 1e400 becomes a text, a lone surrogate "?".

    Raises ReportRefused.
    """
    if not body:
        raise ReportRefused(500, "Required request body is missing")
    try:
        value = _DECODER.decode(body.decode("utf-8"))
        if body.count(b"[") + body.count(b"{") > DEPTH_MAX and _depth(body) > DEPTH_MAX:
            raise RecursionError
        if b"\\ud" in body.lower():
            value = json.loads(json.dumps(value, ensure_ascii=False).encode("utf-8", "replace"))
    except ValueError as error:
        raise ReportRefused(500, f"JSON parse error: {error}") from None
    except RecursionError:
        message = f"JSON parse error: Document nesting depth exceeds the maximum allowed ({DEPTH_MAX})"
        raise ReportRefused(500, message) from None
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

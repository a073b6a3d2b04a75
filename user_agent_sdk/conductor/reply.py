# SPDX-License-Identifier: Apache-2.0
"""Reading one HTTP/1.1 reply off a stream of bytes that nobody vouches for.

Rules of this file: no socket, no clock, no thread. Where the bytes come from, and until when, is for whoever fills in
:meth:`Reader.receive`. Everything that a server could make endless is counted."""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import NamedTuple

from .. import logs
from ..errors import PlatformError

HEAD_LIMIT_BYTES = 65536
_MAX_INTERIM = 8  # a server may send "100 Continue" as often as it likes; we don't listen as long
_HEAD_END = re.compile(rb"\r?\n\r?\n")
_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,16})[ \t]*(?:;.*)?")


class TransportError(PlatformError):
    """There was no usable reply. ``sent`` is False when nothing can have reached the server."""

    def __init__(self, message: str, *, sent: bool, code: str = "platform-unreachable", hints: tuple[str, ...] = ()):
        super().__init__(message, code=code, hints=hints)
        self.sent = sent

    def __str__(self) -> str:
        """With the remedy: a log has one line for it."""
        return f"{self.message} ({self.hints[0]})" if self.hints else self.message


class BadReplyError(Exception):
    """The bytes received are no whole HTTP/1.1 reply, or exceed a limit."""


class Response(NamedTuple):
    """A reply, its body read to the end and unpacked; header names are in lower case, and the values
    of one that came several times are joined by commas."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def media_type(self) -> str:
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()


class Reader:
    """Takes replies off a stream, one after the other."""

    first_line = re.compile(r"HTTP/1\.(\d+)[ \t]+([1-9]\d\d)(?:[ \t]|\r?$)")

    def __init__(self) -> None:
        self.held = bytearray()  # received and not yet part of a reply; at rest there is nothing

    def receive(self) -> bytes:
        """The next bytes, b"" at the end of the stream."""
        raise NotImplementedError

    def read(self, limit_bytes: int) -> tuple[Response, bool]:
        """The next reply, and whether another can follow it. Raises BadReplyError, for a body over ``limit_bytes`` too
        (packed or unpacked)."""
        for _ in range(_MAX_INTERIM):
            (minor, text), fields = self.read_head()
            status = int(text)
            if status >= 200:
                break
        else:
            raise BadReplyError("more interim replies than one exchange may have")
        connection = fields.get("connection", "").lower()
        keep = "close" not in connection if minor != "0" else "keep-alive" in connection
        body, framed = self._body(status, fields, limit_bytes)
        reply = Response(status, fields, _unpacked(body, fields, limit_bytes))
        if not framed and reply.body[:1] in (b"{", b"["):
            try:
                json.loads(reply.body)
            except (ValueError, RecursionError):
                raise BadReplyError("the JSON is cut off, and nothing told its length") from None
        return reply, keep and framed

    def read_head(self) -> tuple[tuple[str, ...], Mapping[str, str]]:
        """The groups of ``first_line`` (HTTP/1.x's x, the status), and the header fields."""
        held = self.held
        seen = 0
        while (end := _HEAD_END.search(held, seen, HEAD_LIMIT_BYTES + 4)) is None:
            seen = max(len(held) - 3, 0)
            if seen > HEAD_LIMIT_BYTES:
                raise BadReplyError(f"the headers are over {HEAD_LIMIT_BYTES} bytes")
            self._receive_more("within the headers" if held else "without a reply")
        head = bytes(held[: end.start()])
        del held[: end.end()]
        return _parsed(head, self.first_line)

    def _body(self, status: int, fields: Mapping[str, str], limit_bytes: int) -> tuple[bytes, bool]:
        """The body as sent, and whether its end was told from within."""
        if status in (204, 304):
            return b"", True
        coding = fields.get("transfer-encoding", "identity").lower()
        announced = fields.get("content-length")
        if coding == "chunked":
            # With both lengths two readers may disagree about where the next reply begins: this connection ends.
            return self._chunks(limit_bytes), announced is None
        if coding != "identity":
            raise BadReplyError(f"Transfer-Encoding is {logs.redactor.brief(coding, 40)!r}")
        if announced is None:
            return self._rest(limit_bytes), False
        lengths = set(map(str.strip, announced.split(",")))
        length = lengths.pop()
        if lengths or not (length.isascii() and length.isdigit() and len(length) < 20):
            raise BadReplyError(f"Content-Length is {logs.redactor.brief(announced, 40)!r}")
        if int(length) > limit_bytes:
            raise BadReplyError(f"the reply announces {length} bytes, {limit_bytes} are allowed")
        return self.exactly(int(length)), True

    def _chunks(self, limit_bytes: int) -> bytes:
        body = bytearray()
        while True:
            line = self._line()
            size = _CHUNK_SIZE.fullmatch(line)
            if size is None:
                raise BadReplyError(f"a chunk's size is {logs.redactor.brief(line.decode('latin-1'), 40)!r}")
            count = int(size[1], 16)
            if count == 0:
                break
            if len(body) + count > limit_bytes:
                raise BadReplyError(f"the reply is over {limit_bytes} bytes")
            body += self.exactly(count)
            if self._line():
                raise BadReplyError("a chunk is longer than it says")
        trailers = 0
        while line := self._line():
            trailers += len(line)
            if trailers > HEAD_LIMIT_BYTES:
                raise BadReplyError(f"the trailers are over {HEAD_LIMIT_BYTES} bytes")
        return bytes(body)

    def _line(self) -> bytearray:
        held = self.held
        while (end := held.find(b"\n", 0, HEAD_LIMIT_BYTES + 1)) < 0:
            if len(held) > HEAD_LIMIT_BYTES:
                raise BadReplyError(f"a line is over {HEAD_LIMIT_BYTES} bytes")
            self._receive_more("within the body")
        line = held[:end].rstrip(b"\r")
        del held[: end + 1]
        return line

    def exactly(self, count: int) -> bytes:
        held = self.held
        while len(held) < count:
            self._receive_more(f"after {len(held)} of {count} bytes")
        body = bytes(held) if len(held) == count else bytes(held[:count])
        del held[:count]
        return body

    def _rest(self, limit_bytes: int) -> bytes:
        held = self.held
        while piece := self.receive():
            held += piece
            if len(held) > limit_bytes:
                raise BadReplyError(f"the reply is over {limit_bytes} bytes")
        body = bytes(held)
        held.clear()
        return body

    def _receive_more(self, where: str) -> None:
        piece = self.receive()
        if not piece:
            raise BadReplyError(f"the connection was closed {where}")
        self.held += piece


@lru_cache(maxsize=8)  # a busy server's heads differ in their Date alone, once a second
def _parsed(head: bytes, first_line: re.Pattern[str]) -> tuple[tuple[str, ...], Mapping[str, str]]:
    lines = head.decode("latin-1").split("\n")
    found = first_line.match(lines[0])
    if found is None:
        raise BadReplyError(f"the reply is not HTTP/1.1: it begins {logs.redactor.brief(lines[0], 40)!r}")
    fields: dict[str, str] = {}
    name = ""
    for line in lines[1:]:
        if line[:1] in (" ", "\t"):
            fields[name] = f"{fields.get(name, '')} {line.strip()}"
            continue
        name, _, value = line.partition(":")
        name = name.strip().lower()
        fields[name] = f"{fields[name]}, {value.strip()}" if name in fields else value.strip()
    return found.groups(), MappingProxyType(fields)


def _unpacked(body: bytes, fields: Mapping[str, str], limit_bytes: int) -> bytes:
    encoding = fields.get("content-encoding", "identity").lower()
    if encoding == "identity" or not body:
        return body
    if encoding not in ("gzip", "x-gzip"):
        raise BadReplyError(f"the reply is encoded as {logs.redactor.brief(encoding, 40)!r}, which was not asked for")
    unpacker = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
    try:
        unpacked = unpacker.decompress(body, limit_bytes + 1)
    except zlib.error:
        raise BadReplyError("the reply says gzip and is not") from None
    if len(unpacked) > limit_bytes:
        raise BadReplyError(f"the reply unpacks to more than {limit_bytes} bytes")
    if not unpacker.eof or unpacker.unused_data:
        raise BadReplyError("the gzip reply is cut off, or goes on after its end")
    return unpacked

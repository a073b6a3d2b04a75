# SPDX-License-Identifier: Apache-2.0
"""As much of HTTP/1.1 as a gateway in a test needs, without the price of http.server's header parsing."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Mapping, Sequence
from typing import BinaryIO, NamedTuple


class Request(NamedTuple):
    method: str
    path: str
    headers: Mapping[str, str]  # names in lower case
    body: bytes


class Reply(NamedTuple):
    status: int
    headers: Sequence[tuple[str, str]]
    body: bytes


def read_request(reader: BinaryIO, client: socket.socket) -> Request | None:
    """The next request; None at the end of the connection, or after one that can't be taken apart."""
    line = reader.readline(65537).decode("latin-1").split()
    if len(line) != 3 or line[2] != "HTTP/1.1":
        return None
    headers = {}
    while True:
        header = reader.readline(65537)
        if not header.endswith(b"\n"):
            return None
        name, colon, value = header.decode("latin-1").strip().partition(":")
        if not colon:
            break
        headers[name.lower()] = value.strip()
    if "transfer-encoding" in headers:
        client.sendall(render(Reply(411, [], b""), False))
        return None
    if headers.get("expect", "").lower() == "100-continue":
        client.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
    size_bytes = int(headers.get("content-length", "0"))
    body = reader.read(size_bytes)
    return Request(line[0], line[1], headers, body) if len(body) == size_bytes else None


def render(reply: Reply, keep: bool) -> bytes:
    lines = [f"HTTP/1.1 {reply.status} {http.client.responses.get(reply.status, 'Unknown')}"]
    lines += [f"{name}: {value}" for name, value in reply.headers]
    if reply.status != 204:
        lines.append(f"Content-Length: {len(reply.body)}")
    if not keep:
        lines.append("Connection: close")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1") + reply.body


def json_reply(status: int, value: object) -> Reply:
    return Reply(status, [("Content-Type", "application/json")], json.dumps(value).encode("utf-8"))

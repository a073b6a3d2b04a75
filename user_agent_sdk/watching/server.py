# SPDX-License-Identifier: Apache-2.0
"""The status port: a small HTTP server that a probe gets through to, however many others hold it open."""

from __future__ import annotations

import logging
import selectors
import socket
import threading
import time
from contextlib import closing, suppress
from typing import Callable, NamedTuple
from urllib.parse import urlsplit

from .. import forking
from ..credentials import is_loopback
from ..errors import UserAgentError

log = logging.getLogger(__name__)

REQUEST_S = 1.0  # for a client to send its request
SEND_S = 0.2  # for a reply, which mostly fits into the system's buffer: all other clients wait meanwhile
REQUEST_BYTES = 8192
REPLY_BYTES = 1 << 20  # of a reply that the system takes at once, where its own limit is not lower
CLIENTS_MAX = 200  # clients at once; the one that is silent longest makes room for the next
LOOK_S = 0.2  # how soon a closed server ends


class _Client(NamedTuple):
    """A connection whose request is not whole yet. ``deadline``: monotonic, in s."""

    connection: socket.socket
    deadline: float
    received: bytearray


class StatusServer:
    """One thread that reads from all its clients at once. ``address``: HOST:PORT; ``answer``: the HTTP status, media
    type and body for a path. Raises UserAgentError (io).

    On loopback a request must name a host of this machine: a page whose name was made to lead here reads nothing.
    """

    def __init__(self, address: str, answer: Callable[[str], tuple[str, str, str]]) -> None:
        host, _, port = address.rpartition(":")
        host = host.strip("[]")
        try:
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            self._listener = forking.ours(socket.create_server((host, int(port)), family=family))
        except OSError as error:
            hints = ["another program may have it: choose one with --status-port"]
            said = f"can't listen on {address}: {error.strerror or error}"
            raise UserAgentError(said, code="io", hints=hints) from None
        self._listener.setblocking(False)
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, REPLY_BYTES)  # its connections have it, too
        self.port: int = self._listener.getsockname()[1]
        self._is_local = is_loopback(host)
        self._answer = answer
        self._clients: dict[int, _Client] = {}  # by descriptor, the oldest first
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="status", daemon=True)
        self._thread.start()
        log.info("Status at %s:%d: /healthz /readyz /metrics", host, self.port, extra={"action": "status_port"})

    def close(self) -> None:
        self._closed.set()
        self._thread.join(2 * REQUEST_S)
        self._listener.close()

    def _serve(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._listener, selectors.EVENT_READ)
            while not self._closed.is_set():
                try:
                    for key, _ in selector.select(LOOK_S):
                        self._turn(selector, key.fd)
                    now = time.monotonic()  # to hang up on clients that had their time
                    for descriptor in [each for each, client in self._clients.items() if client.deadline < now]:
                        self._forget(selector, descriptor)
                except Exception:  # no more descriptors, no more memory: probes must be answered when there are again
                    log.debug("The status port stumbled", exc_info=True)
                    self._closed.wait(LOOK_S)
            for client in self._clients.values():
                client.connection.close()

    def _turn(self, selector: selectors.BaseSelector, descriptor: int) -> None:
        client = self._clients.get(descriptor)
        if client is None:
            self._welcome(selector)
            return
        try:
            received = client.connection.recv(REQUEST_BYTES)
            client.received.extend(received)
            if received and b"\r\n\r\n" not in client.received and len(client.received) < REQUEST_BYTES:
                return  # more is to come
            if received:
                client.connection.settimeout(SEND_S)
                client.connection.sendall(self._reply(bytes(client.received)))
        except BlockingIOError:  # nothing was there to be read
            return
        except OSError:  # the client has left
            pass
        self._forget(selector, descriptor)

    def _welcome(self, selector: selectors.BaseSelector) -> None:
        try:
            connection = forking.ours(self._listener.accept()[0])
        except (BlockingIOError, ConnectionError):  # the client has left already
            return
        connection.setblocking(False)
        if len(self._clients) >= CLIENTS_MAX:
            self._forget(selector, next(iter(self._clients)))
        self._clients[connection.fileno()] = _Client(connection, time.monotonic() + REQUEST_S, bytearray())
        selector.register(connection, selectors.EVENT_READ)

    def _forget(self, selector: selectors.BaseSelector, descriptor: int) -> None:
        with closing(self._clients.pop(descriptor).connection), suppress(KeyError, ValueError):
            selector.unregister(descriptor)

    def _reply(self, request: bytes) -> bytes:
        first, *fields = request.partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")
        words = first.split(" ")
        status, media_type, body = "405 Method Not Allowed", "text/plain", "GET and HEAD only\n"
        if self._is_local and not all(map(_is_of_this_machine, fields)):
            status, body = "421 Misdirected Request", "this port answers to the hosts localhost and 127.0.0.1\n"
        elif words[0] in ("GET", "HEAD") and len(words) == 3:
            try:
                status, media_type, body = self._answer(words[1].partition("?")[0])
            except Exception:
                log.exception("The status port failed to answer", extra={"action": "status_failed"})
                status, media_type, body = "500 Internal Server Error", "text/plain", "a bug; see the log\n"
        content = body.encode("utf-8", "replace")
        head = f"HTTP/1.1 {status}\r\nContent-Type: {media_type}\r\nContent-Length: {len(content)}\r\nConnection: close"
        return head.encode() + b"\r\n\r\n" + (b"" if words[0] == "HEAD" else content)


def _is_of_this_machine(field: str) -> bool:
    """False for a Host field that names another machine."""
    name, _, value = field.partition(":")
    try:
        return name.lower() != "host" or is_loopback(urlsplit(f"//{value.strip()}").hostname or "")
    except ValueError:
        return False

# SPDX-License-Identifier: Apache-2.0
"""Request -> Response: which connection, which proxy, which trust.

Of ``urllib.request`` only the search for proxies is used: its openers close the connection after every request. Here
connections stay, one a thread and origin, and another for each exchange that a thread has under way beside the first.
An audit hook sees a ``urllib.Request`` of each all the same. Nothing here repeats a request, follows a redirect or
opens anything but http and https.
"""

from __future__ import annotations

import base64
import ipaddress
import logging
import os
import sys
import threading
import urllib.request
import weakref
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import SplitResult, unquote, urlsplit

from .. import logs
from .._version import __version__
from ..credentials import is_loopback
from ..errors import ConfigError
from .connection import Connection, Proxy, TransportError, at
from .renewal import Trust
from .reply import Response

if TYPE_CHECKING:
    from .renewal import File

log = logging.getLogger(__name__)

__all__ = ["Response", "Transport", "TransportError", "is_loopback"]

REPLY_LIMIT_BYTES = 16 * 1024 * 1024
UNDER_WAY_MAX = 32  # exchanges of one thread with one origin
ADDRESSES_KEPT = 64  # by a thread: a worker needs two for each agent, and the token's
_HEADERS = {"User-Agent": f"user-agent-sdk/{__version__}", "Accept-Encoding": "gzip"}


class Transport:
    """Sends requests; safe to share between threads, each of which has connections of its own.

    ``proxy`` (a URL) serves every host that NO_PROXY does not name; without it the environment's or
    the system's proxies do, which never apply to loopback. ``ca_file`` is what is trusted instead of
    the system's authorities. Certificates are always verified.
    """

    def __init__(
        self, *, ca_file: File = None, client_cert: File = None, client_key: File = None, proxy: str | None = None
    ) -> None:
        self._trust = Trust(ca_file, client_cert, client_key)
        self._explicit_proxy = proxy
        self._mine = threading.local()  # of one thread: .ways by address, .connections by origin
        self._lock = threading.Lock()  # guards _all and _origins
        self._all: weakref.WeakSet[Connection] = weakref.WeakSet()  # weak: connections end with their threads
        self._origins: dict[tuple[str, str], _Origin] = {}

    def send(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        body: bytes | None = None,
        timeout_s: float,
        limit_bytes: int = REPLY_LIMIT_BYTES,
    ) -> Connection:
        """The first half of an exchange; the second is ``fetch()`` of what is returned, in the same thread, which may
        have others under way meanwhile. Both are over within ``timeout_s`` in all; any status is a Response.

        Both raise TransportError when there is no usable reply, this one ConfigError where :meth:`check` would.
        """
        ways: dict[str, _Way] = self._mine.__dict__.setdefault("ways", {})
        way = ways.get(url)
        if way is None:
            if len(ways) >= ADDRESSES_KEPT:
                ways.clear()
            way = ways[url] = self._way_to(url)
        headers = {**way.headers, **headers}
        if body is not None:
            headers["Content-Length"] = str(len(body))
        sys.audit("urllib.Request", url, body, headers, method)
        connection = self._free_connection(way)
        connection.send(method, way.target, headers, body, timeout_s, limit_bytes)
        return connection

    def check(self, url: str) -> Proxy | None:
        """The proxy on the way to ``url``, if any. Sends nothing; what passes here stays so.

        Raises ConfigError when nothing can be sent there: because of the address, the proxy, or the
        files of certificates.
        """
        origin = self._origin(_taken_apart(url))
        if origin.tls is not None:
            origin.tls.context()
        return origin.proxy

    def close(self) -> None:
        """Close every connection, those of other threads too: what they have under way fails."""
        with self._lock:
            connections = list(self._all)
            self._mine = threading.local()
        for connection in connections:
            connection.close()

    def _way_to(self, url: str) -> _Way:
        address = _taken_apart(url)
        origin, headers = self._origin(address), {**_HEADERS, "Host": address.netloc}
        target = (address.path or "/") + (f"?{address.query}" if address.query else "")
        if origin.proxy is not None and origin.tls is None:
            target = f"{address.scheme}://{address.netloc}{target}"
            if origin.proxy.authorization:
                headers["Proxy-Authorization"] = origin.proxy.authorization
        kept: dict[_Origin, list[Connection]] = self._mine.__dict__.setdefault("connections", {})
        return _Way(target, headers, origin, kept.setdefault(origin, []))

    def _free_connection(self, way: _Way) -> Connection:
        """One of the thread's own that owes no reply; of too many that do, the oldest was forgotten by its caller."""
        kept = way.connections
        for connection in kept:
            if not connection.is_busy:
                return connection
        connection = Connection(*way.origin)
        with self._lock:
            self._all.add(connection)
        del kept[: max(0, len(kept) + 1 - UNDER_WAY_MAX)]
        kept.append(connection)
        return connection

    def _origin(self, address: SplitResult) -> _Origin:
        """Raises ConfigError. Found out once, so that a worker that started well can't trip later."""
        place = address.scheme, address.netloc
        with self._lock:
            if place not in self._origins:
                tls = self._trust if address.scheme == "https" else None
                host, port = address.hostname or "", address.port or (443 if tls else 80)
                proxy = _proxy_for(address.scheme, host, port, self._explicit_proxy)
                self._origins[place] = _Origin(host, port, tls, proxy)
            return self._origins[place]


class _Origin(NamedTuple):
    """The server that an address leads to, and the way there."""

    host: str
    port: int
    tls: Trust | None
    proxy: Proxy | None


class _Way(NamedTuple):
    """What a thread's requests to one address have in common."""

    target: str
    headers: dict[str, str]
    origin: _Origin
    connections: list[Connection]  # the thread's own, to that origin


def _taken_apart(url: str) -> SplitResult:
    """Raises ConfigError, which does not show a password in it, for what is no address."""
    with suppress(ValueError):
        address = urlsplit(url)
        is_plain = url.isprintable() and "@" not in unquote(address.netloc)
        if address.scheme in ("http", "https") and address.hostname and address.port != 0 and is_plain:
            return address
    scheme, colon, rest = url.partition(":")
    shown = scheme + colon + rest.rpartition("@")[2]
    raise ConfigError(f"{shown[:200]!r} can't be used as an address", hints=("addresses are https://HOST/PATH",))


def _proxy_for(scheme: str, host: str, port: int, explicit: str | None) -> Proxy | None:
    """Which proxy a host is reached through. Raises ConfigError."""
    url = explicit
    if not url and not is_loopback(host):
        proxies = urllib.request.getproxies()
        url = proxies.get(scheme) or proxies.get("all")
        if url and not urllib.request.getproxies_environment():
            # The registry has no scheme; Python before 3.9.13 and 3.10.5 calls the http proxy for https an https one.
            url = url.replace("https://", "http://")
    return _parse_proxy(url) if url and not _is_bypassed(host, port) else None


def _is_bypassed(host: str, port: int) -> bool:
    """NO_PROXY as urllib reads it (names, suffixes, ports, ``*``; the system's list), and networks too."""
    with suppress(ValueError):  # a name
        address = ipaddress.ip_address(host)
        for entry in (os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or "").split(","):
            with suppress(ValueError):
                if address in ipaddress.ip_network(entry.strip().strip("[]"), strict=False):
                    return True
    return bool(urllib.request.proxy_bypass(at(host, port)))


def _parse_proxy(url: str) -> Proxy:
    """Raises ConfigError; its message never has the proxy's password."""
    scheme = host = None
    with suppress(ValueError):
        parts = urlsplit(url if "://" in url else f"http://{url}")
        scheme, host, port = parts.scheme, parts.hostname, parts.port or 80
        host = None if "%40" in (host or "") else host  # whose @ was escaped, behind a password
    if scheme != "http" or not host:
        raise ConfigError(
            f"the proxy {scheme}://{host or '?'} can't be used",
            hints=("a proxy is http://HOST:PORT or http://USER:PASSWORD@HOST:PORT; PAC and NTLM are not supported",),
        )
    authorization = None
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        logs.redactor.add(pair.partition(":")[2])  # the settings know only their own
        authorization = "Basic " + base64.b64encode(pair.encode("utf-8")).decode("ascii")
    return Proxy(host, port, authorization)

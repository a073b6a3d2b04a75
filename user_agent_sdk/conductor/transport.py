# SPDX-License-Identifier: Apache-2.0
"""Request -> Response over urllib: which connection, which proxy, which trust.

``urllib.request`` does addresses, proxies and the opening (so an audit hook sees each ``urllib.Request``); its own
handlers close the connection after every request, so that part is replaced by connections that stay: one a thread and
origin, and another for each exchange that a thread has under way beside the first. Nothing here repeats a request,
follows a redirect or opens anything but http and https."""

from __future__ import annotations

import base64
import ipaddress
import logging
import os
import threading
import urllib.request
import weakref
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import unquote, urlsplit

from .. import logs
from .._version import __version__
from ..credentials import is_loopback
from ..errors import ConfigError
from .connection import Connection, Proxy, at
from .renewal import Trust
from .reply import Response, TransportError

if TYPE_CHECKING:
    from .renewal import File

log = logging.getLogger(__name__)

__all__ = ["Response", "Transport", "TransportError", "is_loopback"]

REPLY_LIMIT_BYTES = 16 * 1024 * 1024
UNDER_WAY_MAX = 32  # exchanges of one thread with one origin
REQUESTS_KEPT = 64  # addresses a thread: a worker needs two for each agent, and the token's
_HEADERS = {"User-Agent": f"user-agent-sdk/{__version__}", "Accept-Encoding": "gzip"}


class Transport:
    """Sends requests; safe to share between threads, each of which has connections of its own.

    ``proxy`` (a URL) serves every host that NO_PROXY does not name; without it the environment's or the system's
    proxies do, which never apply to loopback. Certificates are always verified."""

    def __init__(
        self, *, ca_file: File = None, client_cert: File = None, client_key: File = None, proxy: str | None = None
    ) -> None:
        self._opener = urllib.request.OpenerDirector()
        self._opener.add_handler(_PersistentHandler())
        self._trust = Trust(ca_file, client_cert, client_key)
        self._explicit_proxy = proxy
        self._mine = threading.local()  # of one thread: .requests by address, .connections by origin
        self._lock = threading.Lock()  # guards _all and _origins
        self._all: weakref.WeakSet[Connection] = weakref.WeakSet()  # weak: connections end with their threads
        self._origins: dict[tuple[str, str], _Origin] = {}

    def send(
        self, method: str, url: str, *, headers: Mapping[str, str], body: bytes | None = None, timeout_s: float,
        limit_bytes: int = REPLY_LIMIT_BYTES,
    ) -> Connection:  # fmt: skip
        """The first half of an exchange; the second is ``fetch()`` of what is returned, in the same thread, which may
        have others under way meanwhile. Both are over within ``timeout_s`` in all (a large body has more, see
        :meth:`Connection.send`); any status is a Response.

        Both raise TransportError when there is no usable reply, this one ConfigError where :meth:`check` would."""
        requests: dict[str, _Request] = self._mine.__dict__.setdefault("requests", {})
        request = requests.get(url)
        if request is None:
            if len(requests) >= REQUESTS_KEPT:
                requests.clear()
            request = requests[url] = self._prepared(url)
        request.method, request.data, request.limit_bytes = method, body, limit_bytes
        request.headers = {**request.own_headers, **headers}
        if body is not None:
            request.headers["Content-Length"] = str(len(body))
        request.connection = self._free_connection(request)
        try:
            self._opener.open(request, timeout=timeout_s)
            return request.connection
        finally:
            request.data, request.headers = None, {}  # no secret outlives its exchange

    def check(self, url: str) -> Proxy | None:
        """The proxy on the way to ``url``, if any. Sends nothing; what passes here stays so. Raises ConfigError when
        nothing can be sent there: because of the address, the proxy, or the files of certificates."""
        request = _request(url)
        origin = self._origin(request.type, request.host)
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

    def _prepared(self, url: str) -> _Request:
        request = _request(url)
        origin = self._origin(request.type, request.host)
        kept: dict[_Origin, list[Connection]] = self._mine.__dict__.setdefault("connections", {})
        request.origin, request.connections = origin, kept.setdefault(origin, [])
        request.target = request.selector or "/"
        request.own_headers = {**_HEADERS, "Host": request.host}
        if origin.proxy is not None and origin.tls is None:
            request.target = f"{request.type}://{request.host}{request.target}"
            if origin.proxy.authorization:
                request.own_headers["Proxy-Authorization"] = origin.proxy.authorization
        return request

    def _free_connection(self, request: _Request) -> Connection:
        """One of the thread's own that owes no reply; of too many that do, the oldest was forgotten by its caller."""
        kept = request.connections
        for connection in kept:
            if not connection.is_busy:
                return connection
        connection = Connection(*request.origin)
        with self._lock:
            self._all.add(connection)
        del kept[: max(0, len(kept) + 1 - UNDER_WAY_MAX)]
        kept.append(connection)
        return connection

    def _origin(self, scheme: str, netloc: str) -> _Origin:
        """Raises ConfigError. Found out once, so that a worker that started well can't trip later."""
        with self._lock:
            if (scheme, netloc) not in self._origins:
                tls, parts = self._trust if scheme == "https" else None, urlsplit(f"//{netloc}")
                host, port = parts.hostname or "", parts.port or (443 if tls else 80)
                proxy = _proxy_for(scheme, host, port, self._explicit_proxy)
                self._origins[scheme, netloc] = _Origin(host, port, tls, proxy)
            return self._origins[scheme, netloc]


class _Request(urllib.request.Request):
    """An address and one thread's way to it, used again for each of its exchanges there."""

    origin: _Origin
    connections: list[Connection]  # the thread's own, to that origin
    connection: Connection  # on which the request goes out
    target: str
    own_headers: dict[str, str]
    timeout: float
    limit_bytes: int


class _PersistentHandler(urllib.request.BaseHandler):
    """Opens http and https over connections that are kept; replies are read from them, as they are."""

    def http_open(self, request: _Request) -> Connection:
        method, target, headers = request.get_method(), request.target, request.headers
        body: bytes | None = request.data  # type: ignore[assignment]
        request.connection.send(method, target, headers, body, request.timeout, request.limit_bytes)
        return request.connection

    https_open = http_open


def _request(url: str) -> _Request:
    """The address, taken apart. Raises ConfigError, which does not show a password in it."""
    with suppress(ValueError):
        request = _Request(url)
        place = urlsplit(f"//{request.host}")  # whose %2F and %3F are unquoted; None for an address without //
        is_whole = place.netloc == request.host and "@" not in place.netloc and url.isascii() and " " not in url
        if request.type in ("http", "https") and is_whole and place.hostname and place.port != 0:
            return request
    scheme, colon, rest = url.partition(":")
    shown = scheme + colon + rest.rpartition("@")[2]
    raise ConfigError(f"{shown[:200]!r} can't be used as an address", hints=("https://HOST/PATH, other signs as %XX",))


class _Origin(NamedTuple):
    """The server that an address leads to, and the way there."""

    host: str
    port: int
    tls: Trust | None
    proxy: Proxy | None


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
        has_password = "@" in unquote(parts.hostname or "") + parts.path + parts.query + parts.fragment
        scheme, host, port = parts.scheme, None if has_password else parts.hostname, parts.port or 80
    if scheme != "http" or not host:
        hint = "a proxy is http://HOST:PORT or http://USER:PASSWORD@HOST:PORT, other signs as %XX; no PAC, no NTLM"
        raise ConfigError(f"the proxy {scheme}://{host or '?'} can't be used", hints=(hint,))
    authorization = None
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        logs.redactor.add(pair.partition(":")[2])  # the settings know only their own
        authorization = "Basic " + base64.b64encode(pair.encode("utf-8")).decode("ascii")
    return Proxy(host, port, authorization)

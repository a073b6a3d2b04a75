"""Request -> Response over urllib: which connection, which proxy, which trust.

``urllib.request`` does addresses, headers and proxies; its own handlers close the connection after
every request, so that part is replaced by connections that stay, one a thread and origin. Nothing
here repeats a request, follows a redirect or opens anything but http and https.
"""

from __future__ import annotations

import base64
import ipaddress
import os
import threading
import urllib.request
import weakref
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import unquote, urlsplit

from .._version import __version__
from ..errors import ConfigError
from .connection import Connection, Proxy, TransportError
from .reply import Response

if TYPE_CHECKING:
    import ssl

__all__ = ["Response", "Transport", "TransportError", "is_loopback"]

REPLY_LIMIT_BYTES = 16 * 1024 * 1024
_HEADERS = {"User-Agent": f"user-agent-sdk/{__version__}", "Accept-Encoding": "gzip"}


class Transport:
    """Sends requests; safe to share between threads, each of which has connections of its own.

    ``proxy`` (a URL) serves every host that NO_PROXY does not name; without it the environment's or
    the system's proxies do, which never apply to loopback. ``ca_file`` is what is trusted instead of
    the system's authorities. Certificates are always verified.
    """

    def __init__(
        self,
        *,
        ca_file: str | None = None,
        client_cert: str | None = None,
        client_key: str | None = None,
        proxy: str | None = None,
    ) -> None:
        self._opener = urllib.request.OpenerDirector()
        self._opener.addheaders = []
        self._handler = _PersistentHandler(_Trust(ca_file, client_cert, client_key), proxy)
        self._opener.add_handler(self._handler)

    def send(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        body: bytes | None = None,
        timeout_s: float,
        limit_bytes: int = REPLY_LIMIT_BYTES,
    ) -> Response:
        """One exchange, over within ``timeout_s`` in all. Any status is a Response.

        Raises TransportError when there is no usable reply, ConfigError where :meth:`check` would.
        """
        request = _request(url, data=body, headers={**_HEADERS, **headers}, method=method)
        request.limit_bytes = limit_bytes  # type: ignore[attr-defined]
        reply: Any = self._opener.open(request, timeout=timeout_s)
        answer: Response = reply
        return answer

    def check(self, url: str) -> None:
        """Raises ConfigError when nothing can be sent to ``url``: because of its form, the proxy on the
        way, or the files of certificates. Sends nothing; what passes here stays so."""
        request = _request(url)
        self._handler.origin(request.type, request.host)

    def close(self) -> None:
        """Close every connection, those of other threads too: what they have under way fails."""
        self._handler.close_all()


def _request(url: str, **options: Any) -> urllib.request.Request:
    """Raises ConfigError, which does not show a password in the address."""
    try:
        request = urllib.request.Request(url, **options)  # noqa: S310
        if request.type in ("http", "https") and request.host and "@" not in request.host:
            return request
    except ValueError:
        pass
    scheme, colon, rest = url.partition(":")
    shown = scheme + colon + rest.rpartition("@")[2]
    raise ConfigError(f"{shown[:200]!r} can't be used as an address", hints=("addresses are https://HOST/PATH",))


class _Origin(NamedTuple):
    """Where an address leads."""

    host: str
    port: int
    tls: ssl.SSLContext | None
    proxy: Proxy | None


class _PersistentHandler(urllib.request.AbstractHTTPHandler):
    """Opens http and https over connections that are kept; replies come back as they are."""

    def __init__(self, trust: _Trust, explicit_proxy: str | None) -> None:
        super().__init__()
        self._trust = trust
        self._explicit_proxy = explicit_proxy
        self._mine = threading.local()
        self._lock = threading.Lock()  # guards _all and _origins
        self._all: weakref.WeakSet[Connection] = weakref.WeakSet()  # weak: they end with their threads
        self._origins: dict[tuple[str, str], _Origin] = {}

    http_request = urllib.request.AbstractHTTPHandler.do_request_
    https_request = urllib.request.AbstractHTTPHandler.do_request_

    def http_open(self, request: Any) -> Response:
        connection, proxy = self._connection("http", request.host)
        headers = {**request.headers, **request.unredirected_hdrs}
        target = request.selector
        if proxy is not None:
            target = request.full_url
            if proxy.authorization:
                headers["Proxy-Authorization"] = proxy.authorization
        return connection.exchange(request.method, target, headers, request.data, request.timeout, request.limit_bytes)

    def https_open(self, request: Any) -> Response:
        connection, _ = self._connection("https", request.host)
        headers = {**request.headers, **request.unredirected_hdrs}
        return connection.exchange(
            request.method, request.selector, headers, request.data, request.timeout, request.limit_bytes
        )

    def _connection(self, scheme: str, netloc: str) -> tuple[Connection, Proxy | None]:
        mine: dict[Any, tuple[Connection, Proxy | None]] = self._mine.__dict__
        known = mine.get((scheme, netloc))
        if known is None:
            origin = self.origin(scheme, netloc)
            known = mine[scheme, netloc] = (Connection(*origin), origin.proxy)
            with self._lock:
                self._all.add(known[0])
        return known

    def origin(self, scheme: str, netloc: str) -> _Origin:
        """Raises ConfigError. Found out once, so that a worker that started well can't trip later."""
        with self._lock:
            known = self._origins.get((scheme, netloc))
            if known is None:
                known = self._origins[scheme, netloc] = self._found_out(scheme, netloc)
            return known

    def _found_out(self, scheme: str, netloc: str) -> _Origin:
        try:
            parts = urlsplit(f"{scheme}://{netloc}")
            host, port = parts.hostname or "", parts.port
        except ValueError:
            host = ""
        if not host:
            raise ConfigError(f"{scheme}://{netloc} has no usable host and port")
        tls = self._trust.context() if scheme == "https" else None
        return _Origin(host, port or (443 if tls else 80), tls, _proxy_for(scheme, host, self._explicit_proxy))

    def close_all(self) -> None:
        with self._lock:
            connections = list(self._all)
            self._mine = threading.local()
        for connection in connections:
            connection.close()


class _Trust:
    """The TLS context, made when first needed: reading the system's authorities takes 20 ms.
    The handler's lock is held meanwhile."""

    def __init__(self, ca_file: str | None, client_cert: str | None, client_key: str | None) -> None:
        self._files = (ca_file, client_cert, client_key)
        self._context: ssl.SSLContext | None = None

    def context(self) -> ssl.SSLContext:
        if self._context is None:
            self._context = self._make()
        return self._context

    def _make(self) -> ssl.SSLContext:
        import ssl

        ca_file, client_cert, client_key = self._files
        context: ssl.SSLContext = _read("caFile", ca_file, lambda: ssl.create_default_context(cafile=ca_file))
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if client_cert:
            _read("clientCert", client_cert, lambda: context.load_cert_chain(client_cert, client_key, password=""))
        return context


def _read(name: str, path: str | None, load: Any) -> Any:
    try:
        return load()
    except (OSError, ValueError) as error:
        said = getattr(error, "strerror", None) or str(error)
        raise ConfigError(
            f"{name} {path}: {said}", hints=(f"{name} must be a readable PEM file, its key without a password",)
        ) from None


def _proxy_for(scheme: str, host: str, explicit: str | None) -> Proxy | None:
    """Which proxy a host is reached through. Raises ConfigError."""
    if explicit:
        return None if _is_bypassed(host) else _parse_proxy(explicit)
    if is_loopback(host) or _is_bypassed(host):
        return None
    proxies = urllib.request.getproxies()
    url = proxies.get(scheme) or proxies.get("all")
    return _parse_proxy(url) if url else None


def _is_bypassed(host: str) -> bool:
    """NO_PROXY as urllib reads it (names, suffixes, ``*``; the system's list), and networks too."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return bool(urllib.request.proxy_bypass(host))
    for entry in (os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or "").split(","):
        try:
            if address in ipaddress.ip_network(entry.strip().strip("[]"), strict=False):
                return True
        except ValueError:
            continue
    return bool(urllib.request.proxy_bypass(host))


def _parse_proxy(url: str) -> Proxy:
    """Raises ConfigError; its message never has the proxy's password."""
    scheme = host = None
    port = 80
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        scheme, host, port = parts.scheme, parts.hostname, parts.port or port
    except ValueError:
        pass
    if scheme != "http" or not host:
        raise ConfigError(
            f"the proxy {scheme}://{host or '?'} can't be used",
            hints=("a proxy is http://HOST:PORT or http://USER:PASSWORD@HOST:PORT; PAC and NTLM are not supported",),
        )
    authorization = None
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        authorization = "Basic " + base64.b64encode(pair.encode("utf-8")).decode("ascii")
    return Proxy(host, port, authorization)


def is_loopback(host: str) -> bool:
    """True for ``localhost`` and loopback addresses: what never leaves this machine."""
    if host.lower().rstrip(".") == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False

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
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from .._version import __version__
from ..errors import ConfigError
from .connection import Connection, Proxy, Response, TransportError

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
        self._handler = _PersistentHandler(_Trust(ca_file, client_cert, client_key), _Routes(proxy))
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

        Raises TransportError when there is no usable reply, ConfigError for an unusable CA file.
        """
        request = urllib.request.Request(url, data=body, headers={**_HEADERS, **headers}, method=method)  # noqa: S310
        request.limit_bytes = limit_bytes  # type: ignore[attr-defined]
        reply: Any = self._opener.open(request, timeout=timeout_s)
        if reply is None:
            raise ConfigError(f"{urlsplit(url).scheme}: addresses can't be used", hints=("use https",))
        answer: Response = reply
        return answer

    def close(self) -> None:
        """Close every connection, those of other threads too."""
        self._handler.close_all()


class _PersistentHandler(urllib.request.AbstractHTTPHandler):
    """Opens http and https over connections that are kept; replies come back as they are."""

    def __init__(self, trust: _Trust, routes: _Routes) -> None:
        super().__init__()
        self._trust = trust
        self._routes = routes
        self._mine = threading.local()
        self._lock = threading.Lock()  # guards _all
        self._all: list[Connection] = []

    http_request = urllib.request.AbstractHTTPHandler.do_request_
    https_request = urllib.request.AbstractHTTPHandler.do_request_

    def http_open(self, request: urllib.request.Request) -> Response:
        return self._exchange(request, "http")

    def https_open(self, request: urllib.request.Request) -> Response:
        return self._exchange(request, "https")

    def _exchange(self, request: Any, scheme: str) -> Response:
        connection, proxy = self._connection(scheme, request.host)
        target = request.selector
        headers = {**request.headers, **request.unredirected_hdrs}
        if proxy is not None and scheme == "http":
            target = request.full_url
            if proxy.authorization:
                headers["Proxy-Authorization"] = proxy.authorization
        return connection.exchange(
            request.get_method(), target, headers, request.data, request.timeout, request.limit_bytes
        )

    def _connection(self, scheme: str, netloc: str) -> tuple[Connection, Proxy | None]:
        mine: dict[Any, tuple[Connection, Proxy | None]] = self._mine.__dict__
        known = mine.get((scheme, netloc))
        if known is None:
            parts = urlsplit(f"{scheme}://{netloc}")
            host = parts.hostname or ""
            proxy = self._routes.proxy_for(scheme, host)
            secure = scheme == "https"
            port = parts.port or (443 if secure else 80)
            connection = Connection(host, port, self._trust.context() if secure else None, proxy)
            known = mine[(scheme, netloc)] = (connection, proxy)
            with self._lock:
                self._all.append(connection)
        return known

    def close_all(self) -> None:
        with self._lock:
            connections, self._all = self._all, []
        for connection in connections:
            connection.close()
        self._mine = threading.local()


class _Trust:
    """The TLS context, made when first needed: reading the system's authorities takes 20 ms."""

    def __init__(self, ca_file: str | None, client_cert: str | None, client_key: str | None) -> None:
        self._files = (ca_file, client_cert, client_key)
        self._lock = threading.Lock()  # guards _context
        self._context: ssl.SSLContext | None = None

    def context(self) -> ssl.SSLContext:
        with self._lock:
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


class _Routes:
    """Which proxy a host is reached through. Looked up once an origin and thread."""

    def __init__(self, proxy: str | None) -> None:
        self._explicit = proxy

    def proxy_for(self, scheme: str, host: str) -> Proxy | None:
        if self._explicit:
            return None if _is_bypassed(host) else _parse_proxy(self._explicit)
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
    parts = urlsplit(url if "://" in url else f"http://{url}")
    try:
        host, port = parts.hostname, parts.port or 3128
    except ValueError:
        host, port = None, 0
    if parts.scheme != "http" or not host:
        raise ConfigError(
            f"the proxy {parts.scheme}://{host or '?'} can't be used",
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

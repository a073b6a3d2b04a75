# SPDX-License-Identifier: Apache-2.0
"""Secrets and certificates that are replaced while a worker runs: read again, without a restart."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Callable

from .. import logs
from ..errors import ConfigError

if TYPE_CHECKING:
    import ssl

    File = Path | str | None

log = logging.getLogger(__name__)

LOOK_S = 60.0  # files are looked at no oftener, unless something was refused


class Files:
    """Tells when one of these files has become another. For one thread at a time."""

    def __init__(self, *paths: File, clock: Callable[[], float] = time.monotonic) -> None:
        self.paths = [path for path in paths if path]
        self._clock = clock
        self._seen = self._look()
        self._looked_at = clock()
        self._said = ""

    def are_replaced(self, at_once: bool) -> bool:
        """True once after each change; unless ``at_once``, looks no oftener than once in LOOK_S."""
        now = self._clock()
        if not self.paths or not (at_once or now - self._looked_at >= LOOK_S):
            return False
        self._looked_at = now
        before, self._seen = self._seen, self._look()
        self._said = "" if before else self._said
        return self._seen != before

    def are_unusable(self, why: str) -> None:
        """Say so, once for each reason; the next look tells of a change again."""
        self._seen = []
        if why != self._said:
            self._said = why
            log.warning("%s", why, extra={"action": "reread"})

    def _look(self) -> list[tuple[int, int, int, int]]:
        seen = []
        for path in self.paths:
            with contextlib.suppress(OSError):
                found = os.stat(path)  # through links: Kubernetes replaces a folder's worth of them by changing one
                seen.append((found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns))
        return seen


class Secret:
    """A client's secret as its file has it. ``read`` may raise ConfigError. For one thread at a time, or
    two when one's request for a token hangs: of a new secret the second may miss the very first moment."""

    def __init__(self, value: str, files: Files | None = None, read: Callable[[], str] | None = None) -> None:
        self.value = value
        self._files = files or Files()
        self._read = read

    def is_renewed(self, at_once: bool = False) -> bool:
        """Read it again if its file was replaced; True when it is another one now."""
        if self._read is None or not self._files.are_replaced(at_once):
            return False
        try:
            value = self._read()
        except (ConfigError, OSError) as error:
            self._files.are_unusable(f"The secret can't be read again: {error}; the old one is used")
            return False
        if not value or value == self.value:
            return False
        logs.redactor.add(value)
        self.value = value
        log.info("The client's secret was read again: its file was replaced", extra={"action": "reread"})
        return True


class Trust:
    """The TLS context of all connections: made when first needed, and again when a file of it was replaced.
    ``ca_file``: whom to trust instead of the system's authorities."""

    def __init__(self, ca_file: File, client_cert: File, client_key: File) -> None:
        self._named = {"caFile": ca_file, "clientCert": client_cert, "clientKey": client_key}
        self._lock = threading.Lock()  # guards the three below; held while files are read
        others = None if ca_file else os.environ.get("SSL_CERT_FILE") or bundle()
        self._others = os.path.abspath(others) if others else None  # now: a script may change the folder
        self._is_system = not ca_file and (not others or bool(os.environ.get("SSL_CERT_FILE")))
        self._files = Files(*self._named.values(), self._others)
        self._context: ssl.SSLContext | None = None
        self._is_doubted = False

    def context(self) -> ssl.SSLContext:
        """Raises ConfigError for files that can't be used, the first time; later it goes on with what it has."""
        with self._lock:
            if self._context is None:
                self._context = self._made()
            elif self._files.are_replaced(self._is_doubted):
                try:
                    self._context = self._made()
                except ConfigError as error:
                    self._files.are_unusable(f"{error}; the old certificates are used")
                else:
                    names = ", ".join(map(str, self._files.paths))
                    log.info("Certificates were read again: %s", names, extra={"action": "reread"})
            self._is_doubted = False
            return self._context

    def doubt(self) -> None:
        """TLS has failed: the files are looked at before the next connection."""
        self._is_doubted = True

    def _made(self) -> ssl.SSLContext:
        """Reading the system's authorities takes 20 ms."""
        import ssl

        ca_file, cert, key = self._named.values()
        if not ca_file and (absent := absent_cert_file()):
            log.warning("SSL_CERT_FILE names a file that does not exist: %s", absent, extra={"action": "no_cert_file"})
        # Not ssl.create_default_context(): that writes the keys of all sessions to the file that SSLKEYLOGFILE names.
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if sys.version_info >= (3, 13):
            context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN | ssl.VERIFY_X509_STRICT
        with _readable("caFile" if ca_file else "certificate authorities", ca_file or self._others or "of the system"):
            if self._is_system:
                context.load_default_certs()
            if ca_file:
                context.load_verify_locations(ca_file)
            elif self._others and (self._context or not self._is_system):  # the first time OpenSSL's own way is enough
                context.load_verify_locations(**{"capath" if os.path.isdir(self._others) else "cafile": self._others})
        if cert:
            with _readable("clientCert", cert):
                context.load_cert_chain(cert, key, password="")
        return context


def bundle() -> str | None:
    """The certificates that requests and curl would trust, where neither caFile nor SSL_CERT_FILE names any."""
    own = [] if os.environ.get("SSL_CERT_FILE") else ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"]
    named = [os.environ.get(name) for name in own]
    return next((path for path in named if path and os.path.exists(path)), None)


def absent_cert_file() -> str | None:
    """What SSL_CERT_FILE names, if it does not exist: OpenSSL passes over that in silence."""
    named = os.environ.get("SSL_CERT_FILE")
    return named if named and not os.path.isfile(named) else None


@contextlib.contextmanager
def _readable(name: str, path: File) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError) as error:
        said = getattr(error, "strerror", None) or str(error)
        hint = f"{name} must be a readable PEM file, its key without a password"
        raise ConfigError(f"{name} {path}: {said}", hints=(hint,)) from None

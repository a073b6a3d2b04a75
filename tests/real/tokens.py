# SPDX-License-Identifier: Apache-2.0
"""The gateway's check of a Bearer token: RS256 with the public keys of Keycloak, by ``pow`` alone."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import threading
import time
from collections.abc import Collection
from typing import Any, Callable

# DER of DigestInfo for SHA-256 (RFC 8017, 9.2): what stands before the hash in a signature.
_DIGEST_INFO = bytes.fromhex("3031300d060960864801650304020105000420")


def decode(part: str) -> bytes:
    """Base64url without padding, as in a JWT. Raises ValueError."""
    return base64.b64decode(part + "=" * (-len(part) % 4), altchars=b"-_", validate=True)


def encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def signed(signing_input: bytes, signature: bytes, modulus: int, exponent: int) -> bool:
    """Whether ``signature`` is RSASSA-PKCS1-v1_5 with SHA-256 of ``signing_input``."""
    size_bytes = (modulus.bit_length() + 7) // 8
    if len(signature) != size_bytes:
        return False
    tail = b"\x00" + _DIGEST_INFO + hashlib.sha256(signing_input).digest()
    expected = b"\x00\x01" + b"\xff" * (size_bytes - 2 - len(tail)) + tail
    opened = pow(int.from_bytes(signature, "big"), exponent, modulus).to_bytes(size_bytes, "big")
    return hmac.compare_digest(opened, expected)


class TokenCheck:
    """Says whether an Authorization header is good; asks ``fetch_keys`` (the JWKS) once a new key id appears."""

    def __init__(
        self,
        fetch_keys: Callable[[], dict[str, Any]],
        issuer: str,
        clients: Collection[str],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._fetch_keys = fetch_keys
        self._issuer = issuer
        self._clients = clients
        self._clock = clock
        self._lock = threading.Lock()  # guards _keys and _good
        self._keys: dict[str, tuple[int, int]] = {}
        self._good: dict[str, float] = {}  # token -> its expiry, epoch seconds: each signature is checked once

    def refusal(self, authorization: str) -> str | None:
        """None for a good token, else the platform's word for what is wrong with it."""
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer":
            return "INVALID_TOKEN"
        with self._lock:
            expires = self._good.get(token)
        if expires is None:
            try:
                expires = self._verified(token)
            except (ValueError, KeyError, TypeError, AttributeError):
                return "INVALID_TOKEN"
            with self._lock:
                self._good[token] = expires
        return None if self._clock() < expires else "EXPIRED_TOKEN"

    def _verified(self, token: str) -> float:
        """The expiry of a token that Keycloak signed for one of the clients; ValueError or KeyError otherwise."""
        head, body, signature = token.split(".")
        header = json.loads(decode(head))
        if header["alg"] != "RS256":
            raise ValueError("not RS256")
        modulus, exponent = self._key(header["kid"])
        if not signed(f"{head}.{body}".encode("ascii"), decode(signature), modulus, exponent):
            raise ValueError("the signature is not Keycloak's")
        claims = json.loads(decode(body))
        if claims["iss"] != self._issuer or claims["azp"] not in self._clients or claims["typ"] != "Bearer":
            raise ValueError("not a token for this service")
        return float(claims["exp"])

    def _key(self, key_id: str) -> tuple[int, int]:
        with self._lock:
            known = self._keys.get(key_id)
        if known is not None:
            return known
        keys = {
            key["kid"]: (int.from_bytes(decode(key["n"]), "big"), int.from_bytes(decode(key["e"]), "big"))
            for key in self._fetch_keys()["keys"]
            if key["kty"] == "RSA" and key.get("use") == "sig"
        }
        with self._lock:
            self._keys = keys
        return keys[key_id]

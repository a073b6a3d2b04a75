# SPDX-License-Identifier: Apache-2.0
"""Who an agent is and where its platform is, as 0.2.0 and 0.3.0 had that: ValueError for what is no base URL."""

from __future__ import annotations

from ..credentials import derived


def generate_service_url(base_url: str) -> str:
    return derived(base_url)[0]


def generate_auth_url(base_url: str) -> str:
    return derived(base_url)[1]


class AuthenticationSettings:
    def __init__(self, key_id: str | None = None, key_secret: str | None = None, auth_url: str | None = None) -> None:
        self.key_id, self.key_secret, self.auth_url = key_id, key_secret, auth_url


class Credentials(AuthenticationSettings):
    """The third argument is 0.2.0's auth_url or 0.3.0's base_url."""

    def __init__(
        self, client_id: str, client_secret: str, auth_url: str | None = None, base_url: str | None = None
    ) -> None:
        if auth_url is not None and "/realms/" not in auth_url:
            auth_url, base_url = None, base_url or auth_url
        self.base_url = base_url and base_url.rstrip("/")
        super().__init__(client_id, client_secret, generate_auth_url(base_url) if base_url else auth_url)

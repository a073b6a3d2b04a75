# SPDX-License-Identifier: Apache-2.0
"""The way to the platform that the settings describe."""

from __future__ import annotations

from ..conductor.auth import TokenSource, client_credentials, conductor_key
from ..conductor.client import Client
from ..conductor.paths import DIALECTS
from ..conductor.renewal import Files, Secret
from ..conductor.transport import Transport
from ..settings import Settings


def connect(settings: Settings) -> tuple[Transport, Client]:
    """What is to be closed, and the client that ``settings`` describe. Opens no connection. Raises ConfigError."""
    transport = Transport(
        ca_file=settings.ca_file, client_cert=settings.client_cert, client_key=settings.client_key, proxy=settings.proxy
    )
    auth: TokenSource | None = None
    if settings.client_id and settings.client_secret and settings.auth_url:
        files = Files(settings.config_file, settings.client_secret_file)
        secret = Secret(settings.client_secret, files, settings.again)
        auth = client_credentials(transport, settings.auth_url, settings.client_id, secret)
    elif settings.auth_key and settings.auth_secret:
        auth = conductor_key(transport, settings.service_url, settings.auth_key, settings.auth_secret)
    return transport, Client(transport, DIALECTS[settings.platform], settings.service_url, auth)

# SPDX-License-Identifier: Apache-2.0
"""credentials.json: where it is looked for, how it is read, and which addresses may get its secret. ``settings``
declares the keys; this module knows the file and the URLs."""

from __future__ import annotations

import ipaddress
import json
import os
import re
import stat
import sys
from collections.abc import Collection, Mapping, MutableMapping
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urlsplit

from . import earlier
from .errors import ConfigError, is_hidden, json_advice, nearest, nearest_file
from .values import Secret, plain, secret

DEFAULT_BASE_URL = "https://next.akabot.io"
FILE_MAX_BYTES = 1_000_000
FILE_NAME = "credentials.json"

Layer = MutableMapping[str, tuple[Any, str]]  # setting -> (value, source)

_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9.])?|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*")  # a name, or IPv6
_NUMERIC = re.compile(r"[0-9.]+|.*:.*")


def url(text: str) -> str:
    """An http(s) address without user, query or fragment; a closing slash is cut. A message never repeats an address
    that may carry a password."""
    parts = _split(plain(text))
    if "@" in parts.netloc:
        raise ValueError("must not carry a user name or password")
    if parts.query or parts.fragment or text.strip().endswith(("?", "#")):
        raise ValueError("must not have a query or fragment")
    return parts.geturl().rstrip("/")


def proxy(text: str) -> Secret:
    """``[http://][user:password@]host:port``; whole in a Secret, for the password in it."""
    text = plain(text)
    parts = _split(text if "://" in text else "http://" + text, is_secret=True)
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        raise ValueError("must be no more than http://host:port")
    return Secret(parts.geturl().rstrip("/"))


def _split(text: str, is_secret: bool = False) -> SplitResult:
    shown = "an address that may have a password in it" if is_secret or "@" in text or "%40" in text else repr(text)
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise ValueError("is not an address: look at its port and its brackets") from None
    if parts.scheme not in ("http", "https"):
        where = "on this machine, for a Conductor or a proxy"
        raise ValueError(f"must begin with https:// (or http://, {where}), not {shown}")
    if port == 0 or not _HOST.fullmatch(parts.hostname or "") or any(c in text for c in " \\"):
        raise ValueError(f"has no usable host or port: {shown}")
    return parts


def derived(base_url: str) -> tuple[str, str]:
    """serviceUrl and authUrl of a ``baseUrl``: the same host and port, with a name put before. As in 0.3.0 the address
    may lack its scheme, or end in ``/api`` or ``/auth``; and http becomes https.

    ValueError when the address is more than a host, or a host that no name can be put before."""
    parts = urlsplit(url(base_url if "://" in base_url else f"https://{base_url}"))
    host = parts.hostname or ""
    if not {"", "api", "auth"}.issuperset(parts.path.split("/")) or _NUMERIC.fullmatch(host):
        raise ValueError(f"must be https:// and a host name, such as {DEFAULT_BASE_URL}, not {base_url!r}")
    netloc = host if parts.port is None else f"{host}:{parts.port}"
    token = f"https://auth.{netloc}/realms/user-agent/protocol/openid-connect/token"
    return f"https://external-api.{netloc}/api", token


def is_loopback(host: str) -> bool:
    """True for ``localhost`` and loopback addresses: what never leaves this machine."""
    with suppress(ValueError):
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    return host.lower().rstrip(".") == "localhost"


def find(named: tuple[Path, str] | None, environ: Mapping[str, str], script: Path | None) -> Path | None:
    """The credentials file: the named one, else systemd's, else in the current folder, else beside the agent. Raises
    ConfigError when the one that was named does not exist."""
    if named is not None:
        path, source = named
        if not os.path.exists(path) and not is_hidden(path):  # not Path.exists, which raises for such a folder
            what = f"the credentials file {path} does not exist (from {source})"
            hints = nearest_file(path, ".json") or ["download it from the akaBot Workflow Builder"]
            raise ConfigError(what, code="config-missing", hints=hints)
        return path
    folders = [environ.get("CREDENTIALS_DIRECTORY"), Path.cwd(), script and os.path.dirname(os.path.realpath(script))]
    places = [Path(folder) / FILE_NAME for folder in folders if folder]
    return next((path for path in places if os.path.isfile(path)), None)


def trusted_owners(script: Path | None) -> set[int]:
    """Whose files may be found by their names: ours, root's, and those of the user whose script we run anyway."""
    if sys.platform == "win32":
        return set()
    owners = {0, os.geteuid()}
    with suppress(OSError):
        owners |= {os.stat(script).st_uid} if script is not None else set()
    return owners


def _content(path: Path, owners: Collection[int]) -> bytes:
    """The file's bytes; with ``owners`` it must be a regular file of one of them. Raises OSError, ConfigError."""
    if not owners or sys.platform == "win32":
        return path.read_bytes()
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a FIFO must not hang
    with open(descriptor, "rb") as file:
        found = os.fstat(descriptor)
        foreign = {found.st_uid, os.lstat(path).st_uid} - {*owners}
        if foreign or not stat.S_ISREG(found.st_mode):
            whose = f"belongs to user {min(foreign)}" if foreign else "is no regular file"
            hints = ["name it with -c if you trust it, or take it away: whoever wrote it would get all results"]
            raise ConfigError(f"{path} {whose}: it was found by its name alone, and is not used", hints=hints)
        return file.read()


def read(path: Path, keys: Collection[str], warnings: list[str], owners: Collection[int] = ()) -> dict[str, str]:
    """The file's settings as text; null and "" are as good as absent. With ``owners`` only theirs is taken. Raises
    ConfigError with the line and column of what is wrong."""
    try:
        raw = _content(path, owners)
        if len(raw) > FILE_MAX_BYTES:
            raise ConfigError(f"{path} is too large to be a credentials file")
        given = json.loads(raw)  # editors on Windows add a BOM, or write UTF-16
    except OSError as error:
        raise ConfigError(f"{path} can't be read: {error.strerror or error}") from None
    except (ValueError, RecursionError) as error:  # not JSON, no text, a number of 4,300 digits, or too deep
        hints = [*json_advice(str(error)), "mend it there, or download it again"]
        raise ConfigError(f"{path} is not JSON: {error}", hints=hints) from None
    if not isinstance(given, dict):
        raise ConfigError(f"{path} must hold a JSON object, not {_named(given)}")
    _warn_if_exposed(path, warnings)
    texts = {}
    for key, value in given.items():
        if key not in keys:
            near = nearest(key, keys)
            hint = f"did you mean {near!r}?" if near else "it is not used"
            warnings.append(f"{path} has an unknown key {key!r}: {hint}")
        elif key == "debug" and isinstance(value, bool):
            texts[key] = str(value)
        elif value is not None and not isinstance(value, str):
            raise ConfigError(f"{key} in {path} must be a string, not {_named(value)}", hints=["put it in quotes"])
        elif value and value.strip():
            texts[key] = value
    return texts


def _named(value: object) -> str:
    kinds = {dict: "an object", list: "a list", str: "a string", bool: "true or false", type(None): "null"}
    return kinds.get(type(value), "a number")


def _warn_if_exposed(path: Path, warnings: list[str]) -> None:
    mode = path.stat().st_mode
    if os.name == "posix" and mode & 0o027:  # a group may read the file: that is how systems hand secrets to services
        who = "changed by other users" if mode & 0o022 else "read by other users of this machine"
        warnings.append(f"{path} can be {who}: chmod 600 {path}")


def fold(layer: Layer, warnings: list[str]) -> None:
    """Turn baseUrl, clientSecretFile and --conductor into the settings that they stand for. Done within one layer, so
    that an address from a closer layer always wins over a farther one."""
    if "conductor" in layer:
        address, source = layer["conductor"]
        layer["platform"], layer["service_url"] = ("conductor", source), (address, source)
    elif "base_url" in layer and not {"service_url", "auth_url"} <= layer.keys():
        address, source = layer["base_url"]
        try:
            service_url, auth_url = derived(address)
        except ValueError as reason:
            raise ConfigError(f"{source} {reason}", hints=["give serviceUrl and authUrl instead"]) from None
        layer.setdefault("service_url", (service_url, source))
        layer.setdefault("auth_url", (auth_url, source))
    if "client_secret_file" in layer:
        path, source = layer["client_secret_file"]
        if "client_secret" in layer:
            raise ConfigError(f"{source} and {layer['client_secret'][1]} are both set: keep one")
        layer["client_secret"] = (_secret_in(path, source, warnings), source)


def _secret_in(path: Path, source: str, warnings: list[str]) -> Secret:
    _warn_if_exposed(path, warnings)
    try:
        raw = path.read_bytes()
        text = secret(raw.decode(json.detect_encoding(raw)))  # PowerShell's ">" writes UTF-16
    except (OSError, ValueError) as error:
        raise ConfigError(f"{source}: {path} can't be used: {type(error).__name__}") from None
    if not text:
        raise ConfigError(f"{source}: {path} is empty")
    return text


def complete(values: dict[str, Any], sources: dict[str, str], path: Path | None, warnings: list[str]) -> None:
    """Put in the default addresses, and check that the target and its credentials are all there and
    may travel that way. Raises ConfigError, code config-missing for what is not there."""
    if values["platform"] == "conductor":
        _complete_conductor(values, sources, warnings)
    else:
        _complete_akabot(values, sources, path, warnings)
    if values["client_key"] and not values["client_cert"]:
        raise ConfigError(f"{sources['client_key']} is set, but no clientCert", code="config-missing")


def _complete_akabot(values: dict[str, Any], sources: dict[str, str], path: Path | None, warnings: list[str]) -> None:
    absent = [key for key, name in (("clientId", "client_id"), ("clientSecret", "client_secret")) if not values[name]]
    if absent and path is None:
        what = f"no {FILE_NAME} in this folder or beside the agent, and no {' and '.join(absent)} in the environment"
        hints = ["download it from the akaBot Workflow Builder, or name it: -c FILE",
                 "to try an agent without an account: useragent invoke AGENT",
                 "for a plain Conductor server: --conductor http://HOST:8080/api"]  # fmt: skip
        raise ConfigError(what, code="config-missing", hints=hints)
    if absent:
        raise ConfigError(f"{path} has no {' and no '.join(absent)}", code="config-missing", hints=warnings)
    service_url, auth_url = derived(DEFAULT_BASE_URL)
    values.update(service_url=values["service_url"] or service_url, auth_url=values["auth_url"] or auth_url)
    for name in ("service_url", "auth_url"):
        if not _private(values[name]):
            what = f"{sources[name]}: plain http would show the credentials to the network: {values[name]}"
            raise ConfigError(what, hints=["use https:// (plain http is for this machine only)"])


def _complete_conductor(values: dict[str, Any], sources: dict[str, str], warnings: list[str]) -> None:
    address = values["service_url"]
    if not address:
        raise ConfigError("platform is conductor, but no serviceUrl is set", code="config-missing")
    if bool(values["auth_key"]) != bool(values["auth_secret"]):
        what, hints = "CONDUCTOR_AUTH_KEY and CONDUCTOR_AUTH_SECRET go together", ["set both, or neither"]
        raise ConfigError(what, code="config-missing", hints=hints)
    if not _private(address):
        if values["auth_key"]:
            what = f"{sources['service_url']}: plain http would show CONDUCTOR_AUTH_SECRET to the network: {address}"
            hint = "use https:// (plain http is for this machine, or for a server without a key)"
            raise ConfigError(what, hints=[hint])
        warnings.append(f"with plain http tasks can be read and changed on the way: use https:// if {address} has it")
    if not urlsplit(address).path:
        warnings.append(f"{address} has no path: a Conductor's API is usually at {address}/api")
    values.update(client_id=None, client_secret=None, auth_url=None)  # never sent to a Conductor


def _private(address: str) -> bool:
    return address.startswith("https:") or is_loopback(urlsplit(address).hostname or "")


def __getattr__(name: str) -> object:  # names that earlier releases had in this module
    return earlier.attribute(__name__, name)

# SPDX-License-Identifier: Apache-2.0
"""``useragent check [AGENT]``: all that could keep a worker from starting or from doing its work, each with its remedy.

It never polls: a poll would take a real task. No secret is in what it prints, which may be pasted into a ticket.
"""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import sys
import tempfile
import textwrap
import time
from argparse import Namespace
from collections import Counter
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from functools import partial
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from .. import errors, loader, logs, private
from .._version import __version__, digest
from ..agents import Agent
from ..conductor.definitions import is_elsewhere
from ..conductor.renewal import absent_cert_file, bundle
from ..errors import CODES, EXIT_OK, PlatformError, StorageError, UserAgentError
from ..settings import TABLE, Settings, load
from ..values import Secret
from ..worker.connect import connect
from ..worker.keeping import journal_file
from ..worker.keeping.leftovers import leftovers
from . import definitions, options, terminal
from .options import Parser

TIMEOUT_S = 15.0
CLOCK_OFF_S = 60.0
DISK_LOW_BYTES = 100 * 1024 * 1024
_COLORS = {"ok": "green", "warn": "magenta", "FAIL": "red"}
_REMEDIES = {  # for entries of the journals
    "undelivered": "start the worker: it delivers them, and reports as failed what was cut off",
    "of another platform or client": "start a worker with those credentials in this folder: it delivers them",
    "waiting in a running worker": "see them: useragent journal",
    "refused for good": "see them: useragent journal",
}


class Row(NamedTuple):
    """One finding. ``status``: ok, warn or FAIL; the last two have a ``fix``, and FAIL a ``code`` of CODES."""

    status: str
    check: str
    message: str
    fix: str | None = None
    code: str | None = None


def configure(parser: Parser) -> None:
    parser.show_examples("agent.py", "agent.py --offline --json")
    options.add_agent(parser)
    parser.add_argument("--offline", action="store_true", help="leave out what needs the network")
    parser.titled("output").add_argument("--json", action="store_true", help="as one JSON document")


def main(args: Namespace) -> int:
    script = options.script_of(args) if args.agent or args.path else None
    if script is not None:
        terminal.keep_streams()
    with contextlib.redirect_stdout(sys.stderr):  # a print() of the agent's is not the answer
        rows = [row._replace(message=_safe(row.message), fix=row.fix and _safe(row.fix)) for row in _all(args, script)]
    code = next((CODES[row.code][0] for row in rows if row.code), EXIT_OK)
    if args.json:
        terminal.write_json({"ok": code == EXIT_OK, "exit_code": code, "checks": [row._asdict() for row in rows]})
    else:
        _print(rows, terminal.wants_color(terminal.stdout(), args.color or "auto"))
    return code


def _safe(text: str) -> str:
    return logs.escape(logs.redactor(terminal.as_started(text)))


def _print(rows: list[Row], color: bool) -> None:
    if not terminal.is_interactive():
        for cells in (Row._fields, *rows):
            terminal.write("\t".join(cell or "" for cell in cells))
        return
    width = max(len(row.check) for row in rows)
    left = " " * (width + 8)
    columns = max(shutil.get_terminal_size().columns - 1, len(left) + 30)
    wrapped = partial(textwrap.fill, width=columns, subsequent_indent=left, break_on_hyphens=False)
    for row in rows:
        shown = wrapped(row.message, initial_indent=f"{row.status:<4}  {row.check:<{width}}  ")
        terminal.write(terminal.paint(shown[:4], _COLORS[row.status], color) + shown[4:])
        if row.fix:
            terminal.write(wrapped(f"fix: {row.fix}", initial_indent=left))
    if to_mend := sum(row.status == "FAIL" for row in rows):
        verdict, verdict_color = f"{logs.counted(to_mend, 'thing')} to mend before a worker can start", "red"
    else:
        verdict, verdict_color = "nothing keeps a worker from starting", "green"
    terminal.write(terminal.paint(verdict, verdict_color, color))


def _all(args: Namespace, script: Path | None) -> Iterator[Row]:
    rows = list(_python(script))
    yield from rows
    if any(row.code for row in rows):
        return  # the other checks need the libraries that are missing
    settings = None
    try:
        settings = load(vars(args), script=script)
        args.debug, args.color = str(settings.debug).lower(), settings.color
        logs.setup("DEBUG" if settings.debug else "WARNING", settings.log_format, settings.secrets, terminal.stderr())
        yield from _configuration(settings)
    except UserAgentError as error:
        yield _failed("configuration", error)
    agents: list[Agent] = []
    if script is not None:
        yield from _agents(script, settings, agents)
    if settings is not None:
        yield from _journal(settings)
        yield from _platform(settings, args.offline, agents)


def _failed(check: str, error: UserAgentError) -> Row:
    what, *context = error.message.split("\n")
    what = " | ".join([what, *(line.strip() for line in context[-3:])])
    hints, default = list(error.hints), "mend what is named here"
    if isinstance(error, PlatformError):
        default = "look at the network, the firewall, the proxy and the address"
        if "expired" in what or "not yet valid" in what:
            hints.append(f"or the clock of this machine is wrong: it shows {time.strftime('%Y-%m-%d %H:%M')}")
    return Row("FAIL", check, what, "; ".join(hints) or default, error.code)


def _python(script: Path | None) -> Iterator[Row]:
    where = f"{platform.python_version()} ({platform.python_implementation()}) on {platform.system()}, {sys.executable}"
    yield Row("ok", "Python", where)
    try:
        import ssl  # noqa: F401

        from .. import storage  # noqa: F401
    except ImportError as error:
        fix = "use another Python: this one was built without that library"
        yield Row("FAIL", "Python", f"it lacks {error.name}", fix, "config-invalid")
    root = Path(errors.__file__).resolve().parent
    yield Row("ok", "SDK", f"{__version__} ({digest()}) in {root}")
    for entry in dict.fromkeys(map(os.path.realpath, [*sys.path, script.parent if script else "."])):
        for other in (Path(entry, "user_agent_sdk"), Path(entry, "user_agent_sdk.py")):
            if other != root and os.path.isfile(other if other.suffix else other / "__init__.py"):
                python = terminal.quoted(sys.executable)
                fix = f"remove one: {python} -m pip uninstall user-agent-sdk, or delete the folder"
                yield Row("warn", "SDK", f"a second copy is in {other}; it is not used here", fix)


def _configuration(settings: Settings) -> Iterator[Row]:
    path = settings.config_file
    yield Row("ok", "credentials", f"{path}" if path else "no file: options and environment only")
    for row in TABLE:
        value, source = getattr(settings, row.name), settings.sources[row.name]
        if value is None or row.name == "config_file" or (source == "default" and not row.name.endswith("_url")):
            continue
        if row.name == "proxy":
            value = urlsplit(value).netloc.rpartition("@")[2]
        shown = "is set" if isinstance(value, Secret) else f"= {value}"
        yield Row("ok", "setting", f"{row.key or row.name} {shown} (from {source})")
    for warning in settings.warnings:
        what, _, fix = warning.rpartition(": ")
        yield Row("warn", "configuration", what, fix)
    for file in filter(None, (path, settings.client_key) if os.name == "posix" else ()):
        mode = file.stat().st_mode & 0o777
        if not mode & 0o027:
            yield Row("ok", "file mode", f"{file}: {mode:o}")
        elif file != path:  # which the settings have warned of
            what = f"{file} can be read or changed by other users: {mode:o}"
            yield Row("warn", "file mode", what, f"chmod 600 {file}")


def _agents(script: Path, settings: Settings | None, agents: list[Agent]) -> Iterator[Row]:
    """Fills ``agents``."""
    try:
        loaded = loader.load(script)
        agents += loaded if settings is None else loader.identify(loaded, settings.agent_id)
        for agent in agents:
            takes = ", ".join(parameter.name for parameter in agent.parameters) or "nothing"
            what = f"{agent.where} takes {takes}"
            if settings is not None:
                own = settings.resolve(agent)
                what += f"; id {own.agent_id}, workers {own.workers}, as {own.worker_id}"
                what += f", domain {own.domain}" if own.domain else ""
            yield Row("ok", "agent", what)
    except UserAgentError as error:
        yield _failed("agent", error)


def _journal(settings: Settings) -> Iterator[Row]:
    folder = settings.journal_dir
    if folder is None:
        fix = "leave --no-journal out where a lost result matters"
        yield Row("warn", "journal", "off: results are kept in memory only", fix)
        return
    folder = Path(os.path.abspath(folder))
    own = journal_file.folder_of(folder, settings.platform, settings.service_url, settings.client_id or "")
    existing = next(place for place in (folder, *folder.parents) if os.path.exists(place))
    try:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            private.check_folder(own)
        with tempfile.TemporaryFile(dir=existing):
            free_bytes = shutil.disk_usage(existing).free
    except (OSError, StorageError) as error:
        fix, why = "choose a folder that this user can write: --journal DIR", getattr(error, "strerror", None) or error
        yield Row("FAIL", "journal", f"{folder} can't be written: {why}", fix, "config-invalid")
        return
    if free_bytes < DISK_LOW_BYTES:
        yield Row("warn", "journal", f"only {free_bytes >> 20} MB are free in {existing}", "make room on that disk")
    yield Row("ok", "journal", f"{folder} can be written")
    yield from _kept(folder, own)


def _kept(root: Path, own: Path) -> Iterator[Row]:
    """The entries of the journals. Leaves alone a file that a worker holds, and a file that can't be read."""
    found = leftovers(root)
    for path in found.in_use:
        yield Row("ok", "journal", f"{path} is in use by a running worker")
    for path, error in found.unusable:
        fix = "keep the file: what it holds is not delivered"
        yield Row("warn", "journal", f"{path} can't be read: {error}", fix)
    counts: Counter[str] = Counter()
    for left in found.rows:
        whose = "undelivered" if left.path.parent == own else "of another platform or client"
        whose = "waiting in a running worker" if left.is_in_use else whose
        counts["refused for good" if left.entry.state == journal_file.REJECTED else whose] += 1
    for what, fix in _REMEDIES.items():
        if counts[what]:
            yield Row("warn", "journal", f"{logs.counted(counts[what], 'result')} or started tasks: {what}", fix)


def _platform(settings: Settings, offline: bool, agents: list[Agent]) -> Iterator[Row]:
    addresses = [address for address in (settings.auth_url, settings.service_url) if address]
    try:
        transport, client = connect(settings)
        for host, address in {urlsplit(address).netloc: address for address in addresses}.items():
            proxy = transport.check(address)
            way = f"through the proxy {proxy.host}:{proxy.port}" if proxy else "directly"
            yield Row("ok", "proxy", f"{host} is reached {way}")
    except UserAgentError as error:
        yield _failed("connection", error)
        return
    if any(address.startswith("https:") for address in addresses):
        yield _trust(settings)
    if offline:
        return
    headers: dict[str, str] = {}
    with contextlib.closing(transport), terminal.waiting(settings, lambda: "waiting for an answer, each 15 s at most"):
        if client.auth is not None:
            began = time.monotonic()
            try:
                headers = client.auth.headers()
                took_ms = (time.monotonic() - began) * 1000
                yield Row("ok", "token", f"given by {settings.auth_url or settings.service_url} in {took_ms:.0f} ms")
            except PlatformError as error:
                yield _failed("token", error)
        try:
            # Ask the base address itself: that takes no task, and any answer shows that a server is there.
            reply = transport.send("GET", settings.service_url, headers=headers, timeout_s=TIMEOUT_S).fetch()
        except PlatformError as error:
            yield _failed("platform", error)
            return
        yield _answer(settings.service_url, reply.status, reply.media_type, reply.body)
        yield from _clock(reply.headers.get("date", ""))
        if settings.platform != "conductor":
            return
        for status, what, fix in definitions.health(transport, settings.service_url, TIMEOUT_S):
            yield Row(status, "health", what, fix)
        doubt = None if agents else ""
        try:
            for status, what, fix in definitions.findings(client, settings, agents):
                yield Row(status, "task type", what, fix, "config-invalid" if status == "FAIL" else None)
        except PlatformError as error:  # a gateway may let the tasks' paths through alone
            doubt = error.message
        if doubt is not None and is_elsewhere(client):
            what = f"{settings.service_url} is not the address of a Conductor's API: polls would bring no task"
            yield Row("FAIL", "platform", what, "name the API's address (it mostly ends in /api)", PlatformError.code)
        elif doubt:
            yield Row("warn", "task type", doubt, "tasks run all the same, if the server has their definitions")


def _trust(settings: Settings) -> Row:
    import ssl

    if alone := settings.ca_file or bundle():
        return Row("ok", "TLS", f"verified with {alone} alone")
    paths = ssl.get_default_verify_paths()
    if absent := absent_cert_file():
        fix = "set SSL_CERT_FILE (or caFile) to a PEM file of certificate authorities, or unset it"
        return Row("warn", "TLS", f"SSL_CERT_FILE names a file that does not exist: {absent}", fix)
    if os.name == "posix" and not paths.cafile and not paths.capath:
        fix = "install the system's certificates (ca-certificates; for Python of python.org on macOS run its Install"
        fix += " Certificates.command), or set caFile to a PEM file"
        return Row("warn", "TLS", f"this Python finds no certificate authorities at {paths.openssl_cafile}", fix)
    return Row("ok", "TLS", f"verified with {paths.cafile or paths.capath or 'the authorities of the system'}")


def _answer(url: str, status: int, media_type: str, body: bytes) -> Row:
    status_text, fix, code = "ok", None, None
    if status in (401, 403) and b"_TOKEN" in body:  # a gateway's 403 for this path is no refusal
        status_text, fix, code = "FAIL", "serviceUrl and authUrl must be of the same platform", "auth-refused"
    elif 300 <= status < 400:
        status_text, code = "FAIL", "platform-unreachable"
        fix = "set serviceUrl to the service's own address: redirects are not followed"
    elif status >= 500:
        status_text, fix, code = "FAIL", "wait, or ask whoever runs the platform", "platform-unreachable"
    elif status == 200 and media_type == "text/html":
        status_text, fix = "warn", "a web page: check serviceUrl (it mostly ends in /api), or log in to the portal"
    said = f": {logs.redactor.brief(body.decode('utf-8', 'replace'), 80)}" if code else ""
    what = f"answers HTTP {status}{said}" if fix else "is reachable"
    return Row(status_text, "platform", f"{url} {what}", fix, code)


def _clock(date: str) -> Iterator[Row]:
    try:
        off_s = time.time() - parsedate_to_datetime(date).timestamp()
    except (TypeError, ValueError, OverflowError, IndexError):
        return  # the platform's reply has no usable Date header
    if abs(off_s) > CLOCK_OFF_S:
        what = f"{abs(off_s):.0f} s {'ahead of' if off_s > 0 else 'behind'} the platform's"
        yield Row("warn", "clock", what, "set this machine's clock (NTP): certificates and records depend on it")
    else:
        yield Row("ok", "clock", "agrees with the platform's")

# SPDX-License-Identifier: Apache-2.0
"""``useragent sandbox [AGENT]``: the embedded platform as a process of its own, for any number of workers."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import sys
import tempfile
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from .. import loader
from ..credentials import FILE_NAME, is_loopback, read
from ..errors import EXIT_OK, ConfigError, UsageError, UserAgentError
from ..logs import escape
from ..sandbox import page, server
from ..values import from_home, parsed, whole
from ..worker import signals
from ..worker.running.context import AGENT_LOG
from . import embedded, options, run, terminal
from .options import Parser

AGENT_ID = "sandbox-agent"  # for workers whose agents have no id
LOOK_S = 0.5  # how long the main thread waits at a time: Windows does not interrupt a lock wait


def configure(parser: Parser) -> None:
    parser.show_examples("--credentials credentials.json", "agent.py --port 0")
    options.add_agent(parser)
    group = parser.titled("sandbox")
    group.add_argument("--port", metavar="N", default=str(embedded.SANDBOX_PORT),
                       help=f"0 takes a free one (default: {embedded.SANDBOX_PORT})")  # fmt: skip
    group.add_argument("--credentials", metavar="FILE", help="write a credentials file that points at it")
    parser.titled("output").add_argument("--json", action="store_true", help="its addresses on stdout, as one line")


def main(args: Namespace) -> int:
    port = parsed(whole(0, 65535), args.port, "--port", UsageError)
    path = args.credentials and parsed(from_home, args.credentials, "--credentials", UsageError)
    script = options.script_of(args) if args.agent or args.path else None
    settings = options.prepare(args, script, target=False)
    numbers: queue.SimpleQueue[int] = queue.SimpleQueue()
    secret = _secret_in(path) if path else None
    with contextlib.ExitStack() as handled, server.Sandbox(port, client_secret=secret) as sandbox:
        with contextlib.redirect_stdout(sys.stderr):  # a print() of the agent's is not the answer
            agents = embedded.named(loader.load(script), settings) if script is not None else []
        if not agents:
            handled.enter_context(signals.into(numbers))  # before somebody hears of it, and until it is closed
        agent_id = str(agents[0].agent_id) if agents else settings.agent_id or AGENT_ID
        credentials = sandbox.credentials(agent_id)
        if path:
            write_credentials(path, credentials)
        commands = {} if agents else {"run a worker": _run_command(sandbox, agent_id, path)}
        commands["submit a task"], *_ = embedded.show_page(sandbox, agents, script, [*commands.values()], agent_id)
        if args.json:
            known = {key: credentials[key] for key in ("serviceUrl", "authUrl", "agentId")}
            file = str(path.absolute()) if path else None
            terminal.write_json({"page": sandbox.origin + "/", **known, "credentials": file})
        if not settings.quiet:
            terminal.note(f"sandbox at {sandbox.origin} for akaBot and Conductor; Ctrl+C ends it")
            for name, command in {"page": sandbox.origin + "/", **commands}.items():
                terminal.note(f"  {name:<14} {escape(command)}")
        if agents:
            with contextlib.redirect_stdout(sys.stderr), page.Listener(sandbox.engine, AGENT_LOG):
                return run.work(settings.on_sandbox(credentials), agents)
        while True:
            with contextlib.suppress(queue.Empty):
                numbers.get(timeout=LOOK_S)
                break
        if not settings.quiet:
            terminal.note("stopped")
    return EXIT_OK


def write_credentials(path: Path, credentials: Mapping[str, str]) -> None:
    """Write a credentials file that only its owner can read, whole or not at all. One that is there
    is replaced if it was for a sandbox too; any other may hold the only copy of a secret.

    Raises UserAgentError.
    """
    try:
        if os.path.lexists(path) and _secret_in(path) is None:
            hints = ["choose another name, or move that file away"]
            raise UserAgentError(f"{path} is not a sandbox's credentials file: left alone", code="exists", hints=hints)
        number, made = tempfile.mkstemp(dir=path.absolute().parent, prefix=path.name + ".")  # mode 0600
        try:
            with os.fdopen(number, "w", encoding="utf-8") as file:
                file.write(json.dumps(credentials, indent=2, ensure_ascii=False) + "\n")
            os.replace(made, path)
        except BaseException:
            os.unlink(made)
            raise
    except OSError as error:
        raise UserAgentError(f"{path} can't be written: {error.strerror or error}", code="io") from None


def _secret_in(path: Path) -> str | None:
    """The secret of a credentials file that a sandbox wrote: the next one keeps it, and the workers that have read
    that file go on. None for any other file."""
    try:
        given = read(path, ("clientId", "clientSecret", "serviceUrl"), []) if os.path.isfile(path) else {}
        host = urlsplit(given.get("serviceUrl", "")).hostname
    except (ConfigError, ValueError):
        return None
    is_ours = given.get("clientId") == server.CLIENT_ID and is_loopback(host or "")
    return given.get("clientSecret") if is_ours else None


def _run_command(sandbox: server.Sandbox, agent_id: str, path: Path | None) -> str:
    """How to start a worker; what is in the credentials file of this folder it finds by itself."""
    target = f" --conductor {sandbox.url} -a {terminal.quoted(agent_id)}"
    if path is not None:
        target = "" if path.absolute() == Path(FILE_NAME).absolute() else f" -c {terminal.quoted(str(path))}"
    return f"{terminal.program()} run agent.py{target}"

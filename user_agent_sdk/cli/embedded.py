# SPDX-License-Identifier: Apache-2.0
"""What the commands share that run agents on an embedded platform, or give tasks to one."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterable, Sequence
from contextlib import suppress
from inspect import Parameter
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from .. import loader
from ..agents import PLATFORM_NAMES, Agent
from ..errors import UsageError, UserAgentError, json_advice, nearest_file
from ..settings import Settings
from . import terminal
from .options import about_quotes

if TYPE_CHECKING:
    from ..sandbox.server import Sandbox
    from ..worker.runner import Runner

SANDBOX_PORT = 8088  # where a sandbox is looked for


def named(agents: Iterable[Agent], settings: Settings) -> list[Agent]:
    """For an embedded platform: each agent with its own id, else the given id, else the agent's name."""
    known = [agent.changed(agent_id=agent.agent_id or settings.agent_id or agent.name) for agent in agents]
    return loader.identify(known, None)


class Background(threading.Thread):
    """A runner on a thread of its own. ``code`` or ``error`` is there when it has ended."""

    def __init__(self, name: str, runner: Runner) -> None:
        super().__init__(name=name, daemon=True)
        self.runner = runner
        self.code: int | None = None
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            self.code = self.runner.run()
        except BaseException as error:
            self.error = error


def show_page(
    sandbox: Sandbox, agents: Sequence[Agent], script: Path | None, commands: Sequence[str] = (), agent_id: str = ""
) -> list[str]:
    """Serve the sandbox's page, with a form for each agent of the script as it is now; ``commands`` start a worker.
    Returns the command lines that put a task there for each agent, or without any for ``agent_id``.

    A form begins with the ``input.json`` beside the script of an only agent, else with the agent's parameters."""
    from ..sandbox import page

    forms = {}
    for agent in agents:
        own = [parameter for parameter in agent.parameters if parameter.name not in PLATFORM_NAMES]
        given = {one.name: _shown(one.default) for one in own}
        forms[str(agent.agent_id)] = json.dumps(given, indent=2, ensure_ascii=False)
    if script is not None and len(forms) == 1:
        with suppress(OSError, ValueError):
            text = (script.parent / "input.json").read_text("utf-8-sig").strip()
            if isinstance(json.loads(text), dict):
                forms = dict.fromkeys(forms, text)
    url = "" if sandbox.port == SANDBOX_PORT else f" --url {sandbox.origin}"
    program = f"{terminal.program()} submit"
    submits = [f"{program} -a {terminal.quoted(each)} -i input.json{url}" for each in forms or [agent_id]]
    page.install(sandbox, commands, submits, forms)
    return submits


def _shown(default: object) -> Any:
    """A parameter's default in a form; None where there is none, or JSON can't hold it."""
    with suppress(Exception):  # NaN, keys of other types, a circle, a __str__ that raises
        if default is not Parameter.empty:
            return json.loads(json.dumps(default, allow_nan=False, default=str))
    return None


def read_input(text: str) -> dict[str, Any]:
    """The task's input: JSON as it stands, from stdin (``-``), or from a file. Raises UsageError."""
    raw: bytes | str = text
    source = "--input"
    if text == "-":
        raw, source = sys.stdin.buffer.read(), "stdin"
    elif not text.lstrip().startswith(("{", "[")):
        try:
            raw, source = Path(text).read_bytes(), text
        except FileNotFoundError as error:
            hint = "give a file that holds the JSON, - for stdin, or the JSON itself"
            hints = [about_quotes()] if text.startswith("'") else nearest_file(Path(text), ".json") or [hint]
            raise UsageError(f"--input {text}: {error.strerror or error}", hints=hints) from None
        except OSError as error:
            raise UserAgentError(f"{text} can't be read: {error.strerror or error}", code="io") from None
    try:
        value = json.loads(raw, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        hints = [about_quotes()] if source == "--input" and '"' not in text else json_advice(str(error))
        raise UsageError(f"{source} is not JSON: {error}", hints=hints) from None
    if not isinstance(value, dict):
        raise UsageError(f"{source}: an agent's input is a JSON object, such as {{}}")
    return value


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON value")

# SPDX-License-Identifier: Apache-2.0
"""Options of the commands, built from the table of settings; and what most commands do with them first."""

from __future__ import annotations

import argparse
import functools
import logging
import os
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Callable, NoReturn

from .. import earlier, logs
from ..errors import UsageError, nearest
from ..settings import EVERY, TABLE, Setting, Settings, load
from ..values import parsed, switch
from . import terminal

logger = logging.getLogger(__name__)

UNNAMED = "--record-id"  # of 0.2.0, before an argument without a name
SCRIPTS = (".py", ".pyw", ".pyc")
PREFIX_CHARS = 6  # of an id, which may stand for the whole


class Parser(argparse.ArgumentParser):
    """argparse without abbreviations, whose errors are UsageErrors that know what was meant. ``in_order``: the options
    that 0.2.0 and 0.3.0 take without a name."""

    in_order: Sequence[str] = ()

    def __init__(self, program: str, usage: str, description: str) -> None:
        usage, description = terminal.as_started(f"{program} {usage}"), description[0].upper() + description[1:] + "."
        narrow = functools.partial(argparse.RawDescriptionHelpFormatter, width=80)  # else argparse loads shutil for it
        super().__init__(program, usage, description, formatter_class=narrow, allow_abbrev=False)
        self._titled: dict[str, argparse._ArgumentGroup] = {}

    def titled(self, title: str) -> argparse._ArgumentGroup:
        """The group of options under ``title``."""
        if title not in self._titled:
            self._titled[title] = self.add_argument_group(title)
        return self._titled[title]

    def show_examples(self, *examples: str) -> None:
        """At the end of the help: words after the command, the most usual first."""
        lines = [terminal.as_started(f"  {self.prog} {words}".rstrip()) for words in examples]
        self.epilog = "\n".join(["examples:", *lines])

    def parse(self, words: Sequence[str]) -> argparse.Namespace:
        """Raises UsageError."""
        args, rest = self.parse_known_args([spelled for word in words for spelled in self._spelled(word)])
        rest = [word for word in rest if word != "--"]
        if "more" in args:  # scripts
            args.more = [word for word in rest if word.endswith(SCRIPTS)]
            rest = [word for word in rest if word not in args.more]
        for name in self.in_order:
            if rest and not rest[0].startswith("-") and not rest[0].endswith(SCRIPTS) and vars(args)[name] is None:
                setattr(args, name, rest.pop(0))
        if rest:
            word = next((word for word in rest if word.startswith("-")), rest[0])  # an unknown option explains the rest
            near = nearest(word.partition("=")[0], self._option_string_actions)
            hint = f"did you mean {near}?" if near else f"{self.prog} -h lists the options"
            hint = about_quotes() if "}" in "".join(rest) else hint
            raise UsageError(f"{self.prog} takes no {word!r}", hints=[hint])
        return args

    def _spelled(self, word: str) -> list[str]:
        """``word`` as argparse knows it: 0.2.0 takes _ for - in a name, and a value for a switch."""
        name, equals, value = word.partition("=")
        if not word.startswith("-"):
            return [word]
        name = name.replace("_", "-") if name.startswith("--") else name
        actions = self._option_string_actions
        action = actions.get(name)
        if name == UNNAMED:
            return [value] if equals else []
        if action is None or action.nargs != 0 or not equals:
            return [name + equals + value] if action else [word]
        if parsed(switch, value, name, UsageError):
            return [name]
        others = (each for each in actions if actions[each].dest == action.dest and actions[each].const != action.const)
        return [*others][:1]

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{self.prog}: {message}", hints=[f"{self.prog} -h lists the options"])

    def print_help(self, file: object = None) -> None:
        self.formatter_class = argparse.RawDescriptionHelpFormatter
        terminal.write(self.format_help().rstrip("\n"))


def about_quotes() -> str:
    """The hint for a JSON text that lost its quotation marks on the way here."""
    if os.name == "nt":
        return "cmd and PowerShell take the quotes away: put the JSON in a file"
    return "put the JSON in single quotes, or in a file"


def add_agent(parser: Parser) -> None:
    """AGENT, as an argument or as 0.2.0's -p."""
    group = parser.titled("agent")
    group.add_argument("agent", nargs="?", metavar="AGENT", help="the agent's script, such as agent.py")
    group.add_argument("-p", "--path", metavar="AGENT", help="the same, as an option")


def add_settings(parser: Parser, command: str) -> None:
    """Every setting that ``command`` takes as an option. Their values stay text: ``settings`` parses them."""
    for row in TABLE:
        if row.flags and (command in row.commands or row.commands == EVERY):
            group = parser.titled(row.group)
            if row.metavar:
                action = "append" if row.default == () else "store"
                group.add_argument(*row.flags, dest=row.name, metavar=row.metavar, help=_help(row), action=action)
            else:
                group.add_argument(*row.flags, dest=row.name, action="store_const", const="true", help=_help(row))
            if row.off:
                group.add_argument(row.off, dest=row.name, action="store_const", const="off", help=argparse.SUPPRESS)


def _help(row: Setting) -> str:
    notes = [f"off: {row.off}"] if row.off else []
    if row.default not in (None, False, ()):
        notes.append(f"default: {row.default:g}" if isinstance(row.default, float) else f"default: {row.default}")
    return f"{row.help} ({'; '.join([*notes, row.env])})".replace("%", "%%")


def script_of(args: argparse.Namespace) -> Path:
    """The agent script that the command line names. Raises UsageError."""
    if args.agent and args.path:
        raise UsageError(f"two agent scripts are named: {args.agent} and {args.path}")
    if not args.agent and not args.path:
        raise UsageError("which agent? Name its script", hints=["for example: useragent run agent.py"])
    return Path(args.agent or args.path)


def prepare(args: argparse.Namespace, script: Path | None = None, *, target: bool = True) -> Settings:
    """Read the settings and start logging. Raises UsageError or ConfigError."""
    settings = load(vars(args), script=script, target=target)
    if script is not None:
        terminal.keep_streams()
    args.debug, args.color = str(settings.debug).lower(), settings.color
    color = terminal.wants_color(terminal.stderr(), settings.color)
    place = settings.log_file or terminal.stderr()
    logs.setup(settings.log_level, settings.log_format, settings.secrets, place, color)
    # As in 0.2.0, "debug" in credentials.json changes nothing of what an agent's logger sends; nor does -q.
    said_by = settings.sources["log_level"]
    is_quiet = settings.quiet and said_by == settings.sources["quiet"]
    if is_quiet or said_by.startswith("debug in "):
        ours = logging.getLogger(__name__.rpartition(".cli.")[0])
        ours.getChild("agent").setLevel(logging.INFO)
        for handler in ours.handlers:
            handler.setLevel(settings.log_level)
    if settings.capture_output and script:  # before a module that the script imports holds on to a stream
        from ..worker.running import capture
        capture.streams()
    for warning in settings.warnings:
        logger.warning("%s", warning, extra={"action": "settings_warning"})
    if settings.record and script:  # import sqlite3 now: later a sqlite3.py beside the script would be taken for it
        from ..history import recorder  # noqa: F401
    return settings


def recording(settings: Settings) -> AbstractContextManager[Callable[[Any], None] | None]:
    """While this lasts, the ``on_execution`` for a Runner: with -r the history's recorder, else None. A script may have
    told 0.2.0's ``execution_history`` where to write, or what to call instead."""
    if not settings.record:
        return nullcontext()
    from ..history import recorder

    told, record = earlier.recording()
    path = Path(told).absolute() if told else settings.db_path
    return recorder.recording(path, settings.redact, settings.keep_history_s, record)

# SPDX-License-Identifier: Apache-2.0
"""The program ``useragent``: picks a command, runs it, and turns every error into a message and an exit code.

A command is one row of ``COMMANDS`` and the module of its name with ``configure(parser)`` and ``main(args)``, which
returns the exit code if that may be another than 0. The module is imported only when its command runs, so a quick
command stays quick.
"""

from __future__ import annotations

import errno
import io
import os
import sys
from importlib import import_module

from .._version import __version__
from ..errors import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_OK, UsageError, UserAgentError, nearest

TYPE_CHECKING = False  # as in errors
if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Sequence
    from typing import TextIO

PROGRAM = "useragent"
_PACKAGE = __name__.rpartition(".cli.")[0]

# Command: (arguments after its name, its purpose in one line).
COMMANDS = {
    "run": ("AGENT [options]", "take tasks from the platform and run them, until stopped"),
    "dev": ("AGENT [--sandbox] [options]", "run an agent, and load it afresh after each save"),
    "invoke": ("AGENT [-i INPUT] [options]", "run one task, on a platform of its own: no account"),
    "sandbox": ("[AGENT] [options]", "a platform of your own on this machine, with a page to see it"),
    "submit": ("[-i INPUT] [-a ID] [options]", "put a task on a sandbox and print its output"),
    "check": ("[AGENT] [--offline] [--json]", "find what keeps a worker from starting; polls nothing"),
    "history": ("[options]", "what was recorded: a table, JSON, CSV, or a web page"),
    "history-detail": ("ID|last [options]", "all that is known about one execution"),
    "history-prune": ("--older-than AGE [options]", "take old executions out of the history"),
    "journal": ("[list | show ID | retry ID | drop ID]", "results that could not be delivered"),
    "init": ("[DIR] [--vendor] [--force]", "make an agent, its input and its test, to start from"),
    "version": ("[--verify SHA256SUMS] [--json]", "the versions of the SDK and of Python, and where both are"),
}
# Command: the room that it needs, and that a copy may lack, besides the command's own file.
ROOMS = {"invoke": "sandbox", "sandbox": "sandbox", "history": "history", "history-detail": "history",
         "history-prune": "history"}  # fmt: skip
ENDS_ALIKE = ("run", "dev", "sandbox")  # a full stdout does not change the exit code of these
ALIASES = {"hd": "history-detail"}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line (default: the process's) and return its exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    fill_streams()
    if isinstance(sys.stdout, io.TextIOWrapper):  # a print() of an agent's must not fail for want of a character
        sys.stdout.reconfigure(errors="backslashreplace")
    args: list[Namespace] = []  # the parsed arguments, once the words are understood
    try:
        code = _run(words, args)
        try:
            _stdout(args).flush()
        except OSError as error:
            if not (words[0] in ENDS_ALIKE and _is_full(error)):
                raise
        return code
    except SystemExit as done:  # -h
        return done.code if isinstance(done.code, int) else EXIT_OK
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except Exception as error:
        if _is_closed_pipe(error):  # the reader (`| head`) has closed the pipe; Python must not complain at exit
            os.dup2(os.open(os.devnull, os.O_WRONLY), _stdout(args).fileno())
            return EXIT_FAILED
        from . import terminal

        return terminal.fail(_told(error), words, args)
    finally:
        if args:
            from . import terminal

            terminal.forget_streams()


def _stdout(args: Sequence[Namespace]) -> TextIO:
    """The stream that the answer was written to."""
    if not args:
        return sys.stdout
    from . import terminal

    return terminal.stdout()


def _told(error: Exception) -> UserAgentError:
    """An error of any kind as one that says what to do."""
    if isinstance(error, UserAgentError):
        return error
    name = (error.name or "") if isinstance(error, ModuleNotFoundError) else ""
    if name.startswith(_PACKAGE + "."):  # a module that was left out of this copy
        parts = name[len(_PACKAGE) + 1 :].split(".")
        what = f"the command {parts[1].replace('_', '-')}" if parts[0] == "cli" else "/".join(parts)
        hints = [f"{PROGRAM} -h lists what is there", "a whole copy has it: init --vendor of one makes another"]
        return UsageError(f"this copy was made without {what}", hints=hints)
    if _is_full(error):
        return UserAgentError(f"the output can't be written: {error}", code="io")
    try:
        os.getcwd()
    except FileNotFoundError:
        return UserAgentError("the current folder was removed", code="io", hints=["go to one that is there: cd"])
    bug = UserAgentError(f"{type(error).__name__}: {error}", hints=["this is a bug: please report it, with -d"])
    bug.__cause__ = error
    return bug


def _is_there(name: str) -> bool:
    """Whether this copy has a command, and the room that the command needs."""
    from importlib.util import find_spec

    needed = [f"cli.{name.replace('-', '_')}", *([ROOMS[name]] if name in ROOMS else [])]
    return all(find_spec(f"{_PACKAGE}.{module}") for module in needed)


def fill_streams() -> None:
    """Open the null device in place of streams that are closed: else the first sockets would be 0 to 2, and what an
    agent's function writes there would go to the platform. And of those that are absent, as in pythonw.exe."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:  # open() takes the lowest free number, which is this one
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:  # its number may be a file that a script has opened
            null = os.open(os.devnull, os.O_RDWR)
            setattr(sys, name, open(null, mode, encoding="utf-8", closefd=False))  # noqa: SIM115


def _is_full(error: Exception) -> bool:
    """Whether a write to a stream found no room, or no device any more."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EIO) and error.filename is None


def _is_closed_pipe(error: Exception) -> bool:
    """On Windows a write to a pipe that nobody reads any more may fail with EINVAL, without a WinError."""
    if os.name == "nt" and isinstance(error, OSError) and error.errno == errno.EINVAL:
        return error.filename is None and getattr(error, "winerror", None) is None
    return isinstance(error, BrokenPipeError)


def _run(words: list[str], args: list[Namespace]) -> int:
    if not words or words[0] == "help":
        words[:] = [words[1], "-h"] if len(words) > 1 else ["-h"]
    name = ALIASES.get(words[0], words[0])
    if name in ("-h", "--help", "--version"):
        print(__version__ if name == "--version" else _overview())  # noqa: T201 - ASCII, and all of it
        return EXIT_OK
    if name not in COMMANDS:
        raise _unknown(words)
    from . import options

    module = import_module("." + name.replace("-", "_"), __package__)
    parser = options.Parser(f"{PROGRAM} {words[0]}", *COMMANDS[name])
    module.configure(parser)
    options.add_settings(parser, name)
    args.append(parser.parse(words[1:]))
    return int(module.main(args[0]) or EXIT_OK)


def _unknown(words: Sequence[str]) -> UsageError:
    word, lists = words[0], f"{PROGRAM} -h lists the commands"
    if word.startswith("-"):
        from .terminal import quoted
        at = next((place for place, each in enumerate(words) if each in COMMANDS), 0)
        meant = " ".join(map(quoted, [*words[at:], *words[:at]] if at else ["run", "agent.py", *words]))
        return UsageError(f"no command stands before {word}", hints=[f"{PROGRAM} {meant}", lists])
    near = nearest(word, [*COMMANDS, *ALIASES])
    hints = [f"did you mean {near!r}?"] if near else []
    if word == "cua":
        hints = ["it is 0.3.0's bridge to a browser, which needs packages beyond the standard library: stay with 0.3.0"]
        return UsageError("cua is not part of this package", hints=[*hints, lists])
    if word.endswith(".py"):
        hints = [f"to run an agent: {PROGRAM} run {word}"]
    return UsageError(f"there is no command {word!r}", hints=[*hints, lists])


def _overview() -> str:
    from .terminal import program

    width = max(map(len, COMMANDS))
    rows = [f"  {name:<{width}}  {does}" for name, (_, does) in COMMANDS.items() if _is_there(name)]
    head = f"user-agent-sdk {__version__}: run agents for akaBot 2.0 and Conductor"
    lines = [f"usage: {program()} COMMAND [options]", "", head, "", "commands:", *rows, ""]
    return "\n".join([*lines, f"{program()} COMMAND -h explains one"])

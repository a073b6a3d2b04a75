# SPDX-License-Identifier: Apache-2.0
"""What reaches a terminal or a pipe: encoding, colour, the shape of errors. Nothing here raises for a closed stream,
save that a closed stdout ends the program as BrokenPipeError; ``commands`` fills streams that are absent."""

from __future__ import annotations

import logging
import os
import re
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Callable, TextIO

from .. import logs
from ..errors import UserAgentError
from ..logs import encodable, escape, json_text, redactor
from .commands import PROGRAM

if TYPE_CHECKING:
    from argparse import Namespace

    from ..settings import Settings

_CODES = {"red": "31", "green": "32", "magenta": "35", "bold": "1"}  # other colours can't be read on white or on black
LOOK_S = 1.0  # how often a wait is looked at
FIRST_PAUSE_S, LONGEST_PAUSE_S = 5.0, 60.0  # between two lines of a wait

_kept: dict[str, TextIO] = {}  # copies of stdout and stderr, made before a script may change those of sys


def keep_streams() -> None:
    """Before a script is loaded: answers and errors go from now on to where stdout and stderr lead now, whatever the
    script does to ``sys.stdout`` (a wrapper around its buffer, for UTF-8, closes that with itself)."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if name not in _kept:
            with suppress(OSError, ValueError, AttributeError):  # a stream without a descriptor: a test's, or an IDE's
                _kept[name] = _copy(stream.fileno(), stream.encoding, stream.errors, name == "stderr")


def forget_streams() -> None:
    """Use the streams of sys again. One that can't be flushed (a script has left it detached, or an object with write()
    alone, or its disk is full) would be an error when Python ends, as would be our copy of it."""
    for name in _kept.copy():
        for stream in (_kept.pop(name), getattr(sys, name)):
            try:
                stream.flush()
            except Exception:
                with suppress(Exception):  # what it still holds goes nowhere
                    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
                if stream is getattr(sys, name):
                    setattr(sys, name, None)


@cache
def _copy(descriptor: int, encoding: str, errors: str, is_stderr: bool) -> TextIO:
    buffering = 1 if is_stderr else -1
    return open(os.dup(descriptor), "w", buffering, encoding, errors, closefd=False)  # open as long as the process


def stdout() -> TextIO:
    return _kept.get("stdout", sys.stdout)


def stderr() -> TextIO:
    return _kept.get("stderr", sys.stderr)


def write(text: str) -> None:
    """A line of the answer, on stdout."""
    stdout().write(encodable(text, stdout()) + "\n")


def write_json(value: object) -> None:
    """A document on one line of stdout, at once."""
    stdout().write(json_text(value, stdout()) + "\n")
    stdout().flush()


def is_interactive() -> bool:
    """Whether a person reads stdout: columns for them, TABs for a pipe."""
    return stdout().isatty()


def note(text: str) -> None:
    """A line beside the answer, on stderr; where the log is JSON, one of its lines."""
    if logs.is_json():
        logs.say(logging.INFO, text, action="note")
    else:
        _tell(text)


def _tell(text: str) -> None:
    with suppress(OSError, ValueError):
        stderr().write(encodable(text, stderr()) + "\n")
        stderr().flush()


class Pace:
    """When the next line is due: at once for something new, then less and less often. Pure."""

    def __init__(self) -> None:
        self._kind = ""
        self._due = self._pause_s = 0.0

    def is_due(self, sentence: str | None, now: float) -> bool:
        kind = "".join(char for char in sentence or "" if not char.isdigit())
        if not kind or (kind == self._kind and now < self._due):
            self._kind = kind
            return False
        self._pause_s = min(self._pause_s * 2, LONGEST_PAUSE_S) if kind == self._kind else FIRST_PAUSE_S
        self._kind, self._due = kind, now + self._pause_s
        return True


@contextmanager
def waiting(settings: Settings, sentence: Callable[[], str | None]) -> Iterator[None]:
    """While this lasts, and from a second on, show a person the sentences that ``sentence`` returns: a long wait is not
    mute."""
    if settings.quiet or not stderr().isatty():
        yield
        return
    ended, pace = threading.Event(), Pace()

    def look() -> None:
        while not ended.wait(LOOK_S):
            text = sentence()
            if pace.is_due(text, time.monotonic()):
                note(f"{time.strftime('%H:%M:%S')} ...     {text}")

    thread = threading.Thread(target=look, name="waiting", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(LOOK_S)


def program() -> str:
    """How this program was started, for the commands that a hint shows."""
    started_as, python = Path(sys.argv[0]).name, Path(sys.executable).name.replace(".exe", "")
    if started_as in ("useragent", "useragent.exe"):
        return "useragent"
    return f'{python} "{sys.argv[0]}"' if started_as.endswith(".pyz") else f"{python} -m user_agent_sdk"


def quoted(word: str) -> str:
    """An argument of a command that is shown, for sh, cmd and PowerShell alike."""
    return word if all(char.isalnum() or char in "-_./\\:" for char in word) else f'"{word}"'


def as_started(hint: str) -> str:
    """The hint with ``useragent COMMAND`` as this program was started: who installed nothing has no such command."""
    return re.sub(r"(?<![\w/\\.-])useragent (?=-h|[a-z])", lambda _: f"{program()} ", hint)


def wants_color(stream: TextIO, choice: str = "auto", environ: Mapping[str, str] = os.environ) -> bool:
    """--color > PYTHON_COLORS > NO_COLOR > FORCE_COLOR > TERM=dumb > whether it is a terminal."""
    if choice != "auto":
        return choice == "always"
    if environ.get("PYTHON_COLORS") in ("0", "1"):
        return environ["PYTHON_COLORS"] == "1"
    if environ.get("NO_COLOR"):
        return False
    if environ.get("FORCE_COLOR"):
        return True
    if environ.get("TERM") == "dumb" or not stream.isatty():
        return False
    return os.name != "nt" or _windows_console_has_color(environ)


def _windows_console_has_color(environ: Mapping[str, str]) -> bool:
    if any(environ.get(name) for name in ("WT_SESSION", "ANSICON", "ConEmuANSI")):
        return True
    with suppress(ImportError, AttributeError, OSError):
        return bool(import_module("nt")._supports_virtual_terminal())  # from 3.13 on
    return False


def paint(text: str, color: str, on: bool) -> str:
    return f"\x1b[{_CODES[color]}m{text}\x1b[0m" if on else text


def _prepare_log(words: Sequence[str]) -> None:
    """Set the log up as a command line asks, for an error that came before the settings were read."""
    from ..settings import AGENT
    from ..values import from_home

    told = {name: os.environ.get(f"USERAGENT_{name.upper()}", "") for name in ("log_format", "log_file")}
    for word, following in zip(words, [*words[1:], ""]):
        name, equals, value = word.partition("=")
        if (name := name[2:].replace("-", "_")) in told:
            told[name] = value if equals else following
    log_format, path = told["log_format"].lower(), told["log_file"]
    is_set_up = (logs.is_json() or log_format != "json") and (logs.has_file() or not path)
    if words and words[0] in AGENT and not is_set_up:
        with suppress(UserAgentError, ValueError):
            logs.setup("INFO", log_format, (), from_home(path).absolute() if path else stderr())


def fail(error: UserAgentError, words: Sequence[str], args: Sequence[Namespace] = ()) -> int:
    """Print an error as the command line ``words`` wants it, and return its exit code.

    ``useragent: error[CODE]: what``, its context indented, its hints; or the same as one JSON document. A line of the
    log instead where that is JSON on stderr; besides where it is a file."""
    debug = args[0].debug == "true" if args else not {"-d", "--debug"}.isdisjoint(words)
    if error.code == "usage" and not error.hints and words:
        error.hints = (f"{PROGRAM} {words[0]} -h lists the options",)
    _prepare_log(words)
    message, hints = redactor(error.message), [as_started(redactor(hint)) for hint in error.hints]
    what, *context = message.split("\n")
    trace = "".join(traceback.format_exception(type(error), error, error.__traceback__)) if debug else ""
    import shutil
    import textwrap

    stream, is_json, as_json = stderr(), logs.is_json(), "--json" in words
    if logs.has_file() or is_json:
        told = {"code": error.code, "exit": error.exit_code, "hint": "; ".join(hints) or None}
        logs.say(logging.ERROR, what, trace or "\n".join(context), action="failed", **told)
        if not (logs.has_file() or as_json):
            return error.exit_code
    if trace and not is_json:
        _tell(escape(redactor(trace), keep="\n\t").rstrip("\n"))
    if as_json or is_json:
        hint = "\n".join(hints) or None
        fields = {"code": error.code, "message": message, "hint": hint, "exit_code": error.exit_code}
        _tell(json_text({"error": fields}, stream))
        return error.exit_code
    on = wants_color(stream, (args[0].color if args else None) or "auto")
    lines = [f"{PROGRAM}: error[{error.code}]: {escape(what)}"]
    if stream.isatty():  # do not wrap a hint: a person may copy the command in it
        columns = max(20, shutil.get_terminal_size().columns - 1)
        lines = textwrap.wrap(lines[0], columns, break_long_words=False, break_on_hyphens=False)
    lines[0] = lines[0].replace(f"error[{error.code}]", paint(f"error[{error.code}]", "red", on), 1)
    lines += [f"  {escape(line, keep=chr(9))}" for line in context]
    lines += [f"{paint('hint:', 'bold', on)} {escape(hint)}" for hint in hints]
    _tell("\n".join(lines))
    return error.exit_code

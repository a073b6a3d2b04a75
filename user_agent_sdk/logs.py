# SPDX-License-Identifier: Apache-2.0
"""Log lines: one an event, as text for people or JSON for machines, without secrets or control characters. Only the
command line calls ``setup``; everything else just uses ``logging``, whose root is the script's."""

from __future__ import annotations

import json
import logging
import re
import sys
import threading
import traceback
from collections.abc import Iterable
from contextlib import suppress
from datetime import datetime, timezone
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

from .errors import ConfigError, StorageError
from .private import open_own
from .redaction import Redactor

# The keys of ``extra`` that a line of JSON shows.
FIELDS = (
    *("action", "agent_id", "worker_id", "task_id", "workflow_id", "attempt", "duration_ms", "trace_id"),
    *("outage_s", "tries", "reason", "code", "exit", "hint"),
)
_SHOWN = ("agent_id", "task_id", "attempt", "duration_ms", "code", "exit", "hint")  # in a line of text

# C0, DEL, C1, line and paragraph separators, bidirectional controls, lone surrogates: what can move a
# terminal's cursor, fake a line, reorder what is read, or not be written at all. Compiled when one is met: 1 ms.
_UNPRINTABLE = "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufeff]"
LINE_MAX_CHARS = 16_000  # of a message, and of a traceback: an exception's text may be a whole document


def escape(text: str, keep: str = "") -> str:
    """``text`` with every control character but those in ``keep`` written as ``\\x1b`` or ``\\u202e``."""
    if text.isprintable():
        return text
    return re.sub(_UNPRINTABLE, lambda found: found[0] if found[0] in keep else repr(found[0])[1:-1], text)


def encodable(text: str, stream: TextIO) -> str:
    """``text`` as ``stream`` can write it; what its encoding lacks becomes ``\\xe9`` or ``\\u20ac``."""
    if text.isascii():
        return text
    encoding = getattr(stream, "encoding", None) or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)


def json_text(value: object, stream: TextIO) -> str:
    """``value`` as one line of JSON for ``stream``: as it is in UTF-8, else in ASCII. On Windows a pipe's two
    ends may be of different code pages."""
    text = json.dumps(value, ensure_ascii=not (stream.encoding or "utf-8").lower().startswith("utf"))
    return text if text.isprintable() else re.sub(_UNPRINTABLE, lambda found: f"\\u{ord(found[0]):04x}", text)


def counted(number: int, what: str) -> str:
    """``no tasks``, ``1 task``, ``2 tasks``."""
    return f"{number or 'no'} {what}{'' if number == 1 else 's'}"


def bounded(text: str, max_chars: int = LINE_MAX_CHARS) -> str:
    """``text``, without its middle if it is too long."""
    if len(text) <= max_chars:
        return text
    head = max_chars * 2 // 3
    return f"{text[:head]} … {text[len(text) - max_chars + head + 3 :]}"


redactor = Redactor()  # the process's own: code that gets a secret or a token adds it here
_LEVEL_COLORS = {"WARNING": "35", "ERROR": "31", "CRITICAL": "31"}  # yellow can't be read on white


def _text(record: logging.LogRecord, full_date: bool, color: bool) -> str:
    """``12:30:05 INFO    message  [agent_id=… task_id=…]``; a traceback follows, indented."""
    moment, level = _moment(record, None), f"{record.levelname:<7}"
    if color and record.levelname in _LEVEL_COLORS:
        level = f"\x1b[{_LEVEL_COLORS[record.levelname]}m{level}\x1b[0m"
    first, given = record.getMessage(), record.__dict__
    known = {key: given[key] for key in _SHOWN if key in given and given[key] is not None}
    if "task_id" in known:  # the task's id implies the agent, and most attempts are the first
        known.pop("agent_id", None)
        if known.get("attempt") == 1:
            del known["attempt"]
        if str(known["task_id"]) in first:
            del known["task_id"]
        elif not full_date:  # on a terminal a line should fit
            known["task_id"] = redactor(str(known["task_id"]))[:8]
    if known:
        first += "  [" + " ".join([f"{key}={value}" for key, value in known.items()]) + "]"
    text = f"{moment if full_date else moment[11:19]} {level} {escape(bounded(redactor(first)))}"
    more = _traceback(record)
    return "\n    ".join([text, *(escape(line, keep="\t") for line in more.splitlines())]) if more else text


def _moment(record: logging.LogRecord, zone: timezone | None) -> str:
    """The time of the record, to the millisecond, and the time zone (None: the system's)."""
    second = _second(int(record.created), zone)
    return f"{second[:19]}.{int(record.created % 1 * 1000):03}{second[19:]}"


@lru_cache(maxsize=4)
def _second(at: int, zone: timezone | None) -> str:
    return datetime.fromtimestamp(at, timezone.utc).astimezone(zone).isoformat()


def _json(record: logging.LogRecord, stream: TextIO) -> str:
    """One JSON object: ts (UTC), level, logger, pid, msg, the FIELDS that ``extra`` gave, exc."""
    line: dict[str, object] = {"ts": _moment(record, timezone.utc)[:23] + "Z", "level": record.levelname}
    line.update(logger=record.name, pid=record.process, msg=bounded(redactor(record.getMessage())))
    for key in FIELDS:
        if (value := record.__dict__.get(key)) is not None:
            line[key] = value if isinstance(value, (int, float)) else redactor(str(value))
    if shown := _traceback(record):
        line["exc"] = shown
    return json_text(line, stream)


def _traceback(record: logging.LogRecord) -> str:
    if not (record.exc_info or record.exc_text or record.stack_info):
        return ""
    shown = record.exc_text or ""
    if record.exc_info and record.exc_info[0] and not shown:
        shown = "".join(traceback.format_exception(*record.exc_info))
    return bounded(redactor("\n".join(text.rstrip("\n") for text in (shown, record.stack_info or "") if text)))


class Handler(logging.StreamHandler):  # type: ignore[type-arg] # it has none at run time before 3.11
    """Writes to ``stream``, and never lets a record or a stream that is broken reach the caller."""

    def __init__(self, stream: TextIO, as_json: bool, color: bool = False) -> None:
        super().__init__(stream)
        self.as_json, self._full_date, self._color = as_json, not stream.isatty(), color

    def format(self, record: logging.LogRecord) -> str:
        try:
            text = _json(record, self.stream) if self.as_json else _text(record, self._full_date, self._color)
        except Exception as error:  # a %d for a text, a __str__ that raises: log the place of the call, and go on
            text = escape(f"the log call at {record.pathname}:{record.lineno} is broken: {type(error).__name__}")
        return encodable(text, self.stream)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        """A full disk, a closed pipe: there is nowhere left to say it."""


class FileHandler(Handler):
    """Opens its file for each line, so that the file can be moved or removed at any time, on Windows too."""

    def __init__(self, path: Path, as_json: bool) -> None:
        """Raises ConfigError when the file can't be written."""
        self._path, self._is_failing = path, False
        try:
            with open(path, "a", encoding="utf-8", opener=open_own) as stream:
                super().__init__(stream, as_json)
        except (OSError, StorageError) as error:
            raise ConfigError(f"the log file can't be written: {error}") from None

    def emit(self, record: logging.LogRecord) -> None:
        try:
            with open(self._path, "a", encoding="utf-8", opener=open_own) as stream:  # a full disk may fail its end
                stream.write(self.format(record) + self.terminator)
            self._is_failing = False
        except (OSError, StorageError) as error:
            if not self._is_failing and sys.__stderr__ is not None:
                with suppress(OSError, ValueError):
                    print(f"The log file can't be written, lines are lost: {error}", file=sys.__stderr__, flush=True)
            self._is_failing = True


class _Onward(logging.Handler):
    """Hands our lines to the handlers that a script gave to the root, a log file say. A handler may raise (its log
    server is down), which must cost no result. A second console would only repeat each line."""

    def handle(self, record: logging.LogRecord) -> bool:
        for handler in logging.getLogger().handlers:
            with suppress(Exception):
                out = getattr(handler, "stream", None) or getattr(getattr(handler, "console", None), "file", None)
                is_console = out in (sys.stderr, sys.stdout, sys.__stderr__, sys.__stdout__)  # the file is rich's
                if record.levelno >= handler.level and not (is_console or isinstance(handler, Handler)):
                    handler.handle(record)
        return True


class _OwnLogger(logging.Logger):
    """A logger of ours: dictConfig and fileConfig disable every logger that their caller did not think of."""

    disabled = property(lambda self: False, lambda self, value: None)

    def makeRecord(  # noqa: N802
        self, name: str, level: int, fn: str, lno: int, msg: object, args: Any, exc_info: Any,
        func: str | None = None, extra: Any = None, sinfo: str | None = None,
    ) -> logging.LogRecord:  # fmt: skip
        """With our fields, where logging raises for one of the same name that a script's record factory has set."""
        try:
            record = super().makeRecord(name, level, fn, lno, msg, args, exc_info, func, None, sinfo)
        except Exception:  # of the script's record factory, as its handlers may: it would end a thread of ours
            record = logging.LogRecord(name, level, fn, lno, msg, args, exc_info, func, sinfo)
        record.__dict__.update(extra or {})
        return record

    def handle(self, record: logging.LogRecord) -> None:
        """A handler or a filter that a script gave to a logger of ours may raise as one of the root's."""
        with suppress(Exception):
            super().handle(record)


_NAME = __name__.rpartition(".")[0]
_console: Handler | None = None
_level: int | str = "INFO"


def setup(
    level: int | str, log_format: str, secrets: Iterable[str], target: TextIO | Path | None, color: bool = False
) -> None:
    """Send our own log lines to a stream or a file, from ``level`` up. By the command line, before it loads a script.

    ``log_format`` is "text" or "json"; ``color`` paints the level of a text. The root logger is the script's: see
    ``settle``. Calling it again replaces the handler. Raises ConfigError when the file can't be written."""
    global _console, _level
    _level = level
    for secret in secrets:
        redactor.add(secret)
    ours = logging.getLogger(_NAME)
    warned, as_json = logging.getLogger("py.warnings"), log_format == "json"
    for logger in (logging.getLogger(), ours, warned):
        logger.handlers[:] = [old for old in logger.handlers if not isinstance(old, (Handler, _Onward))]
    ours.setLevel(level)
    ours.getChild("agent").setLevel(logging.NOTSET)
    ours.propagate = False
    if isinstance(target, Path):
        _console = FileHandler(target, as_json)
    else:  # pythonw.exe has no stderr
        _console = None if target is None else Handler(target, as_json, color)
    ours.handlers += [_Onward(), *([_console] if _console else ())]
    if is_json() or has_file():
        _catch(warned)
    _keep_on()


def is_json() -> bool:
    """Whether our lines are JSON: then nothing else may stand between them."""
    return _console is not None and _console.as_json


def has_file() -> bool:
    """Whether our lines go to a file, where an error must be found too."""
    return isinstance(_console, FileHandler)


def say(level: int, text: str, more: str = "", **extra: object) -> None:
    """A line that no level keeps back; ``more`` follows as a traceback would."""
    ours = logging.getLogger(_NAME)
    record = ours.makeRecord(_NAME, level, __file__, 0, "%s", (text,), None, extra=extra)
    record.exc_text = more or None
    for handler in ours.handlers:
        handler.handle(record)


def _catch(warned: logging.Logger) -> None:
    """Let what Python itself would print be lines of the log: warnings, and errors that nobody caught."""
    ours = logging.getLogger(_NAME)
    logging.captureWarnings(True)
    logging.lastResort = _console  # of a script's lines before ``settle``
    warned.handlers += ours.handlers
    warned.propagate = False
    warned.setLevel(ours.level)

    def uncaught(kind: type[BaseException], error: BaseException | None, trace: TracebackType | None) -> None:
        if not issubclass(kind, SystemExit):  # which ends a thread without a word
            shown = "".join(traceback.format_exception(kind, error, trace))
            text = f"Uncaught {kind.__name__} in thread {threading.current_thread().name}"
            say(logging.CRITICAL, text, shown, action="uncaught")

    sys.excepthook = uncaught
    threading.excepthook = lambda caught: uncaught(*caught[:3])
    sys.unraisablehook = lambda caught: uncaught(caught.exc_type, caught.exc_value, caught.exc_traceback)


def settle() -> None:
    """After the script was loaded: where it has set up no logging, its lines go where ours go, from our level up."""
    _keep_on()
    root = logging.getLogger()
    if _console is not None and not root.handlers:
        root.addHandler(_console)
        if root.level == logging.WARNING:  # as Python starts
            root.setLevel(_level)


def _keep_on() -> None:
    for name, logger in list(logging.root.manager.loggerDict.items()):
        if (name + ".").startswith(_NAME + ".") and type(logger) is logging.Logger:
            logger.__dict__.pop("disabled", None)
            logger.__class__ = _OwnLogger

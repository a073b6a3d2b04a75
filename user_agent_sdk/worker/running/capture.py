# SPDX-License-Identifier: Apache-2.0
"""``--capture-output``: what a task prints, and what other loggers say in it, goes into the task's log too, and on to
where it went before. Whose it is, is told by the context: that of the function, and of each thread that it starts with
``copy_context``."""

from __future__ import annotations

import logging
import os
import sys
import threading
from contextlib import suppress
from types import FrameType
from typing import Any, TextIO

from .context import AGENT_LOG, CURRENT

_OURS = AGENT_LOG.name.rpartition(".")[0] + "."
_inside = threading.local()  # .write: this thread passes a text on, maybe to another of these streams


def streams() -> None:
    """Capture what is printed from now on."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if not isinstance(stream, _Stream):
            stream = stream or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - pythonw.exe has none
            setattr(sys, name, _Stream(stream))


def start() -> None:
    """After a script and its start hooks, which may have put streams of their own into ``sys``: capture all. (A handler
    that the root logger had before would have kept their ``basicConfig`` from doing anything.)"""
    streams()
    logging.getLogger().addHandler(_HANDLER)  # once, however often


class _Stream:
    """``stream``, whose writes are a task's lines where one runs; all else is the stream's own."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def __eq__(self, other: object) -> bool:
        return other is self or other == self.stream  # so that a handler on that stream is known as the console's

    __hash__ = object.__hash__

    def __enter__(self) -> Any:
        return self.stream.__enter__()

    def __exit__(self, *raised: Any) -> None:
        self.stream.__exit__(*raised)

    def write(self, text: str) -> int:
        current = CURRENT.get(None)
        if current is None or getattr(_inside, "write", False):
            return self.stream.write(text)
        _inside.write = True
        try:
            written = self.stream.write(text)
        finally:
            _inside.write = False
        if not _is_told(sys._getframe(1)):
            current.logger.lines.write(text)
        return written

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)


def _is_told(frame: FrameType | None) -> bool:
    """Whether the frame writes for a handler, which may print, a record that the handler below has too."""
    if frame is not None and frame.f_globals.get("__name__") == "logging":
        return True
    while frame is not None:
        if frame.f_globals.get("__name__") == "logging":
            if frame.f_code.co_name == "callHandlers":
                logger, record = frame.f_locals["self"], frame.f_locals["record"]
                while logger.propagate and logger.parent:
                    logger = logger.parent
                return logger is logging.root or _is_ours(record)
            if frame.f_code.co_name not in ("handle", "emit"):  # but for a print() in what is formatted, say
                return False
        frame = frame.f_back
    return False


def _is_ours(record: logging.LogRecord) -> bool:
    return (record.name + ".").startswith(_OURS)


class _Handler(logging.Handler):
    """Of the root logger: the lines of all loggers but ours, which are in the task's log as they are."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))

    def handle(self, record: logging.LogRecord) -> bool:
        current = CURRENT.get(None)
        if current is not None and not _is_ours(record):
            with suppress(Exception):  # a %d for a text: the script's own handlers say so
                current.logger.lines.add(self.format(record), int(record.created * 1000))
        return True


_HANDLER = _Handler()

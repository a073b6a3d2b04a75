# SPDX-License-Identifier: Apache-2.0
"""The task that is running here, and the log that belongs to it alone. A task's logger is in no registry, so memory
does not grow with the number of tasks. Its lines go into that task's result, and on to the handlers of the logger
``<package>.agent``."""

from __future__ import annotations

import inspect
import logging
import re
import threading
import time
from collections import deque
from collections.abc import Mapping
from contextlib import closing, suppress
from contextvars import ContextVar
from typing import Any, Callable

from ... import forking
from ...conductor.wire import LogLine, Task
from ...errors import AgentError
from ...logs import bounded
from ...values import utf8

MAX_LINES = 1000  # of a task's log: the first half and the last half are kept
MAX_BYTES = 256 * 1024
MAX_LINE_CHARS = 8000

_OURS = logging.getLogger(__name__.rpartition(".worker.")[0])
AGENT_LOG = logging.getLogger(_OURS.name + ".agent")
_FORMATTER = logging.Formatter("%(message)s")
_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}(-.*)?")  # of W3C


class Call:
    """One run of a function, which may be told from any thread that its task is over: by its limit of time, by the end
    of a drain, by the platform. ``reason`` says why, once ``cancelled`` is set."""

    def __init__(self) -> None:
        self.reason = ""
        self.is_told = False  # the function may know it
        self._lock = threading.Lock()  # guards all of it
        self._cancelled: threading.Event | None = None  # made when a function first asks
        self._cancel: Callable[[], object] | None = None  # of the coroutine, while one runs

    @property
    def cancelled(self) -> threading.Event:
        with self._lock:
            if self._cancelled is None:
                self._cancelled = threading.Event()
                if self.reason:
                    self.is_told = True
                    self._cancelled.set()
            return self._cancelled

    def cancel(self, reason: str) -> bool:
        """Set ``cancelled``, and cancel the coroutine. True when there is one: it may take a while to end."""
        with self._lock:
            is_first, self.reason = not self.reason, self.reason or reason
            cancel = self._cancel
            self.is_told = self.is_told or cancel is not None or self._cancelled is not None
            if self._cancelled is not None:
                self._cancelled.set()
        if cancel is not None and is_first:
            with suppress(RuntimeError):  # the coroutine has just ended, and its loop with it
                cancel()
        return cancel is not None

    def resume(self) -> bool:
        """Somebody waits for the result again. False when the function was told that nobody does, and may give up."""
        with self._lock:
            self.reason = self.reason if self.is_told else ""
            return not self.is_told

    def cancelling(self, cancel: Callable[[], object]) -> closing[Call]:
        """A context: while it lasts a coroutine runs, which ``cancel`` cancels from any thread."""
        with self._lock:
            self._cancel, is_over = cancel, bool(self.reason)
            self.is_told = self.is_told or is_over
        if is_over:
            cancel()
        return closing(self)  # a generator's context sets the __traceback__ of errors, and frozen ones refuse that

    def close(self) -> None:
        """The coroutine has ended."""
        with self._lock:
            self._cancel = None


class CurrentTask:
    """What a function may ask about the task that it runs for; more is in ``task``. ``attempt`` is 1 for the first try.
    ``key`` is the same over all tries: an idempotency key. ``stopping`` is set when the worker starts to drain; a long
    function may look at it and end early. ``cancelled`` is set when nobody waits for this task any more (its workflow
    was ended, its time is up): end now."""

    task_id: str
    workflow_instance_id: str
    attempt: int
    key: str
    platform_task_id: str | None
    platform_agent_id: str | None
    input_data: dict[str, Any]

    def __init__(
        self, task: Task, agent_id: str | None, stopping: threading.Event, logger: TaskLogger, call: Call
    ) -> None:
        self.task, self.agent_id, self.stopping, self.logger, self.call = task, agent_id, stopping, logger, call

    @property
    def cancelled(self) -> threading.Event:
        return self.call.cancelled

    def __getattr__(self, name: str) -> Any:
        if name in CurrentTask.__annotations__:
            return getattr(self.task, name)
        raise AttributeError(f"the current task has no {name!r}")


CURRENT: ContextVar[CurrentTask] = ContextVar("current_task")


def current_task() -> CurrentTask:
    """The task that runs in this thread or coroutine. Raises AgentError where there is none."""
    current = CURRENT.get(None)
    if current is None:
        inside = "call it inside an agent function, not while the script is loaded"
        thread = "a thread that you start does not know its task: contextvars.copy_context().run(function) tells it"
        raise AgentError("current_task() was called where no task runs", hints=(inside, thread))
    return current


def sendable(text: str, max_chars: int) -> str:
    """``text`` without what can't be UTF-8 (lone surrogates), and cut in the middle if it is too long."""
    return str(utf8(bounded(text, max_chars)))


class TaskLog:
    """The lines of one task, in order. Any thread may add; what comes after ``close`` is dropped."""

    def __init__(self) -> None:
        # Guards all below. Reentrant: a __del__ that logs may run inside add().
        self._lock = threading.RLock()
        self._head: list[LogLine] = []
        self._tail: deque[tuple[LogLine, int]] = deque()
        self._head_bytes = self._tail_bytes = self._left_out = 0
        self._closed = False
        self._rest = ""  # printed text without its line's end yet

    def add(self, text: str, created_ms: int | None = None) -> None:
        """``created_ms``: epoch milliseconds; now, if there are none."""
        text = sendable(text, MAX_LINE_CHARS)
        size = len(text) if text.isascii() else len(text.encode())
        with self._lock:
            if self._closed:
                return
            line = LogLine(text, int(time.time() * 1000) if created_ms is None else created_ms)
            if not self._tail and len(self._head) < MAX_LINES // 2 and self._head_bytes + size <= MAX_BYTES // 2:
                self._head.append(line)
                self._head_bytes += size
                return
            self._tail.append((line, size))
            self._tail_bytes += size
            while len(self._tail) > MAX_LINES // 2 or self._tail_bytes > MAX_BYTES // 2:
                self._tail_bytes -= self._tail.popleft()[1]
                self._left_out += 1

    def write(self, text: str) -> None:
        """Add what is printed, line by line; a carriage return begins a line anew."""
        with self._lock:
            *lines, rest = (self._rest + text).split("\n")
            self._rest = bounded(rest, MAX_LINE_CHARS)
            for line in lines:
                self.add(line.rstrip("\r").rpartition("\r")[2])

    def close(self) -> list[LogLine]:
        """All lines; a line in the middle says how many were left out there."""
        if self._rest:
            self.write("\n")
        with self._lock:
            self._closed = True
            lines, tail = self._head, [line for line, _ in self._tail]
            self._head = []
            self._tail.clear()
        if self._left_out:
            text = f"… {self._left_out} lines left out: a task's log holds {MAX_LINES} lines, {MAX_BYTES // 1024} kB …"
            lines.append(LogLine(text, tail[0].created_ms))
        return lines + tail


def _free_locks() -> None:
    """In a child: another thread, which is not there, may have held a lock in the fork. One that is free serves all."""
    lock = threading.RLock()
    for kind in (Call, TaskLog):
        kind._lock = property(lambda self: lock, lambda self, value: None)  # type: ignore[assignment]


forking.in_child.add(_free_locks)


def log_fields(task: Task, agent_id: str | None) -> dict[str, object]:
    """The fields of every log line about a task; ``trace_id`` when its input has a ``traceparent``."""
    fields: dict[str, object] = {"agent_id": agent_id, "task_id": task.task_id}
    fields.update(workflow_id=task.workflow_instance_id, attempt=task.attempt)
    parent = task.input_data.get("traceparent")
    found = _TRACEPARENT.fullmatch(parent) if isinstance(parent, str) else None
    return {**fields, "trace_id": found[1]} if found else fields


class TaskLogger(logging.Logger):
    """The ``logger`` that a function receives. What rides in the result is of its own level, or of our loggers', as in
    0.2.0; where nobody has set one, INFO and above, and DEBUG when the root has that. Every record carries ``fields``,
    unless its ``extra`` has others."""

    def __init__(self, name: str, lines: TaskLog, fields: Mapping[str, object]) -> None:
        super().__init__(name)
        self.parent = AGENT_LOG
        self.lines = lines
        self._fields = fields

    def __getattr__(self, name: str) -> Any:
        """What the class has that the script gave to ``logging.setLoggerClass``: a method, a constant."""
        kind = logging.getLoggerClass()
        found = inspect.getattr_static(kind, name)
        return found.__get__(self, kind) if hasattr(found, "__get__") else found

    def __deepcopy__(self, memo: object = None) -> TaskLogger:
        return self

    __copy__ = __deepcopy__

    def __reduce__(self) -> tuple[Any, ...]:
        return logger_named, (self.name,)

    def getEffectiveLevel(self) -> int:  # noqa: N802
        return self.level or AGENT_LOG.level or _OURS.level or min(logging.INFO, AGENT_LOG.getEffectiveLevel())

    def isEnabledFor(self, level: int) -> bool:  # noqa: N802
        # Not Logger.isEnabledFor: logging clears the level cache of registered loggers only.
        return not self.disabled and self.manager.disable < level and level >= self.getEffectiveLevel()

    def getChild(self, suffix: str) -> TaskLogger:  # noqa: N802
        child = TaskLogger(f"{self.name}.{suffix}", self.lines, self._fields)
        child.level = self.level
        return child

    def handle(self, record: logging.LogRecord) -> None:
        # Not Logger's: that of Python 3.13.4 and 3.13.5 turns every logger of the thread off meanwhile, AGENT_LOG too.
        kept: object = not self.disabled and self.filter(record)
        if kept:
            self.callHandlers(kept if isinstance(kept, logging.LogRecord) else record)

    def callHandlers(self, record: logging.LogRecord) -> None:  # noqa: N802
        self.keep(record)
        goes_on = self.propagate and AGENT_LOG.isEnabledFor(record.levelno)
        if self.handlers or goes_on:
            record.__dict__.update({**self._fields, **record.__dict__, "_is_kept": True})
        for handler in self.handlers:
            if record.levelno >= handler.level:
                handler.handle(record)
        if goes_on:
            AGENT_LOG.handle(record)

    def keep(self, record: logging.LogRecord) -> None:
        """Add the record to the task's lines."""
        try:
            is_long = record.exc_info or record.exc_text or record.stack_info
            text = _FORMATTER.format(record) if is_long else str(record.getMessage())
        except Exception as error:  # a %d for a text, a __str__ that raises: never the function's problem
            what = record.msg if isinstance(record.msg, str) else type(record.msg).__name__
            text = f"{what} (this line's arguments don't fit: {type(error).__name__})"
        self.lines.add(text, int(record.created * 1000))


class _ByName(logging.Handler):
    """What ``logging.getLogger(logger.name)`` and the loggers below it say in a task is in the task's log too."""

    def handle(self, record: logging.LogRecord) -> bool:
        current = CURRENT.get(None)
        is_kept = "_is_kept" in vars(record)  # by the TaskLogger, which hands on what it has kept
        if current and not is_kept and f"{record.name}.".startswith(f"{current.logger.name}."):
            current.logger.keep(record)
        return True


BY_NAME = _ByName()  # of the worker alone: without any handler Python prints what a unit test's agent logs


def logger_named(name: str) -> logging.Logger:
    """What a pickled TaskLogger becomes: the running task's logger where the name is its own; elsewhere, in a child
    process say, a logger whose lines stay in that process."""
    current = CURRENT.get(None)
    return current.logger if current and current.logger.name == name else logging.getLogger(name)

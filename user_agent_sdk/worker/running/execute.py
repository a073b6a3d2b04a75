# SPDX-License-Identifier: Apache-2.0
"""One task in, one result out. Never raises, and knows nothing of HTTP."""

from __future__ import annotations

import logging
import math
import threading
import time
import traceback
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from contextvars import copy_context
from typing import Any

from ...agents import PLATFORM_NAMES, Agent
from ...conductor.wire import LARGE_BYTES, REASON_MAX_CHARS, LogLine, Task, TaskResult, TaskStatus
from ...errors import NonRetryableException, OutputError
from ...forking import OneProcess
from .context import AGENT_LOG, CURRENT, Call, CurrentTask, TaskLog, TaskLogger, current_task, log_fields, sendable
from .event_loop import own_frames, run_once
from .inputs import converted, plan
from .output import is_result, to_output

log = logging.getLogger(__name__)

_NO_RETRY = NonRetryableException.__name__  # another package's counts too
_MAX_FRAMES = 50  # of a traceback: the last ones
_LOOP_HINT = 'each worker thread has an event loop of its own; @user_agent(loop="shared") gives all tasks one'


def execute(
    agent: Agent, task: Task, worker_id: str, *, stopping: threading.Event,
    run_async: Callable[[Awaitable[Any]], Any] = run_once, call: Call | None = None,
) -> TaskResult:  # fmt: skip
    """Run the agent's function for the task, in this thread; the result is complete and can be sent.

    ``run_async`` runs the awaitable of an async function. ``call`` is how others end it early. A NonRetryableException,
    a parameter that the input lacks and a value that can't be sent fail the task for good; whatever else is raised,
    SystemExit too, fails this try. The function runs in a copy of the thread's context, so no context variable that it
    sets reaches the next task."""
    lines, began, call = TaskLog(), time.monotonic(), call or Call()
    agent_id = agent.agent_id or task.task_def_name
    fields = log_fields(task, agent_id)
    try:
        logger = TaskLogger(f"{AGENT_LOG.name}.{agent.name}", lines, fields)
        result = copy_context().run(_call, agent, CurrentTask(task, agent_id, stopping, logger, call), run_async)
        for line in result.logs:
            lines.add(*line)
        if log.isEnabledFor(logging.INFO):
            outcome = result.status.value.replace("_", " ").lower()
            with suppress(Exception):  # a script's record factory that has a field of ours, say: not the task's fault
                log.info("%s: %s", agent.name, outcome, extra={"action": "task_ended", **fields, **_duration(began)})
    except BaseException as error:
        result = _failure(error, agent, {**fields, **_duration(began)}, lines, call)
    result.task_id = task.task_id
    result.workflow_instance_id = task.workflow_instance_id
    result.worker_id = worker_id
    result.logs = lines.close()
    return result


def _call(agent: Agent, current: CurrentTask, run_async: Callable[[Awaitable[Any]], Any]) -> TaskResult:
    CURRENT.set(current)
    wanted = agent.plan
    if wanted is None:  # made at the first task: an annotation may name a class that the script defines later
        wanted = agent.plan = plan(agent)
    if wanted:
        args, kwargs = agent.bind(current, converted(wanted, current.task), PLATFORM_NAMES - wanted.keys())
    else:
        args, kwargs = agent.bind(current, current.task.input_data)
    with OneProcess():
        value = agent.func(*args, **kwargs)
        if hasattr(type(value), "__await__"):  # not iscoroutinefunction: a plain wrapper may return a coroutine
            value = run_async(value)
    return _checked(value) if is_result(value) else _with_output(TaskResult(), value)


def _with_output(result: TaskResult, value: Any) -> TaskResult:
    result.output_data, result.encoded_output = to_output(value)
    if len(result.encoded_output) > LARGE_BYTES:
        text = "The output has %d bytes: what is over 3 MB the platform keeps aside, unseen by workers. Return a path"
        current_task().logger.warning(text, len(result.encoded_output))
    return result


def _checked(given: Any) -> TaskResult:
    """A copy of a returned TaskResult, ours or another package's, fit to be sent: the function may hold on to its
    own. One without a status has completed."""
    try:
        status = TaskStatus(getattr(given.status, "value", given.status) or TaskStatus.COMPLETED)
    except ValueError as error:
        raise OutputError(f"the returned TaskResult can't be sent: {error}") from None
    wait_s = getattr(given, "callback_after_seconds", None)
    if wait_s is not None and not (isinstance(wait_s, (int, float)) and 0 <= wait_s < math.inf):
        raise OutputError(f"callback_after_seconds={wait_s!r} of the returned TaskResult is not seconds, 0 or more")
    reason = given.reason_for_incompletion
    result = TaskResult(status=status, extend_lease=True if getattr(given, "extend_lease", None) else None)
    result.reason_for_incompletion = None if reason is None else sendable(str(reason), REASON_MAX_CHARS)
    result.callback_after_seconds = None if wait_s is None else math.ceil(wait_s)
    result.logs = [_line(line) for line in getattr(given, "logs", None) or ()]
    return result if given.output_data is None else _with_output(result, given.output_data)


def _line(given: Any) -> LogLine:
    """A line of a returned TaskResult: ours, a TaskExecLog of another package, or text."""
    created_ms = getattr(given, "created_ms", None) or getattr(given, "created_time", None)
    now_ms = int(time.time() * 1000)
    return LogLine(str(getattr(given, "log", given)), created_ms if isinstance(created_ms, int) else now_ms)


def _duration(began: float) -> dict[str, float]:
    return {"duration_ms": round((time.monotonic() - began) * 1000, 1)}


def _failure(
    error: BaseException, agent: Agent, fields: Mapping[str, object], lines: TaskLog, call: Call
) -> TaskResult:
    """The result for what was raised. The traceback becomes the log's last line, and is logged here."""
    first = None
    with suppress(BaseException):  # an exception that breaks whoever looks at it, or a group that is too deep
        first = _first(error)
    terminal = first is not None or agent.is_lack(error)
    result = TaskResult(status=TaskStatus.FAILED_WITH_TERMINAL_ERROR if terminal else TaskStatus.FAILED)
    result.output_data = {"result": None}  # as 0.2.0: the next step of a workflow may read that key
    result.reason_for_incompletion = type(error).__name__
    try:
        message = _message(first or error)
        reason = message if terminal or not message else f"{type(error).__name__}: {message}"
        if type(error).__name__ == "CancelledError" and call.reason:
            reason = call.reason
        elif isinstance(error, (RuntimeError, ValueError)) and "different" in message and "loop" in message:
            reason += f" ({_LOOP_HINT})"
        result.reason_for_incompletion = sendable(reason or type(error).__name__, REASON_MAX_CHARS)
        frames = own_frames(error.__traceback__)
        earlier = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
        shown: Any = None
        if frames is not None or earlier is not None:  # a coroutine's StopIteration has its frames there
            with suppress(Exception):  # Python 3.11 and 3.12 ask it for __notes__, whatever that raises
                text = traceback.TracebackException(type(error), error, frames, limit=-_MAX_FRAMES).format()
                lines.add("".join(text).rstrip())
                shown = type(error), error, frames
        extra = {"action": "task_failed", **fields}
        AGENT_LOG.error("%s failed: %s", agent.name, result.reason_for_incompletion, exc_info=shown, extra=extra)
    except BaseException:  # noqa: S110 - out of memory, or an exception that breaks whoever looks at it
        pass  # the result stands as it is
    return result


def _first(error: BaseException) -> BaseException | None:
    """The error that makes the failure final: ``error`` itself, or the first of a group of nothing but final ones."""
    if isinstance(error, OutputError) or any(base.__name__ == _NO_RETRY for base in type(error).__mro__):
        return error
    group = getattr(error, "exceptions", None)  # by its shape: ExceptionGroup is newer than Python 3.9
    firsts = [_first(each) for each in group] if isinstance(group, tuple) else []
    return firsts[0] if firsts and None not in firsts else None


def _message(error: BaseException) -> str:
    try:
        if isinstance(error, SystemExit):
            return f"{error.code}: the function called exit(); return a value, or raise an exception that says why"
        return str(error).strip()
    except Exception as broken:
        return f"(its message can't be shown: {type(broken).__name__})"

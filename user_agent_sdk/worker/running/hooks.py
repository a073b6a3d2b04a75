# SPDX-License-Identifier: Apache-2.0
"""``@on_start`` and ``@on_stop``: functions of a script that run once for each worker, before its first poll and after
its drain. Each has a thread for itself, so that one that hangs can be left behind; a coroutine runs on the loop that
agents with ``loop="shared"`` have, and what it opens works in their tasks."""

from __future__ import annotations

import inspect
import logging
import threading
import time
import traceback
from collections.abc import Awaitable
from typing import Any, Callable, NamedTuple, overload

from ...agents import F, is_number
from ...errors import AgentError, ConfigError
from ...forking import OneProcess
from .event_loop import GRACE_S, own_frames

LIMIT_S = 30.0
LOOK_S = 0.1

log = logging.getLogger(__name__)


class Hook(NamedTuple):
    func: Callable[[], Any]
    timeout_s: float
    where: str
    code: object


STARTS: list[Hook] = []  # in the order of registration; clear() both before a reload
STOPS: list[Hook] = []


@overload
def on_start(func: F, *, timeout_s: float = LIMIT_S) -> F: ...
@overload
def on_start(*, timeout_s: float = LIMIT_S) -> Callable[[F], F]: ...
def on_start(func: Any = None, *, timeout_s: float = LIMIT_S) -> Any:
    """Call the function, which takes no arguments, once before the worker's first poll: ``@on_start``, or
    ``@on_start(timeout_s=120)``. One that raises or is late keeps the worker from starting. Raises AgentError for what
    can't be called, ConfigError for the limit."""
    return _registered(func, timeout_s, STARTS)


@overload
def on_stop(func: F, *, timeout_s: float = LIMIT_S) -> F: ...
@overload
def on_stop(*, timeout_s: float = LIMIT_S) -> Callable[[F], F]: ...
def on_stop(func: Any = None, *, timeout_s: float = LIMIT_S) -> Any:
    """The same, once after the worker's last task, and after a start hook that failed. The last one that was registered
    is the first to run; what it raises is logged, and the end goes on."""
    return _registered(func, timeout_s, STOPS)


def _registered(func: Any, timeout_s: float, hooks: list[Hook]) -> Any:
    if func is None:
        return lambda func: _registered(func, timeout_s, hooks)
    name, code = getattr(func, "__qualname__", repr(func)), getattr(inspect.unwrap(func), "__code__", None)
    where = f"{name} ({code.co_filename}:{code.co_firstlineno})" if code else name
    if not callable(func) or inspect.isgeneratorfunction(func) or inspect.isasyncgenfunction(func):
        hints = ["a hook is a function without a yield: one with @on_start opens, another with @on_stop closes"]
        raise AgentError(f"{where} can't be a hook", code="agent-signature", hints=hints)
    if not (is_number(timeout_s) and timeout_s):
        raise ConfigError(f"timeout_s={timeout_s!r} of {where} can't be used", hints=["it is seconds, more than 0"])
    for twin in [known for known in hooks if known.code == code and known.func.__module__ != func.__module__]:
        hooks.remove(twin)  # a helper has imported the script too
    hooks.append(Hook(func, timeout_s, where, code or func))
    return func


class Late(Exception):
    """A hook has not ended in its time."""


class Hooks:
    """The hooks that are registered when a worker is made. ``run_async`` runs a coroutine; ``look`` is called
    meanwhile, by the thread that waits for a hook."""

    def __init__(self, run_async: Callable[[Awaitable[Any]], Any]) -> None:
        self._starts, self._stops = [*STARTS], STOPS[::-1]
        self._run_async = run_async
        self._has_begun = False
        self.runs: str | None = None  # the hook that is waited for, and how long at most

    @property
    def stop_s(self) -> float:
        """How long the stop hooks may take, all together, and at most so long that a wait can add some."""
        return min(threading.TIMEOUT_MAX / 2, sum(hook.timeout_s + GRACE_S for hook in self._stops))

    def start(self, look: Callable[[], bool]) -> bool:
        """Run the start hooks until ``look`` tells of a stop; False then. Raises AgentError (agent-start)."""
        self._has_begun = True
        for hook in self._starts:
            error = self._call(hook, look)
            if isinstance(error, Late):
                hints = [f"@on_start(timeout_s={2 * hook.timeout_s:g}) gives it more time"]
                text = f"the start hook {hook.where} had not ended after {hook.timeout_s:g} s"
                raise AgentError(text, code="agent-start", hints=hints)
            if error is not None:
                shown = traceback.TracebackException(type(error), error, own_frames(error.__traceback__))
                text = f"the start hook {hook.where} failed\n{''.join(shown.format()).rstrip()}"
                raise AgentError(text, code="agent-start") from error
            if look():
                return False
        return True

    def stop(self, look: Callable[[], object]) -> None:
        """Run the stop hooks, if the start hooks were begun."""
        for hook in self._stops if self._has_begun else ():
            error = self._call(hook, look)
            if isinstance(error, Late):
                text = "The stop hook %s had not ended after %g s; the end goes on"
                log.error(text, hook.where, hook.timeout_s, extra={"action": "stop_hook_late"})
            elif error is not None:
                shown = (type(error), error, own_frames(error.__traceback__))
                log.error("The stop hook %s failed", hook.where, exc_info=shown, extra={"action": "stop_hook_failed"})

    def _call(self, hook: Hook, look: Callable[[], object]) -> BaseException | None:
        """What the hook raised; Late when it has not ended in its time."""
        error: BaseException | None = None
        until, grace_s = time.monotonic() + hook.timeout_s, 0.0  # the grace is a coroutine's, to end once cancelled

        def call() -> None:
            nonlocal error, grace_s
            try:
                with OneProcess():
                    value = hook.func()
                    if hasattr(type(value), "__await__"):
                        grace_s = GRACE_S
                        self._run_async(_limited(value, until))
            except BaseException as raised:
                error = raised

        thread = threading.Thread(target=call, name="hook", daemon=True)
        self.runs = f"the hook {hook.where}, {hook.timeout_s:g} s at most"
        try:
            thread.start()
            while True:
                thread.join(max(0.0, min(LOOK_S, until + grace_s - time.monotonic())))
                if not thread.is_alive():
                    return error
                look()
                if time.monotonic() >= until + grace_s:
                    return Late()
        finally:
            self.runs = None


async def _limited(awaitable: Awaitable[Any], until: float) -> None:
    import asyncio
    task = asyncio.ensure_future(awaitable)
    if not (await asyncio.wait({task}, timeout=until - time.monotonic()))[0]:
        task.cancel()
        await asyncio.wait({task}, timeout=GRACE_S)
        raise Late
    task.result()

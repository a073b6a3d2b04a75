# SPDX-License-Identifier: Apache-2.0
"""Event loops for async functions: one for each slot, kept between tasks, or one that all slots share."""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Awaitable, Iterable
from contextlib import AbstractContextManager, closing, nullcontext, suppress
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any, Callable

from ... import forking
from .context import CURRENT

if TYPE_CHECKING:
    import asyncio

GRACE_S = 5.0  # for a cancelled coroutine to end
WATCH_S = 0.5  # between two looks at whether the shared loop is blocked
BLOCKED_S = 1.0
_NOT_THE_AGENTS = (__name__.rpartition(".worker.")[0] + ".", "asyncio.", "threading", "concurrent.")

log = logging.getLogger(__name__)


class AsyncRunner:
    """Runs awaitables on a loop of its own. One thread owns it; asyncio is imported at the first run."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None

    def run(self, awaitable: Awaitable[Any]) -> Any:
        """The awaitable's result, or the exception that it raised, whatever its kind.

        Tasks that it started and left are cancelled, with a warning; the loop is as good as new for the next run.
        """
        import asyncio

        if self._loop is None or self._loop.is_closed():
            self._loop = asyncio.new_event_loop()
        loop = self._loop
        task = _task(loop, awaitable)
        try:
            with _cancellable(lambda: loop.call_soon_threadsafe(task.cancel)):
                return loop.run_until_complete(task)
        finally:
            # A KeyboardInterrupt or SystemExit leaves run_until_complete before all others have run.
            leftover, until = asyncio.all_tasks(loop) - {task}, time.monotonic() + GRACE_S
            while task.done() and (left_s := until - time.monotonic()) > 0:
                closing = {each for each in leftover if _names([each]) == "async_generator_athrow"}
                if not closing:
                    break
                # Of an ``async for`` that was left: its generator's finally may await, and leave another one.
                waiting = loop.create_task(asyncio.wait(closing, timeout=left_s))
                while not waiting.done():
                    with suppress(BaseException):  # a SystemExit in a finally, which is not the function's end
                        loop.run_until_complete(waiting)
                leftover = asyncio.all_tasks(loop) - {task}
            if leftover:
                text = "%s was left running and is cancelled: await it before the function returns"
                said_by = getattr(CURRENT.get(None), "logger", log)
                said_by.warning(text, _names(leftover), extra={"action": "async_leftover"})
            if leftover or not task.done():
                self._cancel(loop, leftover | {task})
            if task.done() and not task.cancelled():
                task.exception()  # mark the exception as seen, else asyncio logs it

    def _cancel(self, loop: asyncio.AbstractEventLoop, leftover: set[asyncio.Future[Any]]) -> None:
        import asyncio

        for task in leftover:
            task.cancel()
        try:
            _, pending = loop.run_until_complete(asyncio.wait(leftover, timeout=GRACE_S))
        except BaseException:  # a task answered the cancel with a SystemExit
            pending = leftover
        if pending:
            text = "%s ignored the cancellation; the slot gets a new event loop"
            log.warning(text, _names(pending), extra={"action": "async_leftover"})
            self.close()

    def close(self) -> None:
        """End the loop; the next run opens a new one. Call it in the owner's thread."""
        loop, self._loop = self._loop, None
        if loop is None:
            return
        with closing(loop), suppress(RuntimeError):
            loop.call_later(GRACE_S, loop.stop)  # a generator that was left may await for ever in its finally
            loop.run_until_complete(loop.shutdown_asyncgens())


class SharedLoop:
    """One loop for all tasks of the agents that want it, on a thread of its own that begins with the first: what a
    module keeps (a session, a lock, a pool) works in every task. What a task leaves running goes on."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # guards _loop, which is set once
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ident: int | None = None  # of the loop's thread
        self._closed = threading.Event()
        self._said: set[str] = set()  # the functions that were seen to block

    def run(self, awaitable: Awaitable[Any]) -> Any:
        """As :meth:`AsyncRunner.run`, from any number of threads at once."""
        loop = self._started()
        running = threading.Lock()  # locked until the task has ended: a Future does the same at twice the price
        tasks: list[asyncio.Future[Any]] = []

        def begin() -> None:
            try:
                tasks.append(_task(loop, awaitable))
            except BaseException as error:  # of a task factory that the script gave to the loop, maybe an eager one
                tasks.append(loop.create_future())
                tasks[0].set_exception(error)
            tasks[0].add_done_callback(lambda _: running.release())

        running.acquire()
        loop.call_soon_threadsafe(begin)  # in this thread's context, which the task copies
        with _cancellable(lambda: loop.call_soon_threadsafe(lambda: tasks[0].cancel())):
            running.acquire()
        return tasks[0].result()

    def close(self) -> None:
        """Cancel what still runs, and end the loop."""
        with self._lock:
            loop, self._loop = self._loop, None
        if loop is None:
            return
        import asyncio

        async def wind_up() -> None:
            left = asyncio.all_tasks() - {asyncio.current_task()}
            for task in left:
                task.cancel()
            if left:
                log.info("%s ran to the end of the worker", _names(left), extra={"action": "async_leftover"})
                await asyncio.wait(left, timeout=GRACE_S)
            await asyncio.wait_for(loop.shutdown_asyncgens(), GRACE_S)

        with suppress(Exception):
            asyncio.run_coroutine_threadsafe(wind_up(), loop).result(2 * GRACE_S)
        self._closed.set()
        forking.in_child.discard(self._end_child)
        loop.call_soon_threadsafe(loop.stop)

    def _started(self) -> asyncio.AbstractEventLoop:
        import asyncio

        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                thread = threading.Thread(target=self._serve, args=(self._loop,), name="shared-loop", daemon=True)
                thread.start()
                self._ident = thread.ident
                forking.in_child.add(self._end_child)
                threading.Thread(target=self._watch, args=(self._loop, thread), name="loop-watch", daemon=True).start()
            return self._loop

    def _serve(self, loop: asyncio.AbstractEventLoop) -> None:
        while not self._closed.is_set():
            with suppress(SystemExit, KeyboardInterrupt):  # of a task, which has it as its result
                loop.run_forever()
        loop.close()

    def _end_child(self) -> None:
        """A child that a coroutine has forked must not run the loop on, whose tasks and selector are the parent's:
        it ends with its coroutine, or at its next await."""
        if self._loop is not None and threading.get_ident() == self._ident:
            for handle in getattr(self._loop, "_ready", ()):
                handle.cancel()
            text = "a child that is forked on the shared event loop can't await there"
            self._loop.call_soon(forking.end, RuntimeError(text))

    def _watch(self, loop: asyncio.AbstractEventLoop, thread: threading.Thread) -> None:
        """Say, once for each function, that it blocks the loop: all tasks wait for it."""
        while not self._closed.wait(WATCH_S):
            beat = threading.Event()
            with suppress(RuntimeError):  # just closed
                loop.call_soon_threadsafe(beat.set)
            if beat.wait(BLOCKED_S):
                continue
            culprit = _outermost(sys._current_frames().get(thread.ident or 0))
            if culprit and culprit not in self._said:
                self._said.add(culprit)
                text = "%s blocks the event loop that all tasks share, for over %g s: await, or use asyncio.to_thread"
                log.warning(text, culprit, BLOCKED_S, extra={"action": "loop_blocked"})
            while not beat.wait(WATCH_S) and not self._closed.is_set():
                pass


def _task(loop: asyncio.AbstractEventLoop, awaitable: Awaitable[Any]) -> asyncio.Task[Any]:
    """A task in whose last step a child that was forked in it ends: asyncio of Python 3.14 does not go on there."""

    async def alone() -> Any:
        with forking.OneProcess():
            return await awaitable

    coroutine: Any = alone()
    coroutine.__qualname__ = _name(awaitable)
    try:
        return loop.create_task(coroutine)
    except BaseException:
        coroutine.close()
        raise


def _cancellable(cancel: Callable[[], object]) -> AbstractContextManager[object]:
    """While this lasts, whoever ends the current task early calls ``cancel``."""
    current = CURRENT.get(None)
    return nullcontext() if current is None else current.call.cancelling(cancel)


def _names(tasks: Iterable[asyncio.Future[Any]]) -> str:
    """Of their coroutines: ``fetch, notify``."""
    return ", ".join(sorted({_name(getattr(task, "get_coro", lambda: None)()) for task in tasks}))


def _name(coroutine: object) -> str:
    return str(getattr(coroutine, "__qualname__", type(coroutine).__name__))


def _outermost(frame: FrameType | None) -> str | None:
    """``name (file:line)`` of the agent's frame that the loop called, and where it is; None when the loop is idle."""
    found = None
    while frame is not None:
        if not str(frame.f_globals.get("__name__")).startswith(_NOT_THE_AGENTS):
            found = f"{frame.f_code.co_name} ({frame.f_code.co_filename}:{frame.f_lineno})"
        frame = frame.f_back
    return found


def own_frames(frames: TracebackType | None) -> TracebackType | None:
    """The traceback from the agent's first frame on; None when no code of the agent's was on the stack."""
    while frames is not None and str(frames.tb_frame.f_globals.get("__name__")).startswith(_NOT_THE_AGENTS):
        frames = frames.tb_next
    return frames


def run_once(awaitable: Awaitable[Any]) -> Any:
    """Run one awaitable on a loop made for it."""
    with closing(AsyncRunner()) as runner:
        return runner.run(awaitable)

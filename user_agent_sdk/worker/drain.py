# SPDX-License-Identifier: Apache-2.0
"""Threads that a worker has from its start, so that a stop needs no new ones: those of its slots, and one that ends
the process when a stop hangs. And the steps of a drain: slots are awaited; past the deadline coroutines are cancelled
and other functions given up; then results are delivered."""

from __future__ import annotations

import logging
import os
import queue
import threading
import time
from collections.abc import Sequence
from typing import Callable

from ..conductor.wire import LONG_POLL_MAX_MS, TaskStatus
from ..errors import EXIT_UNDELIVERED, UserAgentError
from ..logs import counted
from .keeping.custody import Custody
from .keeping.held import State, failure
from .running.event_loop import GRACE_S

log = logging.getLogger(__name__)

OPEN_POLL_S = LONG_POLL_MAX_MS / 1000 + 1.0  # a drain waits so long for an open poll, which may bring a task
LAST_REPORT_S = 2.0
STUMBLED_AGAIN_S = 0.5
STOPPED = "the worker was stopped while the task ran"


class Crew:
    """A thread for each piece of work, as many as can be had. ``on_end`` is called when one has ended."""

    def __init__(self, on_end: Callable[[], None]) -> None:
        self._on_end = on_end
        self._changed = threading.Condition()  # guards at_work
        self.at_work = 0
        self._threads: list[threading.Thread] = []

    def start(self, works: Sequence[Callable[[], None]]) -> None:
        """Raises UserAgentError when not even one thread can be started."""
        for number, work in enumerate(works):
            thread = threading.Thread(target=self._run, args=(work,), name=f"slot_{number}", daemon=True)
            try:
                thread.start()
            except (RuntimeError, MemoryError) as error:
                if not self._threads:
                    raise no_threads(error) from None
                text = "Only %d of %d slots could be started (%s): the worker goes on with those"
                log.error(text, number, len(works), error, extra={"action": "slots_missing"})
                return
            self._threads.append(thread)
            with self._changed:
                self.at_work += 1

    def _run(self, work: Callable[[], None]) -> None:
        try:
            work()
        finally:
            with self._changed:
                self.at_work -= 1
                self._changed.notify_all()
            self._on_end()

    def wait(self, most: int, timeout_s: float) -> bool:
        """Wait until no more than ``most`` are at work. True when that is so."""
        with self._changed:
            return self._changed.wait_for(lambda: self.at_work <= most, timeout_s)

    def join(self, timeout_s: float) -> None:
        """Once none is at work: each thread is about to end."""
        for thread in self._threads:
            thread.join(timeout_s)


def keep_limit(limits_s: queue.SimpleQueue[float | None]) -> None:
    """End the process with exit 7 when a stop takes longer than the number that was put last, whatever hangs; after
    None there is no limit. The thread that does this waits from the start on, and takes no lock that somebody could
    hold."""
    limit_s = limits_s.get()
    try:
        while limit_s is not None:
            limit_s = limits_s.get(timeout=limit_s)
    except queue.Empty:
        os._exit(EXIT_UNDELIVERED)


def no_threads(error: BaseException) -> UserAgentError:
    hints = ["raise the limit of threads (ulimit -u, pids.max, TasksMax), or run fewer programs here"]
    return UserAgentError(f"no thread can be started: {error}", code="io", hints=hints)


class Drain:
    """``deadline`` is on the clock, None for no limit; ``heed_signals`` is called between two looks."""

    def __init__(self, crew: Crew, custody: Custody, heed_signals: Callable[[], None]) -> None:
        self._crew, self._custody, self._heed_signals = crew, custody, heed_signals
        self.deadline: float | None = None

    def is_late(self) -> bool:
        return self.deadline is not None and time.monotonic() >= self.deadline

    def insist(self, step: Callable[[], int | None]) -> int:
        """Take a step, again and again where memory or descriptors are short, until the drain is late; what it said."""
        while True:
            try:
                return step() or 0
            except Exception:
                log.exception("The worker stumbled; it goes on", extra={"action": "stumbled"})
                if self.is_late():
                    return 1
                self._crew.wait(0, STUMBLED_AGAIN_S)

    def await_slots(self) -> None:
        polls_until, register = time.monotonic() + OPEN_POLL_S, self._custody.register
        while not self._crew.wait(register.stuck, 0.05) and not self.is_late():
            if time.monotonic() >= polls_until and not register.pending():
                break
            self._heed_signals()

    def await_deliveries(self) -> None:
        self._custody.delivery.hurry()
        while not self._custody.delivery.flush(0.05) and not self.is_late():
            self._heed_signals()

    def cancel_coroutines(self) -> int:
        """Cancel the coroutines that still run, and await their slots; how many there were."""
        register = self._custody.register
        running = register.running()
        cancelled = [held for held in running if held.call is not None and held.call.cancel(STOPPED)]
        until = time.monotonic() + GRACE_S
        others = register.stuck + len(running) - len(cancelled)
        while cancelled and not self._crew.wait(others, 0.05) and time.monotonic() < until:
            self._heed_signals()
        return len(cancelled)

    def cut_off(self) -> int:
        """Report each task that still runs as failed, all at once and for 2 s at most; how many there were."""
        custody, until = self._custody, time.monotonic() + LAST_REPORT_S
        given_up = sum(held.state is State.ONCE for held in custody.register.pending()) if self.is_late() else 0
        custody.drain_is_over.set()
        self._crew.wait(0, 0.05 * bool(given_up))
        for held in custody.register.running():
            given_up += custody.give_up(held, failure(held, TaskStatus.FAILED, STOPPED)) is not None
        if given_up:
            log.error("Stopped while %s ran", counted(given_up, "task"), extra={"action": "cut_off"})
            while not custody.delivery.flush(0.05) and time.monotonic() < until:
                self._heed_signals()
        return given_up

# SPDX-License-Identifier: Apache-2.0
"""Threads that a worker has from its start, so that a stop needs no new ones: those of its slots, and one that ends
the process when a stop hangs."""

from __future__ import annotations

import logging
import os
import queue
import threading
import time
from collections.abc import Sequence
from typing import Callable

from ..errors import EXIT_UNDELIVERED, UserAgentError

log = logging.getLogger(__name__)


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
        deadline = time.monotonic() + timeout_s
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))


class Limit:
    """Ends the process with exit 7 when a stop takes too long, whatever hangs. Its thread waits from the start on, and
    takes no lock that somebody could hold."""

    def __init__(self) -> None:
        self._seconds: queue.SimpleQueue[float | None] = queue.SimpleQueue()

    def start(self) -> None:
        threading.Thread(target=self._run, name="drain-limit", daemon=True).start()

    def arm(self, seconds: float) -> None:
        self._seconds.put(seconds)

    def close(self) -> None:
        self._seconds.put(None)

    def _run(self) -> None:
        seconds = self._seconds.get()
        try:
            while seconds is not None:
                seconds = self._seconds.get(timeout=seconds)
        except queue.Empty:
            os._exit(EXIT_UNDELIVERED)


def no_threads(error: BaseException) -> UserAgentError:
    hints = ["raise the limit of threads (ulimit -u, pids.max, TasksMax), or run fewer programs here"]
    return UserAgentError(f"no thread can be started: {error}", code="io", hints=hints)

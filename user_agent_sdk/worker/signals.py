# SPDX-License-Identifier: Apache-2.0
"""Signals become numbers in a queue, which the main thread reads. A handler does nothing else: setting an Event in one
can deadlock with a main thread that waits on it (seen on every Python), SimpleQueue.put can't."""

from __future__ import annotations

import os
import queue
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Callable

from .. import forking

STOP = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGBREAK", "SIGHUP") if hasattr(signal, name)]
HANGUP = getattr(signal, "SIGHUP", None)
# What comes so soon after another signal is the same one: `timeout` and sudo forward one that the whole group gets, and
# nobody presses a key as fast. On Windows a handler may run half a second late, and Python has made one of two by then.
REPEAT_S = 0.3 if os.name == "posix" else 0.0


@contextmanager
def into(
    numbers: queue.SimpleQueue[int], breaks: Callable[[], bool] = lambda: False,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[None]:  # fmt: skip
    """While this lasts, each signal that asks to stop puts its number into ``numbers``, and while ``breaks`` says so
    raises KeyboardInterrupt too; outside the main thread, where no handler can be set, it does nothing. A hangup is no
    second signal, nor is what comes second to one: the shell and the kernel send one each when a terminal is lost, and
    systemd sends one with its SIGTERM, in any order. A repeat of what came just now counts for nothing."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    came: set[int] = set()
    repeats_until = 0.0

    def handle(number: int, frame: Any) -> None:
        nonlocal repeats_until
        is_new = number != HANGUP and clock() >= repeats_until
        if is_new:
            repeats_until = clock() + REPEAT_S
        counts = not came or (is_new and came != {HANGUP})
        came.add(number)
        if counts:
            numbers.put(number)
            if breaks():
                raise KeyboardInterrupt

    # A terminal that was lost does not concern a program that was started with nohup.
    is_nohup = HANGUP is not None and signal.getsignal(HANGUP) is signal.SIG_IGN
    before = {number: signal.signal(number, handle) for number in STOP if number != HANGUP or not is_nohup}
    forking.former_handlers.update(before)
    try:
        yield
    finally:
        forking.former_handlers.clear()
        for number, handler in before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)


def is_second(numbers: queue.SimpleQueue[int]) -> bool:
    """Whether a signal came that ends a stop at once, which may have begun without one; for the queue's one reader.
    A number that is not above 0 is no signal."""
    while not numbers.empty():
        number = numbers.get_nowait()
        if number > 0 and number != HANGUP:
            return True
    return False

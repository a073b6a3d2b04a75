# SPDX-License-Identifier: Apache-2.0
"""A long wait is never mute: lines on a terminal, and none in a pipe or with ``--quiet``."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Callable

from ..settings import Settings
from . import terminal

LOOK_S = 1.0
FIRST_PAUSE_S, LONGEST_PAUSE_S = 5.0, 60.0


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
def shown(settings: Settings, sentence: Callable[[], str | None]) -> Iterator[None]:
    """While this lasts, and from a second on, show the sentences that ``sentence`` returns."""
    if settings.quiet or not terminal.stderr().isatty():
        yield
        return
    ended, pace = threading.Event(), Pace()

    def look() -> None:
        while not ended.wait(LOOK_S):
            text = sentence()
            if pace.is_due(text, time.monotonic()):
                terminal.note(f"{time.strftime('%H:%M:%S')} ...     {text}")

    thread = threading.Thread(target=look, name="waiting", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(LOOK_S)

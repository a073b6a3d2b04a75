# SPDX-License-Identifier: Apache-2.0
"""How many tasks may still be taken (``--max-tasks``), shared by the agents of a worker."""

from __future__ import annotations

import threading
from typing import Callable


class Budget:
    """How many tasks may still be taken (``--max-tasks``); None = any number. ``on_spent`` is called when
    the last one was; ``is_shared`` by several agents."""

    def __init__(self, tasks: int | None, on_spent: Callable[[], None] = lambda: None, is_shared: bool = False) -> None:
        self._lock = threading.Lock()  # guards the next three
        self._left = tasks
        self._reserved = 0
        self._queue: list[object] = []  # gates that were refused, and ask again
        self._on_spent = on_spent
        self._is_shared = is_shared

    def reserve(self, who: object) -> bool:
        """Ask for one task; it is taken, or given back, later. First come, first served: an agent whose
        queue is empty gives the last one back and would be the first to ask again."""
        if self._left is None:
            return True
        with self._lock:
            if who not in self._queue:
                self._queue.append(who)
            if self._queue.index(who) >= self._left - self._reserved:
                return False
            self._queue.remove(who)
            self._reserved += 1
            return True

    def settle(self, taken: int) -> None:
        """A reserved task was taken (1) or did not come (0)."""
        if self._left is None:
            return
        with self._lock:
            self._reserved -= 1
            self._left -= taken
        if taken and self.is_spent:
            self._on_spent()

    @property
    def is_limited(self) -> bool:
        return self._left is not None

    @property
    def is_scarce(self) -> bool:
        """All that is left is reserved, and other agents wait for what comes of it."""
        return self._is_shared and self._left is not None and self._reserved >= self._left

    @property
    def is_spent(self) -> bool:
        return self._left is not None and self._left <= 0

# SPDX-License-Identifier: Apache-2.0
"""Things that are due at times, acted on by a few threads: leases, deliveries and upkeep use it."""

from __future__ import annotations

import heapq
import logging
import threading
import time
from collections.abc import Hashable
from typing import Callable, Generic, TypeVar

log = logging.getLogger(__name__)
Item = TypeVar("Item")

RESTART_PAUSE_S = 0.25
FAILED_AGAIN_S = 1.0


class Timetable(Generic[Item]):
    """Calls ``act(item)`` when the item is due; it returns the seconds until it is due again, or None
    when it is done with. An item is never acted on by two threads at once.

    An ``act`` that raises is logged, its item is due again after a second, and the thread goes on.
    """

    def __init__(
        self,
        name: str,
        act: Callable[[Item], float | None],
        threads: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name = name
        self._act = act
        self._count = threads
        self._clock = clock
        lock = threading.Lock()  # guards all below; the two conditions are on it
        self._changed = threading.Condition(lock)
        self._emptied = threading.Condition(lock)
        self._items: dict[Hashable, tuple[int, float, Item]] = {}  # key -> newest entry's number, when due, item
        self._heap: list[tuple[float, int, Hashable]] = []  # may hold entries that are out of date
        self._acting: set[Hashable] = set()  # keys; none has a current entry in the heap
        self._number = 0
        self._closed = False
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        for number in range(1, self._count + 1):
            name = f"{self._name}-{number}" if self._count > 1 else self._name
            thread = threading.Thread(target=self._run, name=name, daemon=True)
            thread.start()
            self._threads.append(thread)

    def __len__(self) -> int:
        return len(self._items)

    def __contains__(self, key: Hashable) -> bool:
        return key in self._items

    def next_due(self) -> float | None:
        """When the first item is due, on the clock."""
        with self._changed:
            return min((due for _, due, _ in self._items.values()), default=None)

    def put(self, key: Hashable, item: Item, delay_s: float) -> None:
        """Add an item, or set anew when it is due."""
        with self._changed:
            self._push(key, item, self._clock() + delay_s)

    def drop(self, key: Hashable) -> Item | None:
        """Forget an item and return it; one that is being acted on will not come back."""
        with self._changed:
            known = self._items.pop(key, None)
            self._tell_if_empty()
            return known[2] if known is not None else None

    def hurry(self) -> None:
        """Everything is due now, save what is being acted on."""
        with self._changed:
            now = self._clock()
            for key, (_, due, item) in list(self._items.items()):
                if key not in self._acting and due > now:
                    self._push(key, item, now)

    def wait_empty(self, timeout_s: float | None) -> bool:
        """Wait until nothing is left, or for ``timeout_s``. True when nothing is."""
        with self._emptied:
            return self._emptied.wait_for(lambda: not self._items, timeout_s)

    def close(self) -> None:
        """Stop the threads after what they are doing; items stay as they are."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def join(self, timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def _push(self, key: Hashable, item: Item, due: float) -> None:
        self._number += 1
        self._items[key] = (self._number, due, item)
        if key in self._acting:
            return  # its entry comes when that is over
        heapq.heappush(self._heap, (due, self._number, key))
        if len(self._heap) > 2 * len(self._items) + 64:
            self._heap = [entry for entry in self._heap if self._is_current(entry)]
            heapq.heapify(self._heap)
        if self._heap[0][1] == self._number:
            self._changed.notify()  # one waits for the head; who takes it wakes the next

    def _tell_if_empty(self) -> None:
        if not self._items:
            self._emptied.notify_all()

    def _is_current(self, entry: tuple[float, int, Hashable]) -> bool:
        known = self._items.get(entry[2])
        return known is not None and known[0] == entry[1]

    def _run(self) -> None:
        while not self._closed:
            try:
                self._turn()
            except BaseException:
                log.critical(
                    "Thread %s failed; it goes on", self._name, exc_info=True, extra={"action": "thread_failed"}
                )
                with self._changed:
                    self._changed.wait_for(lambda: self._closed, RESTART_PAUSE_S)

    def _turn(self) -> None:
        taken = self._take()
        if taken is None:
            return
        key, number, item = taken
        delay_s: float | None = FAILED_AGAIN_S
        try:
            delay_s = self._act(item)
        finally:
            with self._changed:
                self._acting.discard(key)
                known = self._items.get(key)
                if known is not None and known[0] != number:  # it was put anew meanwhile
                    self._push(key, known[2], known[1])
                elif known is not None and delay_s is not None:
                    self._push(key, item, self._clock() + delay_s)
                elif known is not None:
                    del self._items[key]
                    self._tell_if_empty()

    def _take(self) -> tuple[Hashable, int, Item] | None:
        """The next item that is due, waited for; None when closed."""
        with self._changed:
            while not self._closed:
                while self._heap and not self._is_current(self._heap[0]):
                    heapq.heappop(self._heap)
                wait_s = self._heap[0][0] - self._clock() if self._heap else None
                if wait_s is not None and wait_s <= 0:
                    _, number, key = heapq.heappop(self._heap)
                    self._acting.add(key)
                    if self._heap:
                        self._changed.notify()
                    return key, number, self._items[key][2]
                self._changed.wait(min(wait_s, threading.TIMEOUT_MAX) if wait_s is not None else None)
            return None

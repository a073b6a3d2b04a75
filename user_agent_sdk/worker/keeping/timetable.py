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
Item = TypeVar("Item", bound=Hashable)

RESTART_PAUSE_S = 0.25
FAILED_AGAIN_S = 1.0
OVERDUE_S = 0.25  # the first item is so late: one more thread helps
IDLE_S = 30.0  # a helping thread ends after so long without an item
OVERSLEPT_S = 1.0


class Timetable(Generic[Item]):
    """Calls ``act(item)`` when the item is due; it returns the seconds until it is due again, or None when it is done
    with. An item is never acted on by two threads at once. ``threads`` are there from :meth:`start` on; more come, up
    to ``most``, while items are overdue. An ``act`` that raises is logged, its item is due again after a second, and
    the thread goes on. ``on_overslept`` hears of a thread that woke late, by how many seconds, and how many of them the
    process computed."""

    def __init__(
        self, name: str, act: Callable[[Item], float | None], threads: int, clock: Callable[[], float] = time.monotonic,
        *, most: int | None = None, on_overslept: Callable[[float, float], None] | None = None,
    ) -> None:  # fmt: skip
        self._name, self._act, self._clock, self._on_overslept = name, act, clock, on_overslept
        self._count, self._most = threads, most or threads
        self._lock = threading.Lock()  # guards all below; the two conditions are on it
        self._changed = threading.Condition(self._lock)
        self._emptied = threading.Condition(self._lock)
        self._items: dict[Item, tuple[int, float]] = {}  # its newest entry's number, when due
        self._heap: list[tuple[float, int, Item]] = []  # may hold entries that are out of date
        self._acting: set[Item] = set()  # none has a current entry in the heap
        self._number = 0
        self._idle = 0  # threads that wait for an item
        self._grows_at = 0.0
        self._closed = False
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Raises RuntimeError when the system has no threads left."""
        for _ in range(self._count):
            thread = self._new(self._run)
            thread.start()
            self._threads.append(thread)

    def _new(self, run: Callable[[], None]) -> threading.Thread:
        name = f"{self._name}-{len(self._threads) + 1}" if self._most > 1 else self._name
        return threading.Thread(target=run, name=name, daemon=True)

    def _help(self) -> None:
        self._run(IDLE_S)
        with self._lock:
            self._threads.remove(threading.current_thread())

    def __len__(self) -> int:
        return len(self._items)

    def items(self) -> list[Item]:
        with self._lock:
            return list(self._items)

    def next_due(self) -> float | None:
        """When the first item is due, on the clock."""
        with self._lock:
            return min((due for _, due in self._items.values()), default=None)

    def put(self, item: Item, delay_s: float, *, if_kept: bool = False) -> None:
        """Add an item, or set anew when it is due; with ``if_kept`` one that was dropped is not added."""
        with self._lock:
            if item in self._items or not if_kept:
                self._push(item, self._clock() + delay_s)

    def drop(self, item: Item) -> None:
        """Forget an item; one that is being acted on will not come back."""
        with self._lock:
            self._forget(item)

    def hurry(self, *items: Item) -> None:
        """These, or else all, are due now, save what is being acted on."""
        with self._lock:
            now = self._clock()
            for item in items or list(self._items):
                if item in self._items and item not in self._acting and self._items[item][1] > now:
                    self._push(item, now)

    def wait_empty(self, timeout_s: float | None) -> bool:
        """Wait until nothing is left, or for ``timeout_s``. True when nothing is."""
        with self._emptied:
            return self._emptied.wait_for(lambda: not self._items, timeout_s)

    def watch(self) -> None:
        """Upkeep: start a further thread when all are at work and items are overdue. It starts the next, if need be."""
        with self._lock:
            now = self._clock()
            is_overdue = bool(self._heap) and now - self._heap[0][0] > OVERDUE_S
            if is_overdue and self._idle:
                self._changed.notify()  # Windows counts no sleep of the machine in a wait
            if not is_overdue or self._idle or now < self._grows_at or len(self._threads) >= self._most:
                return
            helper = self._new(self._help)
            self._threads.append(helper)
        try:  # not under the lock
            helper.start()
        except (RuntimeError, MemoryError):  # the system has no thread left: the present ones do the work, later
            with self._lock:
                self._threads.remove(helper)
                self._grows_at = self._clock() + IDLE_S
            log.warning("No further thread for %s: what is due may be late", self._name, extra={"action": "no_thread"})

    def close(self) -> None:
        """Stop the threads after what they are doing; items stay as they are."""
        with self._lock:
            self._closed = True
            self._changed.notify_all()

    def join(self, timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        for thread in list(self._threads):
            if thread.is_alive():  # a helping thread may not be started yet
                thread.join(max(0.0, deadline - time.monotonic()))

    def _push(self, item: Item, due: float) -> None:
        self._number += 1
        self._items[item] = (self._number, due)
        if item in self._acting:
            return  # _put_back() pushes the entry
        heapq.heappush(self._heap, (due, self._number, item))
        if len(self._heap) > 2 * len(self._items) + 64:
            self._heap = [entry for entry in self._heap if self._is_current(entry)]
            heapq.heapify(self._heap)
        if self._heap[0][1] == self._number:
            self._changed.notify()  # one thread waits for the heap's head, and wakes the next when it takes it

    def _forget(self, item: Item) -> None:
        self._items.pop(item, None)
        if not self._items:
            self._emptied.notify_all()

    def _is_current(self, entry: tuple[float, int, Item]) -> bool:
        return entry[2] in self._items and self._items[entry[2]][0] == entry[1]

    def _run(self, patience_s: float | None = None) -> None:
        """A thread's loop: until closed, and for a helping thread until no item came for ``patience_s``."""
        while not self._closed:
            try:
                if not self._turn(patience_s):
                    return
            except BaseException:
                extra = {"action": "thread_failed"}
                log.critical("Thread %s failed; it goes on", self._name, exc_info=True, extra=extra)
                with self._lock:
                    self._changed.wait_for(lambda: self._closed, RESTART_PAUSE_S)

    def _turn(self, patience_s: float | None = None) -> bool:
        """Wait for an item and act on it; False when none came."""
        taken = self._take(patience_s)
        if taken is None:
            return False
        number, item, overslept_s = taken
        delay_s: float | None = FAILED_AGAIN_S
        try:
            self.watch()
            if overslept_s is not None and self._on_overslept is not None:
                self._on_overslept(*overslept_s)
            delay_s = self._act(item)
        finally:
            self._put_back(number, item, delay_s)
        return True

    def _put_back(self, number: int, item: Item, delay_s: float | None) -> None:
        with self._lock:
            self._acting.discard(item)
            if item not in self._items:
                return
            newest, due = self._items[item]
            if newest != number:  # the item was put anew meanwhile
                self._push(item, due)
            elif delay_s is not None:
                self._push(item, self._clock() + delay_s)
            else:
                self._forget(item)

    def _take(self, patience_s: float | None) -> tuple[int, Item, tuple[float, float] | None] | None:
        """The next item that is due, waited for, with its entry's number and what :meth:`_wait` says; None when there
        is none for ``patience_s``, or when closed."""
        overslept_s: tuple[float, float] | None = None
        with self._lock:
            while not self._closed:
                while self._heap and not self._is_current(self._heap[0]):
                    heapq.heappop(self._heap)
                now = self._clock()
                wait_s = self._heap[0][0] - now if self._heap else threading.TIMEOUT_MAX
                if wait_s <= 0:
                    _, number, item = heapq.heappop(self._heap)
                    self._acting.add(item)
                    if self._heap:
                        self._changed.notify()
                    return number, item, overslept_s
                limit_s = min(wait_s, threading.TIMEOUT_MAX if patience_s is None else patience_s)
                overslept_s = self._wait(limit_s)
                if limit_s == patience_s and self._clock() - now >= limit_s:
                    self._changed.notify()
                    return None
            return None

    def _wait(self, limit_s: float) -> tuple[float, float] | None:
        """Wait for a change. When this thread woke late: by how many seconds, and for how many the process computed."""
        began_at, used_s = self._clock(), time.process_time()
        self._idle += 1
        try:
            was_told = self._changed.wait(limit_s)
        finally:
            self._idle -= 1
        late_s = self._clock() - began_at - limit_s
        return None if was_told or late_s < OVERSLEPT_S else (late_s, time.process_time() - used_s)

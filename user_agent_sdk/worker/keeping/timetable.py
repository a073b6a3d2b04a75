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
OVERDUE_S = 0.25  # the first item is so late: one more thread helps
IDLE_S = 30.0  # a helping thread ends after so long without an item
OVERSLEPT_S = 1.0


class _Due(Generic[Item]):
    """An item that one thread acts on now."""

    def __init__(
        self,
        key: Hashable,
        number: int,
        item: Item,
        helper: threading.Thread | None,
        overslept_s: tuple[float, float] | None,
    ) -> None:
        self.key, self.number, self.item = key, number, item
        self.helper = helper  # to be started, and so not under the lock
        self.overslept_s = overslept_s


class Timetable(Generic[Item]):
    """Calls ``act(item)`` when the item is due; it returns the seconds until it is due again, or None
    when it is done with. An item is never acted on by two threads at once.

    ``threads`` are there from :meth:`start` on. More come, up to ``most``, while items are overdue; what can't be had
    is not needed. An ``act`` that raises is logged, its item is due again after a second, and the thread goes on.
    ``on_overslept`` hears of a thread that woke late, by how many seconds, and how many of them the process computed.
    """

    def __init__(
        self,
        name: str,
        act: Callable[[Item], float | None],
        threads: int,
        clock: Callable[[], float] = time.monotonic,
        *,
        most: int | None = None,
        on_overslept: Callable[[float, float], None] | None = None,
    ) -> None:
        self._name = name
        self._act = act
        self._count = threads
        self._most = most or threads
        self._clock = clock
        self._on_overslept = on_overslept
        self._lock = threading.Lock()  # guards all below; the two conditions are on it
        self._changed = threading.Condition(self._lock)
        self._emptied = threading.Condition(self._lock)
        self._items: dict[Hashable, tuple[int, float, Item]] = {}  # key -> newest entry's number, when due, item
        self._heap: list[tuple[float, int, Hashable]] = []  # may hold entries that are out of date
        self._acting: set[Hashable] = set()  # keys; none has a current entry in the heap
        self._number = 0
        self._idle = 0  # threads that wait for an item
        self._grows_at = 0.0
        self._closed = False
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Raises RuntimeError when the system has no threads left."""
        for _ in range(self._count):
            thread = self._new(self._run)
            try:
                thread.start()
            except BaseException:
                self._threads.remove(thread)
                raise

    def _new(self, run: Callable[[], None]) -> threading.Thread:
        name = f"{self._name}-{len(self._threads) + 1}" if self._most > 1 else self._name
        thread = threading.Thread(target=run, name=name, daemon=True)
        self._threads.append(thread)
        return thread

    def _start(self, helper: threading.Thread) -> None:
        try:
            helper.start()
        except (RuntimeError, MemoryError):  # the system has no thread left: the present ones do the work, later
            with self._lock:
                self._threads.remove(helper)
                self._grows_at = self._clock() + IDLE_S
            log.warning("No further thread for %s: what is due may be late", self._name, extra={"action": "no_thread"})

    def _help(self) -> None:
        self._run(IDLE_S)
        with self._lock:
            self._threads.remove(threading.current_thread())

    def __len__(self) -> int:
        return len(self._items)

    def __contains__(self, key: Hashable) -> bool:
        return key in self._items

    def items(self) -> list[Item]:
        with self._lock:
            return [item for _, _, item in self._items.values()]

    def next_due(self) -> float | None:
        """When the first item is due, on the clock."""
        with self._lock:
            return min((due for _, due, _ in self._items.values()), default=None)

    def put(self, key: Hashable, item: Item, delay_s: float) -> None:
        """Add an item, or set anew when it is due."""
        with self._lock:
            self._push(key, item, self._clock() + delay_s)

    def drop(self, key: Hashable) -> Item | None:
        """Forget an item and return it; one that is being acted on will not come back."""
        with self._lock:
            known = self._items.pop(key, None)
            self._tell_if_empty()
            return known[2] if known is not None else None

    def hurry(self, *keys: Hashable) -> None:
        """These, or else all, are due now, save what is being acted on."""
        with self._lock:
            now = self._clock()
            for key in keys or list(self._items):
                if key in self._items and key not in self._acting:
                    _, due, item = self._items[key]
                    if due > now:
                        self._push(key, item, now)

    def wait_empty(self, timeout_s: float | None) -> bool:
        """Wait until nothing is left, or for ``timeout_s``. True when nothing is."""
        with self._emptied:
            return self._emptied.wait_for(lambda: not self._items, timeout_s)

    def watch(self) -> None:
        """Upkeep: start a further thread when all are at work and items are overdue. It starts the next, if need be."""
        with self._lock:
            helper = self._new(self._help) if self._needs_help(self._clock()) else None
        if helper is not None:
            self._start(helper)

    def close(self) -> None:
        """Stop the threads after what they are doing; items stay as they are."""
        with self._lock:
            self._closed = True
            self._changed.notify_all()

    def join(self, timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        for thread in list(self._threads):
            thread.join(max(0.0, deadline - time.monotonic()))

    def _push(self, key: Hashable, item: Item, due: float) -> None:
        self._number += 1
        self._items[key] = (self._number, due, item)
        if key in self._acting:
            return  # _put_back() pushes the entry
        heapq.heappush(self._heap, (due, self._number, key))
        if len(self._heap) > 2 * len(self._items) + 64:
            self._heap = [entry for entry in self._heap if self._is_current(entry)]
            heapq.heapify(self._heap)
        if self._heap[0][1] == self._number:
            self._changed.notify()  # one thread waits for the heap's head, and wakes the next when it takes it

    def _tell_if_empty(self) -> None:
        if not self._items:
            self._emptied.notify_all()

    def _is_current(self, entry: tuple[float, int, Hashable]) -> bool:
        known = self._items.get(entry[2])
        return known is not None and known[0] == entry[1]

    def _run(self, patience_s: float | None = None) -> None:
        """A thread's loop: until closed, and for a helping thread until no item came for ``patience_s``."""
        while not self._closed:
            try:
                if not self._turn(patience_s):
                    return
            except BaseException:
                log.critical(
                    "Thread %s failed; it goes on", self._name, exc_info=True, extra={"action": "thread_failed"}
                )
                with self._lock:
                    self._changed.wait_for(lambda: self._closed, RESTART_PAUSE_S)

    def _turn(self, patience_s: float | None = None) -> bool:
        """Wait for an item and act on it; False when none came."""
        due = self._take(patience_s)
        if due is None:
            return False
        if due.helper is not None:
            self._start(due.helper)
        if due.overslept_s and self._on_overslept is not None:
            self._on_overslept(*due.overslept_s)
        delay_s: float | None = FAILED_AGAIN_S
        try:
            delay_s = self._act(due.item)
        finally:
            self._put_back(due, delay_s)
        return True

    def _put_back(self, acted: _Due[Item], delay_s: float | None) -> None:
        with self._lock:
            self._acting.discard(acted.key)
            known = self._items.get(acted.key)
            if known is not None and known[0] != acted.number:  # the item was put anew meanwhile
                self._push(acted.key, known[2], known[1])
            elif known is not None and delay_s is not None:
                self._push(acted.key, acted.item, self._clock() + delay_s)
            elif known is not None:
                del self._items[acted.key]
                self._tell_if_empty()

    def _take(self, patience_s: float | None) -> _Due[Item] | None:
        """The next item that is due, waited for; None when there is none for ``patience_s``, or when closed."""
        overslept_s: tuple[float, float] | None = None
        with self._lock:
            while not self._closed:
                while self._heap and not self._is_current(self._heap[0]):
                    heapq.heappop(self._heap)
                now = self._clock()
                wait_s = self._heap[0][0] - now if self._heap else None
                if wait_s is not None and wait_s <= 0:
                    _, number, key = heapq.heappop(self._heap)
                    self._acting.add(key)
                    helper = self._new(self._help) if self._needs_help(now) else None
                    if self._heap:
                        self._changed.notify()
                    return _Due(key, number, self._items[key][2], helper, overslept_s)
                limits = [each for each in (wait_s, patience_s) if each is not None]
                limit_s = min([threading.TIMEOUT_MAX, *limits])
                overslept_s = self._wait(limit_s)
                if limit_s == patience_s and self._clock() - now >= limit_s:
                    return None
            return None

    def _wait(self, limit_s: float) -> tuple[float, float] | None:
        """Wait for a change. When this thread woke late: by how many seconds, and for how many the process computed."""
        began_at, used_s = self._clock(), time.process_time()
        self._idle += 1
        was_told = self._changed.wait(limit_s)
        self._idle -= 1
        late_s = self._clock() - began_at - limit_s
        return None if was_told or late_s < OVERSLEPT_S else (late_s, time.process_time() - used_s)

    def _needs_help(self, now: float) -> bool:
        """Whether a further thread is to be started: items are overdue, and no thread is idle."""
        if not self._heap or now - self._heap[0][0] <= OVERDUE_S:
            return False
        return not self._idle and now >= self._grows_at and len(self._threads) < self._most

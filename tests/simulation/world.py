# SPDX-License-Identifier: Apache-2.0
"""The made-up clock, and what Python's ``time``, ``threading``, ``random`` and ``logging`` are on it.

One thread does everything. Whatever waits runs, meanwhile, the events that are due until then: so waits are nested,
and one that began later ends first. ``horizon`` is when the innermost wait that is under way should end; who begins
another one draws its end before that.
"""

from __future__ import annotations

import _thread
import heapq
import random
import sys
from collections import deque
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Callable, Protocol

if TYPE_CHECKING:
    from .process import Process

NEVER = float("inf")
EVENTS_MOST = 100_000
EPOCH_S = 1_700_000_000.0  # of the wall clock, when the world's is 0


class Crash(BaseException):
    """kill -9: nothing of the process goes on."""


class World:
    """Time, and what is due."""

    def __init__(self) -> None:
        self.reset(0)

    def reset(self, seed: int) -> None:
        self.now = 1000.0
        self.rand = random.Random(seed)
        self.process: Process | None = None  # whose code runs
        self.horizon = NEVER
        self.depth = 0
        self.lines: list[str] | None = None  # the story, while it is told
        self._heap: list[tuple[float, int, Process | None, Callable[[], object]]] = []
        self._kept: list[tuple[float, int, Process | None, Callable[[], object]]] = []  # of a process that is stopped
        self._postponed: list[tuple[Process, Callable[[], object]]] = []
        self._number = 0

    def at(self, when: float, process: Process | None, call: Callable[[], object]) -> None:
        """Something happens then; it does not when the process has died."""
        self._number += 1
        if self._number > EVENTS_MOST:
            raise AssertionError("the history does not end")
        heapq.heappush(self._heap, (when, self._number, process, call))

    def at_the_top(self, process: Process, call: Callable[[], object]) -> None:
        """Something that may take long happens when nobody else waits."""
        self._postponed.append((process, call))

    def wait(self, seconds: float, is_done: Callable[[], bool] | None = None) -> bool:
        """Let time pass, until something is done; whether it is."""
        until, before = self.now + seconds, self.horizon
        self.horizon = min(before, until)
        try:
            return self.run(until, is_done)
        finally:
            self.horizon = before

    def run(self, until: float, is_done: Callable[[], bool] | None = None) -> bool:
        mine, heap = self.process, self._heap
        if is_done is not None and is_done():
            return True
        while heap and heap[0][0] <= until:
            event = heapq.heappop(heap)
            if event[2] is not None and event[2].is_stopped:
                self._kept.append(event)
                continue
            if event[0] > self.now:
                self.now = event[0]
            self._happen(event[2], event[3])
            if mine is not None and mine.is_dead:
                raise Crash
            if is_done is not None and is_done():
                return True
            while self._postponed and not self.depth:
                self._happen(*self._postponed.pop(0))
        if until > self.now:
            self.now = until
        return False

    def _happen(self, process: Process | None, call: Callable[[], object]) -> None:
        if process is not None and process.is_dead:
            return
        before, self.process = self.process, process
        self.depth += 1
        try:
            call()
            if process is not None and not process.is_dead:
                process.look()
        except Crash:
            pass
        finally:
            self.depth -= 1
            self.process = before

    def resume(self, process: Process) -> None:
        """It was stopped: what it missed is due."""
        process.is_stopped = False
        kept, self._kept = self._kept, []
        for event in kept:
            heapq.heappush(self._heap, event)

    @property
    def is_empty(self) -> bool:
        return not self._heap

    def tell(self, text: str, *args: object) -> None:
        """A line of the story."""
        if self.lines is not None:
            who = f"{self.process.name} " if self.process is not None else ""
            self.lines.append(f"{self.now - 1000:9.3f} s  {who}{text % args if args else text}")


world = World()


# -- time and random ---------------------------------------------------------------------------------


def _monotonic() -> float:
    process = world.process
    return world.now if process is None else world.now - process.slept_s


def _wall() -> float:
    process = world.process
    return EPOCH_S + world.now + (0.0 if process is None else process.wall_off_s)


time = SimpleNamespace(monotonic=_monotonic, time=_wall, process_time=lambda: 0.0, perf_counter=_monotonic)
chance = SimpleNamespace(random=lambda: world.rand.random(), SystemRandom=lambda: chance)


# -- threading ---------------------------------------------------------------------------------------


class Parking(Protocol):
    """A slot that waits at its gate."""

    def park(self, condition: Condition, timeout_s: float | None) -> None: ...
    def unpark(self) -> None: ...


class Condition(_thread.RLock):
    """Whoever waits for one in :meth:`Gate.take` is parked, and ``take`` comes back empty; any other wait is nested."""

    def __init__(self, lock: object = None) -> None:
        self.parked: deque[Parking] = deque()

    def wait(self, timeout: float | None = None) -> bool:
        process = world.process
        if process is not None and process.is_dead:
            raise Crash
        if process is not None and process.taking is not None:
            process.taking.park(self, timeout)
        elif timeout:
            world.wait(timeout)
        elif timeout is None:
            raise AssertionError("a wait without an end")
        return False

    def wait_for(self, predicate: Callable[[], bool], timeout: float | None = None) -> bool:
        return bool(predicate()) or (timeout is not None and world.wait(timeout, lambda: bool(predicate())))

    def notify(self, n: int = 1) -> None:
        for _ in range(min(n, len(self.parked))):
            self.parked.popleft().unpark()

    def notify_all(self) -> None:
        self.notify(len(self.parked))


class Event:
    """A flag; who waits for it, waits nested."""

    def __init__(self) -> None:
        self.flag = False

    def is_set(self) -> bool:
        return self.flag

    def set(self) -> None:
        self.flag = True

    def clear(self) -> None:
        self.flag = False

    def wait(self, timeout: float | None = None) -> bool:
        if world.process is not None and world.process.is_dead:
            raise Crash
        if not self.flag and timeout:
            world.wait(timeout, self.is_set)
        return self.is_set()


class Thread:
    """One of a timetable's threads: the process turns the table when something is due."""

    def __init__(self, target: Callable[..., object], name: str = "", daemon: bool = True) -> None:
        self.target = target
        self.name = name

    def start(self) -> None:
        assert world.process is not None
        world.process.thread_started(self.target)

    def join(self, timeout: float | None = None) -> None:
        """All that it did is done."""


threading = SimpleNamespace(
    Lock=_thread.RLock, RLock=_thread.RLock, Condition=Condition, Event=Event, Thread=Thread, TIMEOUT_MAX=1e9,
    get_ident=lambda: 1, current_thread=lambda: None, local=SimpleNamespace,
)  # fmt: skip


# -- logging -----------------------------------------------------------------------------------------


class Log:
    """What the worker says is part of the story; what it says of a bug of its own is heard by the checker."""

    def isEnabledFor(self, level: int) -> bool:  # noqa: N802 - logging's name
        return True

    def log(self, level: int, text: str, *args: object, **more: Any) -> None:
        process = world.process
        if process is not None and not process.is_dead:
            process.said[more.get("extra", {}).get("action", "")] = text
            if world.lines is not None:
                world.tell("says: " + text, *args)

    def debug(self, text: str, *args: object, **more: Any) -> None:
        if world.lines is not None:
            self.log(10, text, *args, **more)

    def info(self, text: str, *args: object, **more: Any) -> None:
        self.log(20, text, *args, **more)

    def warning(self, text: str, *args: object, **more: Any) -> None:
        self.log(30, text, *args, **more)

    def error(self, text: str, *args: object, **more: Any) -> None:
        self.log(40, text, *args, **more)

    def critical(self, text: str, *args: object, **more: Any) -> None:
        error = sys.exc_info()[1]
        if isinstance(error, Crash):
            return
        self.log(50, text, *args, **more)
        if world.process is not None:
            world.process.stumbled(text % args, error)

    exception = critical


logging = SimpleNamespace(getLogger=lambda name: Log(), Logger=Log, DEBUG=10, INFO=20, WARNING=30, ERROR=40)

# SPDX-License-Identifier: Apache-2.0
"""One history: what is to be done and what goes wrong, drawn from a seed; how it went; and the shortest one that still
goes wrong, as a story."""

from __future__ import annotations

import random
from functools import partial
from typing import Any, NamedTuple

from .checker import Checker, Violation
from .disk import disk
from .network import EXTENSION, LOOK, POLL, REPORT, Fault
from .platform import Platform, Work
from .process import Process
from .world import world

SETTLED_S = 120.0  # after the last thing that goes wrong, all is done by then
ALL = (POLL, REPORT, EXTENSION, LOOK)
KINDS = (ALL, ALL, (REPORT,), (REPORT,), (EXTENSION,), (POLL,), (REPORT, EXTENSION))


class Plan(NamedTuple):
    """A work: when it is submitted, and what its runs are like."""

    at: float
    seconds: float
    lease_s: float
    outcomes: tuple[str, ...] = ()
    changes: bool = False  # the input, with each retry
    input: int = 0


class Setting(NamedTuple):
    """Of the worker and the platform."""

    is_akabot: bool = True
    is_old: bool = False
    workers: int = 1
    interval_s: float = 1.0
    sync: str = "normal"
    has_history: bool = False
    has_two: bool = False
    knows_extensions: bool = True


class Trouble(NamedTuple):
    """Something that goes wrong, from a time on, for some seconds."""

    at: float
    what: str
    seconds: float = 0.0
    more: Any = None


class History(NamedTuple):
    seed: int
    setting: Setting
    plans: tuple[Plan, ...]
    troubles: tuple[Trouble, ...]


class Outcome(NamedTuple):
    violations: list[Violation]
    works: int
    attempts: int
    acknowledged: int
    duplicated: int
    lines: list[str]


# -- drawing -----------------------------------------------------------------------------------------


def draw(seed: int) -> History:
    rand = random.Random(seed)
    kind = rand.random()
    for share, special in _SPECIAL:
        if kind < share:
            return special(seed, rand)
        kind -= share
    dialect = rand.random()
    setting = Setting(
        dialect < 0.5, dialect > 0.75, rand.choice((1, 1, 2, 2, 3)), rand.choice((0.5, 2.0, 4.0)),
        "full" if rand.random() < 0.1 else "normal", rand.random() < 0.2, rand.random() < 0.1, rand.random() > 0.02,
    )  # fmt: skip
    plans = tuple(_plan(rand) for _ in range(rand.choice((1, 1, 1, 2, 2, 3))))
    troubles = tuple(_trouble(rand) for _ in range(rand.choice((0, 1, 1, 2, 2, 3, 4))))
    return History(seed, setting, plans, troubles)


def _plan(rand: random.Random) -> Plan:
    lease_s = rand.choice((2.0, 3.0, 6.0))
    seconds = rand.choice((0.001, 0.05, 0.5, 0.4 * lease_s, 0.9 * lease_s, 1.5 * lease_s))
    outcomes: tuple[str, ...] = ()
    if rand.random() < 0.25:
        outcomes = tuple(rand.choice(("fails", "again", "ok")) for _ in range(2))
    return Plan(rand.random(), seconds, lease_s, outcomes, rand.random() < 0.1, rand.choice((1, 2)))


def _trouble(rand: random.Random) -> Trouble:
    what = rand.choice(_KINDS)
    at, seconds, more = rand.random() * 4.0, 0.0, None
    if what == "network":
        seconds = rand.choice((0.01, 0.5, 2.0, 4.0))
        how = rand.choice(_HOW)
        late_s = rand.choice((0.1, 0.5, 2.0, 6.0))
        more = Fault(how, rand.choice(KINDS), rand.choice((0.5, 1.0)), late_s)
        if how == "denied":
            more = more._replace(kinds=(REPORT,))
    elif what in ("kill", "term", "full", "read-only"):
        seconds, more = rand.choice((0.0, 0.5, 3.0)), rand.randrange(1, 14)
    elif what in ("stop", "sleep"):
        seconds = rand.choice((0.6, 3.0, 8.0))
    elif what in ("copy", "forget", "restart", "many", "wall"):
        more = rand.randrange(13)
    return Trouble(at, what, seconds, more)


_HOW = ("refused", "denied", "unauthorized", "unreachable", "lost", "lost", "unheard", "late", "slow")
_KINDS = (
    *("network",) * 6, *("kill",) * 5, "term", "full", "read-only", "stop", "sleep", "copy", "copy", "forget", "many",
    "wall", "removed", "folder", "restart",
)  # fmt: skip


# What needs several things to happen in a row, which chance alone seldom brings.


def _busy(seed: int, rand: random.Random) -> History:
    """A deep queue, and nothing goes wrong."""
    setting = Setting(True, False, 3, 1.0)
    seconds = rand.choice((0.0001, 0.02, 0.05))
    return History(seed, setting, tuple(Plan(0.0, seconds, 9.0) for _ in range(30)), ())


def _crowd(seed: int, rand: random.Random) -> History:
    """Many leases on a platform that takes its time."""
    plans = tuple(Plan(0.0, 8.0, 6.0) for _ in range(24))
    tardy = Trouble(0.0, "network", 9.0, Fault("tardy", (EXTENSION,), 1.0, 0.9))
    return History(seed, Setting(rand.random() < 0.5, workers=24), plans, (tardy,))


def _fallen(seed: int, rand: random.Random) -> History:
    """A result waits, its process is killed, and the next one starts on a disk that can't be written."""
    refused = Trouble(0.0, "network", 0.5 + rand.random(), Fault("refused", (REPORT,), 1.0))
    kill = Trouble(0.2 + rand.random() * 0.5, "kill", 0.5, rand.randrange(1, 4))
    disk_trouble = Trouble(kill.at + 0.2 + rand.random() * 0.3, rand.choice(("full", "read-only")), 6.0)
    return History(seed, Setting(interval_s=0.5), (Plan(0.0, 0.02, 2.0),), (refused, kill, disk_trouble))


def _copies(seed: int, rand: random.Random) -> History:
    """Tasks whose leases were extended come once more."""
    plans = (Plan(0.0, 9.0, 3.0), Plan(0.0, 9.0, 3.0))
    copies = tuple(Trouble(1.2 + 2 * number + rand.random(), "copy", 0.0, number) for number in (0, 1))
    return History(seed, Setting(rand.random() < 0.5, workers=3, interval_s=0.5), plans, copies)


def _long_way(seed: int, rand: random.Random) -> History:
    """The reply that brings a task is late."""
    late = Trouble(0.0, "network", 1.0, Fault("late", (POLL,), 1.0, 1.0 + 4 * rand.random()))
    return History(seed, Setting(interval_s=0.5), (Plan(0.0, 2.0 * rand.random(), 2.0 + rand.random() * 2),), (late,))


def _gone(seed: int, rand: random.Random) -> History:
    """The workflow is removed while its function runs, and then the worker is told to stop."""
    troubles = (Trouble(0.6, "forget", 0.0, 0), Trouble(0.7 + rand.random(), "term", 0.5, 0))
    return History(seed, Setting(rand.random() < 0.5), (Plan(0.0, 1.5, 6.0),), troubles)


def _beside(seed: int, rand: random.Random) -> History:
    """A report while the platform still works on an extension, which undoes it."""
    slow = Trouble(0.5, "network", 2.0, Fault("slow", (EXTENSION,), 1.0, 1.0 + rand.random()))
    return History(seed, Setting(rand.random() < 0.5), (Plan(0.0, 1.0 + rand.random(), 3.0),), (slow,))


_SPECIAL = (
    (0.006, _busy), (0.003, _crowd), (0.015, _fallen), (0.01, _copies), (0.01, _long_way), (0.01, _gone),
    (0.01, _beside),
)  # fmt: skip


# -- running -----------------------------------------------------------------------------------------


class _Course:
    """A history as it goes."""

    def __init__(self, history: History) -> None:
        world.reset(history.seed)
        disk.reset()
        self.history, self.setting = history, history.setting
        self.checker = Checker()
        self.platform = self.checker.platform = Platform(self.checker, self.setting.is_akabot)
        self.platform.knows_extensions = self.setting.knows_extensions
        self.processes = self.checker.processes
        self._downtime_s = 0.5
        self.is_over = False

    def run(self) -> None:
        start = world.now
        for number in range(2 if self.setting.has_two else 1):
            self._start(number)
        for number, plan in enumerate(self.history.plans, 1):
            world.at(start + plan.at, None, partial(self.platform.submit, Work(number, plan)))
        until = start + max(plan.at for plan in self.history.plans) + 0.1
        for trouble in self.history.troubles:
            world.at(start + trouble.at, None, partial(self._happens, trouble))
            until = max(until, start + trouble.at + trouble.seconds + 0.1)
        world.run(until)
        until = max(world.now, until) + SETTLED_S
        while world.now < until and not self._is_settled():
            world.run(world.now + 0.25)
        self.is_over = True
        world.run(world.now + 0.1)
        for process in self.processes:
            process.drain()
        until = world.now + 60.0
        while world.now < until and not all(process.is_dead for process in self.processes):
            world.run(world.now + 0.25)
        for process in self.processes:
            if not process.is_dead:
                self.checker.fail("no end", f"{process.name} does not end")
        self.checker.at_the_end()

    def _is_settled(self) -> bool:
        alive = [process for process in self.processes if not process.is_dead]
        if len(alive) < (2 if self.setting.has_two else 1) or not self.platform.is_done:
            return False
        return not any(process.steps == 0 or process.custody.register.pending() for process in alive)

    def _start(self, number: int) -> None:
        if not self.is_over:
            name = f"worker {'AB'[number]}{len(self.processes) + 1}"
            on_end = partial(self._ended, number)
            self.processes.append(Process(name, self.setting, self.platform, self.checker, on_end))

    def _ended(self, number: int) -> None:
        world.at(world.now + self._downtime_s, None, lambda: self._start(number))

    def _happens(self, trouble: Trouble) -> None:
        alive = [process for process in self.processes if not process.is_dead and process.steps]
        what, seconds = trouble.what, trouble.seconds
        if what == "network":
            world.tell("the network for %.2f s: %s", seconds, trouble.more)
            self.platform.faults.append(trouble.more)
            world.at(world.now + seconds, None, lambda: self.platform.mend(trouble.more))
        elif what in ("full", "read-only"):
            self._disk(what, True)
            world.at(world.now + seconds, None, lambda: self._disk(what, False))
        elif what in ("removed", "folder"):
            world.tell("somebody removes the journal's %s", "folder" if what == "folder" else "files")
            disk.hurt(1.2)
            disk.remove(what == "folder")
            for process in alive:
                process.hasten()
        elif what == "copy":
            self.platform.copy(trouble.more)
        elif what == "many":
            self._many(trouble.more)
        elif what in ("forget", "restart"):
            self._operate(what, trouble.more)
        elif alive:
            self._befalls(alive[int(trouble.at * 1000) % len(alive)], trouble)

    def _befalls(self, process: Process, trouble: Trouble) -> None:
        what = trouble.what
        if what == "kill":
            self._downtime_s = trouble.seconds
            process.dies_at = process.steps + trouble.more
        elif what == "term":
            self._downtime_s = trouble.seconds
            process.drain()
        elif what in ("stop", "sleep"):
            process.stop(trouble.seconds, what == "sleep")
        elif what == "wall":
            world.tell("the wall clock of %s is set by %d s", process.name, (trouble.more - 6) * 1000)
            process.wall_off_s += (trouble.more - 6) * 1000
            process.trouble(0.0)

    def _disk(self, what: str, begins: bool) -> None:
        world.tell("the disk is %s", what if begins else f"{what} no more")
        disk.hurt(7.0)
        for process in self.processes:
            if not process.is_dead and process.steps:
                process.hasten()
        if what == "full":
            disk.is_full = begins
        else:
            disk.is_read_only = begins

    def _many(self, more: int) -> None:
        self.platform.batch = more + 1
        for _ in range(more):
            self.platform.submit(Work(100 + len(self.platform.works), Plan(0.0, 0.001, 3.0)))

    def _operate(self, what: str, number: int) -> None:
        works = [work for work in self.platform.works if not ((work.is_done and what == "forget") or work.is_removed)]
        if works:
            getattr(self.platform, what)(works[number % len(works)])


def run(history: History, is_told: bool = False) -> Outcome:
    course = _Course(history)
    if is_told:
        world.lines = []
    course.run()
    checker = course.checker
    counts = (len(course.platform.works), checker.attempts, checker.acknowledged, checker.duplicated)
    return Outcome(checker.violations, *counts, world.lines or [])


# -- telling -----------------------------------------------------------------------------------------


def shrunk(history: History) -> History:
    """What still breaks the same rule, with as few works and troubles as can be."""
    rule = run(history).violations[0].rule
    is_smaller = True
    while is_smaller:
        is_smaller = False
        for smaller in _smaller(history):
            if any(found.rule == rule for found in run(smaller).violations):
                history, is_smaller = smaller, True
                break
    return history


def _smaller(history: History) -> list[History]:
    found = []
    for number in range(len(history.troubles)):
        found.append(history._replace(troubles=history.troubles[:number] + history.troubles[number + 1 :]))
    if len(history.plans) > 1:
        half = len(history.plans) // 2
        found += [history._replace(plans=history.plans[:half]), history._replace(plans=history.plans[half:])]
        for number in range(len(history.plans) if len(history.plans) < 8 else 0):
            found.append(history._replace(plans=history.plans[:number] + history.plans[number + 1 :]))
    setting = history.setting
    plain = [{"workers": setting.workers - 1}] if setting.workers > 1 else []
    plain += [{name: value} for name, value in _PLAIN.items() if getattr(setting, name) != value]
    found += [history._replace(setting=setting._replace(**each)) for each in plain]
    for number, plan in enumerate(history.plans[:8]):
        if plan.outcomes:
            plans = list(history.plans)
            plans[number] = plan._replace(outcomes=())
            found.append(history._replace(plans=tuple(plans)))
    return found


_PLAIN: dict[str, Any] = {"has_two": False, "has_history": False, "sync": "normal", "is_akabot": True, "is_old": False}


def told(history: History) -> str:
    """The story of a history."""
    lines = [f"seed {history.seed}, {history.setting}"]
    lines += [f"  work {number}: {plan}" for number, plan in enumerate(history.plans, 1)]
    lines += [f"  {trouble}" for trouble in history.troubles]
    return "\n".join([*lines, *run(history, is_told=True).lines])

# SPDX-License-Identifier: Apache-2.0
"""What is no ratio of speeds: at rest, from start to first poll, over many tasks, and on disk."""

from __future__ import annotations

import statistics
import time
from typing import NamedTuple

from .. import soak
from .contenders import SMALL, Bench, Contender
from .measure import ROOT, Child, PlatformProcess, pause
from .rows import CONDUCTOR, DEFAULTS, Goal

SETTLE_S = 10.0
MISSING = float("nan")


class Figure(NamedTuple):
    """``values``: of all rounds, the median is what counts."""

    name: str
    unit: str
    values: list[float]
    goal: Goal | None = None

    @property
    def median(self) -> float:
        return statistics.median(self.values)


def under(limit: float, relation: str = "<=") -> Goal:
    return Goal("value", relation, limit)


def at_rest(platform: PlatformProcess, bench: Bench, contender: Contender, seconds: float) -> list[Figure]:
    """8 workers that have had some work and now have none."""
    platform.control({"tasks": 500})
    with Child(bench, contender, platform.base(), 8, SMALL) as child:
        child.wait_until(lambda: platform.control()["reported"] >= 500)
        pause(SETTLE_S)
        began, polls, cpu_s = time.monotonic(), platform.control()["polls"], child.cpu_s()
        pause(seconds)
        took_s, polls, used_s = time.monotonic() - began, platform.control()["polls"] - polls, child.cpu_s() - cpu_s
        memory_mb = child.memory_mb()
        if not used_s:  # nothing is known of a process at work here: its start and the tasks count, too
            child.stop()
            used_s = child.cpu_s()
    name = f"idle, 8 workers: {contender.name}"
    return [
        Figure(
            f"{name}, CPU", "% of a core", [used_s / took_s * 100], under(0.3, "<") if contender is DEFAULTS else None
        ),
        Figure(f"{name}, polls", "1/s", [polls / took_s], under(0.25) if contender is CONDUCTOR else None),
        Figure(f"{name}, memory", "MB", [memory_mb or MISSING], under(32) if contender.kind == "ours" else None),
    ]


def first_polls(platform: PlatformProcess, bench: Bench, contenders: list[Contender], rounds: int) -> list[Figure]:
    """From the start of the process to the arrival of its first poll, in turn; the first round only warms caches."""
    found: dict[Contender, list[float]] = {contender: [] for contender in contenders}
    for _ in range(rounds + 1):
        for contender in contenders:
            platform.control({"tasks": 0})
            began = time.time()
            with Child(bench, contender, platform.base(), 8, SMALL) as child:
                child.wait_until(lambda: platform.control()["polls"] > 0, step_s=0.05)
            found[contender].append((platform.control()["first_poll_at"] - began) * 1000)
    return [
        Figure(f"start to first poll: {name.name}", "ms", values[1:], under(200) if name.kind == "ours" else None)
        for name, values in found.items()
    ]


def growth(platform: PlatformProcess, bench: Bench, tasks: int) -> list[Figure]:
    """Journal and history on: nothing grows with work done."""
    samples, readings = soak.soak(platform, bench, tasks, 8, "-q", "-r")
    first, last = soak.costs_us(readings)
    name = f"{tasks:,} tasks, journal and history"
    return [
        Figure(f"{name}: memory grew by", "MB", [soak.grown_kb(samples, tasks) / 1024], under(2, "<")),
        Figure(f"{name}: CPU of one of the first 10,000", "us", [first]),
        Figure(f"{name}: the last 10,000 against them", "x", [last / first], under(soak.COST_MAX)),
    ]


def sizes(bench: Bench) -> list[Figure]:
    package = ROOT / "user_agent_sdk"
    lines = sum(len(path.read_bytes().splitlines()) for path in package.rglob("*.py"))
    return [
        Figure("lines of Python in the package", "", [lines], under(6000)),
        Figure("the wheel", "kB", [bench.wheel.stat().st_size / 1000], under(150)),
    ]

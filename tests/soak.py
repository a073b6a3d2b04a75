# SPDX-License-Identifier: Apache-2.0
"""A long run in one process: ``python -m tests.soak [--tasks 200000] [--workers 8] [-- -r]``. Linux, some minutes.

What follows ``--`` are options of the worker. Its memory, descriptors, threads and journal are read from outside
while it works; exit 1 when, once warm (100,000 tasks, a tenth or half of them), memory grows by 2 MB or any of the
others grows by a hundredth, or when the last 10,000 tasks take clearly more CPU each than the first.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from user_agent_sdk.worker.keeping.journal import LOG_MAX_BYTES
from user_agent_sdk.worker.keeping.journal_file import HEADER

from .benchmark.contenders import SMALL, Bench, ours
from .benchmark.measure import Child, PlatformProcess, pause

GROWTH_MAX_KB = 2048
COST_MAX = 1.15
WARM = 100_000  # SQLite's caches fill so long: 2 MB for each database
SAMPLES = 40
SLACK = 1.01
STEP_S = 0.2
LIMIT_S = 3600.0
WINDOW = 10_000


class Sample(NamedTuple):
    tasks: int
    memory_kb: int
    descriptors: int
    threads: int
    journal_bytes: int


class Reading(NamedTuple):
    tasks: int
    cpu_s: float


def sampled(pid: int, tasks: int, journal: Path) -> Sample:
    status = Path(f"/proc/{pid}/status").read_text("ascii", "replace")
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    descriptors = len(list(Path(f"/proc/{pid}/fd").iterdir()))
    journal_bytes = max((path.stat().st_size for path in journal.rglob("*.log")), default=0)
    memory_kb = int(fields["VmRSS"].split()[0])
    return Sample(tasks, memory_kb, descriptors, int(fields["Threads"]), journal_bytes)


def soak(
    platform: PlatformProcess, bench: Bench, tasks: int, workers: int, *options: str
) -> tuple[list[Sample], list[Reading]]:
    """The samples, the last one of the idle worker, when all is done; and the CPU used, read at each step."""
    platform.control({"tasks": tasks})
    deadline = time.monotonic() + LIMIT_S
    samples: list[Sample] = []
    readings = [Reading(0, 0.0)]
    with Child(bench, ours(*options), platform.base(), workers, SMALL) as worker:
        journal = worker.folder / ".useragent"
        while readings[-1].tasks < tasks:
            pause(STEP_S)
            readings.append(Reading(platform.control()["reported"], worker.cpu_s()))
            reported = readings[-1].tasks
            if worker.process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"after {reported} tasks: {worker.log()}")
            if reported >= len(samples) * tasks // SAMPLES:
                samples.append(sampled(worker.process.pid, reported, journal))
        pause(12.0)  # the journal of an idle worker shrinks every 10 s
        samples.append(sampled(worker.process.pid, tasks, journal))
        worker.stop()
        if worker.process.returncode:
            raise SystemExit(f"the worker ended with {worker.process.returncode}: {worker.log()}")
    return samples, readings


def split(samples: list[Sample], tasks: int) -> tuple[list[Sample], list[Sample]]:
    """The samples until the worker was warm, and those after."""
    warm = max(tasks // 10, min(WARM, tasks // 2))
    early = [sample for sample in samples if sample.tasks < warm]
    return samples[: len(early) + 1], samples[len(early) + 1 :]


def grown_kb(samples: list[Sample], tasks: int) -> int:
    """How much more memory than when it was warm."""
    early, later = split(samples, tasks)
    return max(sample.memory_kb for sample in later) - early[-1].memory_kb


def costs_us(readings: list[Reading]) -> tuple[float, float]:
    """CPU for one of the first tasks and for one of the last; 10,000 of each, or a quarter of all if they are few."""
    window = min(WINDOW, readings[-1].tasks // 4)
    begun = next(reading for reading in readings if reading.tasks > 0)
    early = next(reading for reading in readings if reading.tasks >= begun.tasks + window)
    late = next(reading for reading in reversed(readings) if reading.tasks <= readings[-1].tasks - window)
    return _cost_us(begun, early), _cost_us(late, readings[-1])


def _cost_us(before: Reading, after: Reading) -> float:
    return (after.cpu_s - before.cpu_s) * 1e6 / (after.tasks - before.tasks)


def findings(samples: list[Sample], readings: list[Reading], tasks: int) -> list[str]:
    """What grew once the worker was warm."""
    early, later = split(samples, tasks)
    found = []
    growth_kb = grown_kb(samples, tasks)
    if growth_kb >= GROWTH_MAX_KB:
        found.append(f"memory grew by {growth_kb} kB")
    for name in ("descriptors", "threads"):
        before = max(getattr(sample, name) for sample in early)
        after = max(getattr(sample, name) for sample in later)
        if after > before * SLACK:
            found.append(f"{name} grew from {before} to {after}")
    sizes = [sample.journal_bytes for sample in samples]
    if max(sizes) > 2 * LOG_MAX_BYTES or sizes[-1] > len(HEADER):
        found.append(f"the journal keeps what is delivered: {sizes}")
    at_first, at_last = costs_us(readings)
    if at_last > at_first * COST_MAX:
        found.append(f"a task's CPU grew from {at_first:.0f} to {at_last:.0f} us")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__, allow_abbrev=False)
    parser.add_argument("--tasks", type=int, default=200_000)
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("options", nargs="*")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, PlatformProcess() as platform:
        started = time.monotonic()
        samples, readings = soak(platform, Bench(Path(folder), {}), given.tasks, given.workers, *given.options)
        took_s = time.monotonic() - started
    print(*[f"{name:>14}" for name in Sample._fields])
    for sample in samples:
        print(*[f"{value:14,}" for value in sample])
    print("CPU us a task, the first and the last 10,000:", *[f"{cost:.0f}" for cost in costs_us(readings)])
    found = findings(samples, readings, given.tasks)
    print(f"{given.tasks:,} tasks in {took_s:.0f} s; {'; '.join(found) or 'nothing grows'}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())

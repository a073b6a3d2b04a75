# SPDX-License-Identifier: Apache-2.0
"""``python -m tests.real.figures [VERSION ...]``: this worker beside conductor-python 2.0.0 on each real Conductor.

The servers are booted one after the other, and on each both workers do the same, 8 at a time with the settings that
they come with: tasks that come one by one to a worker at rest, nothing at all, and as many small tasks as it can.
``USERAGENT_CONDUCTOR_PYTHON`` names a Python that has conductor-python 2.0.0; without it only ours is measured. Some
four minutes a server, best on a machine at rest: the figures to read are those of one line beside each other.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import unittest
from pathlib import Path
from typing import Any, NamedTuple

from ..benchmark.contenders import SMALL, Bench, Contender
from ..benchmark.measure import Child, pause
from ..benchmark.rows import CONDUCTOR, CONDUCTOR_PYTHON
from ..releases import DIFFERENCES, RELEASES
from . import test_conformance
from .stack import Stack

PEER = os.environ.get("USERAGENT_CONDUCTOR_PYTHON", "")
WORKERS = 8
SINGLE_TASKS, APART_S = 12, 5.2  # longer than a worker of ours waits for a next one with two slots
IDLE_S = 10.0
MANY_TASKS, SKIPPED, ROUNDS = 160, 40, 2
LIMIT_S = 120.0


class Figures(NamedTuple):
    pick_up_ms: float
    idle_polls_per_s: float
    tasks_per_s: float


def conformance(version: str) -> tuple[int, int]:
    """How many tests of the suite hold on that server, and how many rows of the table tell what it does otherwise:
    ``test_conformance`` fails where either is not so."""
    suites = (test_conformance.ConductorItself, test_conformance.ConductorAsAkabot)
    names = [name for suite in suites for name in unittest.defaultTestLoader.getTestCaseNames(suite)]
    otherwise = {test for row in DIFFERENCES if version in row.on and row.patience_s is None for test in row.tests}
    differing = sum(name in otherwise for name in names)
    return len(names) - differing, differing


def ended(stack: Stack, workflow_id: str) -> dict[str, Any]:
    [task] = stack.wait(workflow_id, timeout_s=LIMIT_S)["tasks"]
    assert task["status"] == "COMPLETED" and task["outputData"] == {"sum": 5}, task
    return dict(task)


def start(stack: Stack) -> str:
    return stack.start_workflow("bench", SMALL.given)


def at_rest(stack: Stack, bench: Bench, contender: Contender) -> tuple[float, float]:
    """Milliseconds from the moment when a task is scheduled to the one when it is polled, and polls a second."""
    with Child(bench, contender, stack.gateway.conductor_url[: -len("/api")], WORKERS, SMALL) as child:
        waits_ms = []
        for number in range(SINGLE_TASKS):
            task = ended(stack, start(stack))
            waits_ms.append(task["startTime"] - task["scheduledTime"])
            pause(APART_S + number * 0.07)
        stack.gateway.forget()
        pause(IDLE_S)
        polls = stack.gateway.count("poll")
        assert child.process.poll() is None, child.log()
    return statistics.median(waits_ms[2:]), polls / IDLE_S  # the first two met a worker that was getting started


def throughput(stack: Stack, bench: Bench, contender: Contender) -> float:
    """Tasks a second, of those that wait when the worker comes; the first of them are left out."""
    ids = [start(stack) for _ in range(MANY_TASKS)]
    with Child(bench, contender, stack.conductor_url[: -len("/api")], WORKERS, SMALL):
        ends_ms = sorted(ended(stack, workflow_id)["endTime"] for workflow_id in ids)
    return (MANY_TASKS - SKIPPED) / (ends_ms[-1] - ends_ms[SKIPPED - 1]) * 1000


def measure(version: str, bench: Bench, contenders: list[Contender]) -> dict[Contender, Figures]:
    with Stack(version=version, indexing=False, keycloak=False) as stack:
        stack.register_task("bench")
        stack.register_workflow("bench", ["bench"], inputs=list(SMALL.given))
        rest = {contender: at_rest(stack, bench, contender) for contender in contenders}
        rates: dict[Contender, list[float]] = {contender: [] for contender in contenders}
        for number in range(ROUNDS):
            for contender in contenders[:: -1 if number % 2 else 1]:
                rates[contender].append(throughput(stack, bench, contender))
    return {contender: Figures(*rest[contender], statistics.median(rates[contender])) for contender in contenders}


def main(versions: list[str]) -> None:
    contenders = [CONDUCTOR, *([CONDUCTOR_PYTHON] if PEER else [])]
    print("Ours first, then conductor-python 2.0.0.\n")
    print("| Conductor | conformance: passed, differing | picked up after, ms | idle polls/s | tasks/s |")
    print("|---|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), {"conductor-python": PEER} if PEER else {})
        for version in versions or RELEASES:
            found = measure(version, bench, contenders).values()
            cells = [", ".join(f"{value:.3g}" for value in values) for values in zip(*found)]
            print(f"| {version} | {', '.join(map(str, conformance(version)))} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])

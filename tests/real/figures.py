# SPDX-License-Identifier: Apache-2.0
"""``python -m tests.real.figures [VERSION ...]``: this worker beside conductor-python 2.0.0 on each real Conductor.

The servers are booted one after the other, and on each both workers do the same, 8 at a time with the settings that
they come with: tasks that come one by one to a worker at rest, nothing at all, and as many small tasks as it can.
``USERAGENT_CONDUCTOR_PYTHON`` names a Python that has conductor-python 2.0.0; without it only ours is measured. Some
four minutes a server, best on a machine at rest: the figures to read are those of one line beside each other.
"""

from __future__ import annotations

import contextlib
import os
import re
import statistics
import sys
import tempfile
import unittest
from collections import Counter
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
FIRST_S, LIMIT_S = 30.0, 120.0
LEFT_S = 6.0  # conductor-python drops its open poll when it stops, which takes eight tasks of whoever comes next


class Figures(NamedTuple):
    """Each None where no result of the worker's arrives."""

    pick_up_ms: float | None
    idle_polls_per_s: float | None
    tasks_per_s: float | None


def conformance(version: str) -> tuple[int, int]:
    """How many tests of the suite hold on that server, and how many rows of the table tell what it does otherwise:
    ``test_conformance`` fails where either is not so."""
    suites = (test_conformance.ConductorItself, test_conformance.ConductorAsAkabot)
    names = [name for suite in suites for name in unittest.defaultTestLoader.getTestCaseNames(suite)]
    otherwise = {test for row in DIFFERENCES if version in row.on and row.patience_s is None for test in row.tests}
    differing = sum(name in otherwise for name in names)
    return len(names) - differing, differing


def start(stack: Stack, domain: str = "") -> str:
    wanted = {"name": "bench", "version": 1, "input": SMALL.given, "taskToDomain": {"bench": domain} if domain else {}}
    return str(stack.api("POST", "/workflow", wanted))


def ended(stack: Stack, workflow_id: str, limit_s: float = LIMIT_S) -> dict[str, Any]:
    [task] = stack.wait(workflow_id, timeout_s=limit_s)["tasks"]
    assert task["status"] == "COMPLETED" and task["outputData"] == {"sum": 5}, task
    return dict(task)


def delivers(stack: Stack, domain: str) -> bool:
    workflow_id = start(stack, domain)
    try:
        ended(stack, workflow_id, FIRST_S)
    except AssertionError:
        stack.api("DELETE", f"/workflow/{workflow_id}")
        return False
    return True


def at_rest(stack: Stack, bench: Bench, domains: dict[Contender, str]) -> dict[Contender, tuple[float, float]]:
    """Of each that delivers at all: milliseconds from the moment when a task is scheduled to the one when it is polled,
    and polls a second. All are at work at once, each in a domain of its own, so that they meet the same server."""
    with contextlib.ExitStack() as children:
        able = []
        for contender, domain in domains.items():  # one after the other: their scripts lie in one place
            children.enter_context(Child(bench, contender, door(stack.gateway.conductor_url), WORKERS, SMALL))
            able += [contender] if delivers(stack, domain) else []
        waits_ms: dict[Contender, list[float]] = {contender: [] for contender in able}
        for _ in range(SINGLE_TASKS):
            for contender in able:
                task = ended(stack, start(stack, domains[contender]))
                waits_ms[contender].append(task["startTime"] - task["scheduledTime"])
                pause(APART_S / len(able))
        stack.gateway.forget()
        pause(IDLE_S)
        polled = [re.search("[?&]domain=([^&]+)", seen.path) for seen in stack.gateway.seen("poll")]
        polls = Counter(found[1] if found else "" for found in polled)
    # the first two met a worker that was getting started, and getting to know the server
    return {one: (statistics.median(waits_ms[one][2:]), polls[domains[one]] / IDLE_S) for one in able}


def throughput(stack: Stack, bench: Bench, contender: Contender) -> float:
    """Tasks a second, of those that wait when the worker comes; the first of them are left out."""
    pause(LEFT_S)
    ids = [start(stack) for _ in range(MANY_TASKS)]
    with Child(bench, contender, door(stack.conductor_url), WORKERS, SMALL) as child:
        try:
            ends_ms = sorted(ended(stack, workflow_id)["endTime"] for workflow_id in ids)
        except AssertionError as error:
            raise AssertionError(f"{contender.name}: {error}\n{child.log()}") from None
    return 1000.0 * (MANY_TASKS - SKIPPED) / float(ends_ms[-1] - ends_ms[SKIPPED - 1])


def door(url: str) -> str:
    return url[: -len("/api")]


def measure(version: str, bench: Bench, contenders: list[Contender]) -> list[Figures]:
    in_domain = CONDUCTOR._replace(options=(*CONDUCTOR.options[:-1], "--domain", "ours", "--conductor"))
    domains = {in_domain if one is CONDUCTOR else one: "ours" if one is CONDUCTOR else "" for one in contenders}
    with Stack(version=version, indexing=False, keycloak=False) as stack:
        stack.register_task("bench")
        stack.register_workflow("bench", ["bench"], inputs=list(SMALL.given))
        rest = {one.kind: figures for one, figures in at_rest(stack, bench, domains).items()}
        able = [one for one in contenders if one.kind in rest]
        rates: dict[str, list[float]] = {one.kind: [] for one in able}
        for number in range(ROUNDS):
            for one in able[:: -1 if number % 2 else 1]:
                rates[one.kind].append(throughput(stack, bench, one))
    none = Figures(None, None, None)
    return [
        Figures(*rest[one.kind], statistics.median(rates[one.kind])) if one.kind in rest else none for one in contenders
    ]


def main(versions: list[str]) -> None:
    contenders = [CONDUCTOR, *([CONDUCTOR_PYTHON] if PEER else [])]
    print("Ours first, then conductor-python 2.0.0.\n")
    print("| Conductor | conformance: passed, differing | picked up after, ms | idle polls/s | tasks/s |")
    print("|---|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), {"conductor-python": PEER} if PEER else {})
        for version in versions or RELEASES:
            found = measure(version, bench, contenders)
            cells = [", ".join("none" if value is None else f"{value:.3g}" for value in each) for each in zip(*found)]
            print(f"| {version} | {', '.join(map(str, conformance(version)))} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])

# SPDX-License-Identifier: Apache-2.0
"""``python -m tests.benchmark``; ``-h`` lists the options. Linux and macOS; some minutes, best on a machine at rest.

Each row gives all contenders the same work, in turn and repeated, in one run: the figures to read are the
ratios to the row's first contender, since machines differ and drift. ``--seed`` and ``--conductor-python`` name
a Python that has the published user-agent-sdk 0.2.0 or conductor-python 2.0.0, ``--before`` another checkout of
this project; without them they are left out. Below 0.8 in "platform", the platform had time to spare, so it was
not what was measured.
"""

from __future__ import annotations

import argparse
import json
import os
import platform as machine
import statistics
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from . import figures
from .contenders import Bench, Contender
from .figures import Figure
from .measure import PlatformProcess, throughput
from .rows import BARE, CONDUCTOR, CONDUCTOR_PYTHON, DEFAULTS, SEED, Goal, Row, before, rows

Measured = dict[str, Any]


def compare(platform: PlatformProcess, bench: Bench, row: Row, rounds: int) -> list[Measured]:
    """The row's contenders, in turn; every other round backwards, so that a drift of the machine hits all."""
    entries = list(row.contenders)
    found: dict[Contender, list[dict[str, float]]] = {contender: [] for contender, _ in entries}
    for number in range(rounds):
        for contender, _ in entries[:: -1 if number % 2 else 1]:
            found[contender].append(throughput(platform, bench, contender, row))
    base = found[entries[0][0]]
    return [_summary(row, contender, goal, found[contender], base) for contender, goal in entries]


def _summary(
    row: Row, contender: Contender, goal: Goal | None, found: list[dict[str, float]], base: list[dict[str, float]]
) -> Measured:
    rates = [round_["tasks_per_s"] for round_ in found]
    ratios = [rate / other["tasks_per_s"] for rate, other in zip(rates, base) if other["tasks_per_s"]] or [0.0]
    measured: Measured = {
        "row": row.name,
        "contender": contender.name,
        "tasks_per_s": statistics.median(rates),
        "ratio": statistics.median(ratios),
        "ratio_min": min(ratios),
        "ratio_max": max(ratios),
        "share_of_ideal": statistics.median(rates) / row.ideal_per_s if row.ideal_per_s else None,
        "cpu_us": statistics.median(round_["cpu_us"] for round_ in found),
        "platform_busy": statistics.median(round_["busy"] for round_ in found),
        "unreported": max(round_["tasks"] - round_["reported"] for round_ in found),
    }
    return {**measured, **judged(goal, measured[goal.figure] if goal else 0.0)}


def judged(goal: Goal | None, value: float) -> Measured:
    return {"goal": str(goal), "holds": goal.holds(value)} if goal else {"goal": None, "holds": None}


def verdict(measured: Measured) -> str:
    return "" if measured["goal"] is None else f"{measured['goal']:9} {'holds' if measured['holds'] else 'MISSED'}"


def show_row(row: Row, found: list[Measured]) -> None:
    say(f"\n{row.name:44} tasks/s   ratio (spread)       CPU us  platform  goal")
    for one in found:
        notes = [verdict(one)]
        if one["share_of_ideal"]:
            notes.append(f"{one['share_of_ideal']:.2f} of the ideal {row.ideal_per_s:.0f}/s")
        if one["unreported"]:
            notes.append(f"{one['unreported']} UNREPORTED")
        spread = f"({one['ratio_min']:.2f}-{one['ratio_max']:.2f})"
        say(
            f"  {one['contender']:42} {one['tasks_per_s']:7.0f}  {one['ratio']:6.2f} {spread:15}"
            f" {one['cpu_us']:6.0f}  {one['platform_busy']:7.0%}   {'  '.join(filter(None, notes))}"
        )


def show_figure(figure: Figure) -> Measured:
    measured = {"figure": figure.name, "unit": figure.unit, "median": figure.median, "values": figure.values}
    measured.update(judged(figure.goal, figure.median))
    values = f"({min(figure.values):.4g}-{max(figure.values):.4g})" if len(figure.values) > 1 else ""
    say(f"  {figure.name:62} {figure.median:9.4g} {figure.unit:12} {values:18} {verdict(measured)}")
    return measured


def alone(platform: PlatformProcess, bench: Bench, options: argparse.Namespace) -> Iterator[list[Figure]]:
    """The figures that are no comparisons of speed, each when it is measured."""
    seed = [SEED] if options.seed else []
    earlier = [before(DEFAULTS)] if options.before else []
    peers = seed + ([CONDUCTOR_PYTHON] if options.conductor_python else [])
    if options.only in "sizes":
        yield figures.sizes(bench)
    if options.only in "start":
        yield figures.first_polls(platform, bench, [BARE, DEFAULTS, *earlier, *seed], max(10, options.rounds))
    if options.only in "idle":
        for contender in (DEFAULTS, CONDUCTOR, *peers):
            yield figures.at_rest(platform, bench, contender, options.idle_s)
    if options.only in "growth":
        yield figures.growth(platform, bench, options.growth_tasks)


def machine_now() -> Measured:
    load = [round(value, 2) for value in os.getloadavg()]
    return {"system": machine.platform(), "cores": os.cpu_count(), "python": machine.python_version(), "load": load}


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def say_machine(when: Measured) -> None:
    say(f"{when['system']}, {when['cores']} cores, Python {when['python']}, load {when['load']}")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmark", description=__doc__.partition("\n\n")[2])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tasks", type=int, default=6000, help="of a full row; slow ones take a part (default: 6000)")
    parser.add_argument("--only", default="", help="rows whose name has this text; also sizes, start, idle, growth")
    parser.add_argument("--idle-s", type=float, default=60.0, help="how long to watch idle workers (default: 60)")
    parser.add_argument("--growth-tasks", type=int, default=100_000, help="1000000 for the goal (default: 100000)")
    parser.add_argument("--seed", metavar="PYTHON", help="a Python with user-agent-sdk 0.2.0")
    parser.add_argument("--conductor-python", metavar="PYTHON", help="a Python with conductor-python 2.0.0")
    parser.add_argument("--before", metavar="FOLDER", type=Path, help="another checkout, measured beside this one")
    parser.add_argument("--json", action="store_true", help="the same on standard output")
    options = parser.parse_args()
    given = {"seed": options.seed, "conductor-python": options.conductor_python}
    report: Measured = {"start": machine_now(), "rows": [], "figures": []}
    say_machine(report["start"])
    with tempfile.TemporaryDirectory() as folder, PlatformProcess() as platform:
        bench = Bench(Path(folder), {kind: python for kind, python in given.items() if python}, options.before)
        for row in rows(options.tasks, frozenset(bench.pythons), options.only):
            found = compare(platform, bench, row, options.rounds)
            show_row(row, found)
            report["rows"] += found
        say("")
        for several in alone(platform, bench, options):
            report["figures"] += map(show_figure, several)
    report["end"] = machine_now()
    say_machine(report["end"])
    if options.json:
        print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()

"""``python -m tests.benchmark``; ``-h`` lists the options.

Each row pairs contenders on the same work, in turn and repeated, in one run: the figures to read are
the ratios, since machines differ and drift. ``--seed`` and ``--conductor-python`` name a Python that has
the published user-agent-sdk 0.2.0 or conductor-python 2.0.0 installed; without them they are left out.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import os
import platform as machine
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any, NamedTuple

from .contenders import Contender, ours

ROOT = Path(__file__).resolve().parents[2]
ROUND_LIMIT_S = 60.0


class Case(NamedTuple):
    """A row: the same work for each contender; the first is the yardstick of the ratios."""

    name: str
    workers: int
    tasks: int
    delay_ms: float
    contenders: list[Contender]
    ideal_per_s: float | None = None


class PlatformProcess:
    def __init__(self) -> None:
        command = [sys.executable, "-m", "tests.benchmark.platform"]
        self._process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())

    def control(self, wanted: dict[str, Any] | None = None) -> dict[str, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        connection.request("POST" if wanted else "GET", "/control", json.dumps(wanted) if wanted else None)
        answer: dict[str, Any] = json.loads(connection.getresponse().read())
        connection.close()
        return answer

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        if self._process.stdout:
            self._process.stdout.close()


def measure(platform: PlatformProcess, contender: Contender, case: Case) -> dict[str, Any]:
    """One round of one contender: the platform's own figures for it."""
    platform.control({"tasks": case.tasks, "delay_ms": case.delay_ms})
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "PYTHONPATH": str(ROOT)} if "ours" in contender.name else dict(os.environ)
        process = subprocess.Popen(
            contender.command(platform.port, case.workers),
            cwd=folder,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        tick = threading.Event()
        waited_s = 0.0
        try:
            while waited_s < ROUND_LIMIT_S and platform.control()["reported"] < case.tasks:
                tick.wait(0.1)
                waited_s += 0.1
            figures = platform.control()
        finally:
            cpu_s = _stop(process)
    return {**figures, "cpu_us_per_task": cpu_s * 1e6 / case.tasks}


def _stop(process: subprocess.Popen[bytes]) -> float:
    """End the process and what it started; the CPU seconds that it used, start-up included."""
    before = _children_cpu_s()
    for number in (signal.SIGTERM, signal.SIGKILL):
        if process.poll() is None:
            os.killpg(process.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)  # what it started and left behind
    return _children_cpu_s() - before


def _children_cpu_s() -> float:
    times = os.times()
    return times.children_user + times.children_system


def cases(options: argparse.Namespace, folder: Path) -> list[Case]:
    tasks = options.tasks
    bare = Contender("bare http.client", folder, sys.executable, "bare")
    journal, memory = ours("ours, journal", folder), ours("ours, --no-journal", folder, "--no-journal")
    chained = ours("ours, --conductor", folder, "--conductor")
    found = [
        Case("deep queue, 8 workers", 8, tasks, 0, [bare, memory, journal, chained]),
        Case("deep queue, 1 worker", 1, tasks // 2, 0, [bare, memory, journal, chained]),
        Case("50 ms an exchange, 20 workers", 20, 1000, 50, [bare, journal], 20 / 0.1),
        Case("50 ms an exchange, 64 workers", 64, 3000, 50, [bare, journal], 64 / 0.1),
    ]
    recorded = ours("ours, journal and -r", folder, "-r")
    found.append(Case("recording, 8 workers", 8, tasks, 0, [journal, recorded]))
    found.append(Case("recording, 1 worker", 1, tasks // 2, 0, [journal, recorded]))
    if options.conductor_python:
        peer = Contender("conductor-python 2.0.0", folder, options.conductor_python, "conductor-python")
        found.append(Case("update-v2, 8 workers", 8, tasks, 0, [peer, chained]))
    if options.seed:
        peer = Contender("user-agent-sdk 0.2.0", folder, options.seed, "seed")
        found.append(Case("default settings, 8 workers", 8, 120, 0, [peer, journal]))
    return [case for case in found if options.only in case.name]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmark")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tasks", type=int, default=6000)
    parser.add_argument("--only", default="", help="rows whose name has this text")
    parser.add_argument("--seed", metavar="PYTHON", help="a Python with user-agent-sdk 0.2.0")
    parser.add_argument("--conductor-python", metavar="PYTHON", help="a Python with conductor-python 2.0.0")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    print(f"{machine.platform()}, {os.cpu_count()} cores, Python {machine.python_version()}", file=sys.stderr)
    platform = PlatformProcess()
    report: list[dict[str, Any]] = []
    try:
        with tempfile.TemporaryDirectory() as folder:
            for case in cases(options, Path(folder)):
                report += compare(platform, case, options.rounds)
    finally:
        platform.close()
    if options.json:
        print(json.dumps(report, indent=1))


def compare(platform: PlatformProcess, case: Case, rounds: int) -> list[dict[str, Any]]:
    figures: dict[str, list[dict[str, Any]]] = {contender.name: [] for contender in case.contenders}
    for _ in range(rounds):
        for contender in case.contenders:
            figures[contender.name].append(measure(platform, contender, case))
    yardstick = [figure["tasks_per_s"] for figure in figures[case.contenders[0].name]]
    rows = []
    print(f"\n{case.name}", file=sys.stderr)
    for name, found in figures.items():
        rates = [figure["tasks_per_s"] for figure in found]
        ratios = [rate / base for rate, base in zip(rates, yardstick) if base]
        row = {
            "case": case.name,
            "contender": name,
            "tasks_per_s": statistics.median(rates),
            "ratio": statistics.median(ratios) if ratios else 0.0,
            "ratio_min": min(ratios, default=0.0),
            "ratio_max": max(ratios, default=0.0),
            "share_of_ideal": statistics.median(rates) / case.ideal_per_s if case.ideal_per_s else None,
            "cpu_us_per_task": statistics.median(figure["cpu_us_per_task"] for figure in found),
            "platform_busy": statistics.median(figure["busy"] for figure in found),
            "unreported": max(figure["tasks"] - figure["reported"] for figure in found),
        }
        rows.append(row)
        ideal = f"  {row['share_of_ideal']:.2f} of ideal" if row["share_of_ideal"] else ""
        lost = f"  {row['unreported']} UNREPORTED" if row["unreported"] else ""
        print(
            f"  {name:24} {row['tasks_per_s']:8.0f} tasks/s   x {row['ratio']:.2f}"
            f" ({row['ratio_min']:.2f}-{row['ratio_max']:.2f})"
            f"  {row['cpu_us_per_task']:5.0f} us CPU  platform busy {row['platform_busy']:.0%}{ideal}{lost}",
            file=sys.stderr,
        )
    return rows


if __name__ == "__main__":
    main()

"""A long run in one process: ``python -m tests.soak [--tasks 200000] [--workers 8]``. Linux, about four minutes.

The worker's memory, descriptors, threads and journal are read from outside while it works; exit 1 when, after
the first tenth of the tasks, memory grows by 2 MB or any of the others grows at all.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any, NamedTuple

from .benchmark.contenders import ours

ROOT = Path(__file__).resolve().parent.parent
GROWTH_MAX_KB = 2048
SAMPLES = 40
STEP_S = 0.2
LIMIT_S = 3600.0


class Sample(NamedTuple):
    tasks: int
    memory_kb: int
    descriptors: int
    threads: int
    journal_bytes: int


def sampled(pid: int, tasks: int, journal: Path) -> Sample:
    status = Path(f"/proc/{pid}/status").read_text("ascii", "replace")
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    descriptors = len(list(Path(f"/proc/{pid}/fd").iterdir()))
    journal_bytes = sum(path.stat().st_size for path in journal.rglob("*.db*"))
    return Sample(tasks, int(fields["VmRSS"].split()[0]), descriptors, int(fields["Threads"]), journal_bytes)


def control(port: int, order: dict[str, Any] | None = None) -> dict[str, Any]:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    body = None if order is None else json.dumps(order).encode("ascii")
    with opener.open(f"http://127.0.0.1:{port}/control", body, timeout=30) as reply:
        answer: dict[str, Any] = json.loads(reply.read())
    return answer


def soak(tasks: int, workers: int, folder: Path, port: int) -> list[Sample]:
    """The samples; the last one is of the idle worker, when all is done."""
    control(port, {"tasks": tasks, "input": {"num1": 2, "num2": 3}})
    never, deadline = threading.Event(), time.monotonic() + LIMIT_S
    samples: list[Sample] = []
    command = ours("soak", folder).command(port, workers)
    with (
        open(folder / "log", "wb") as log,
        subprocess.Popen(
            command, cwd=folder, env={"PYTHONPATH": str(ROOT)}, stdin=subprocess.DEVNULL, stdout=log, stderr=log
        ) as worker,
    ):
        try:
            reported = 0
            while reported < tasks:
                never.wait(STEP_S)
                if worker.poll() is not None or time.monotonic() > deadline:
                    raise SystemExit(
                        f"after {reported} tasks: {(folder / 'log').read_text('utf-8', 'replace')[-2000:]}"
                    )
                reported = control(port)["reported"]
                if reported >= len(samples) * tasks // SAMPLES:
                    samples.append(sampled(worker.pid, reported, folder))
            never.wait(12.0)  # the journal of an idle worker shrinks every 10 s
            samples.append(sampled(worker.pid, reported, folder))
            worker.terminate()
            code = worker.wait(60)
        finally:
            worker.kill()
    if code:
        raise SystemExit(f"the worker ended with {code}")
    return samples


def findings(samples: list[Sample], tasks: int) -> list[str]:
    """What grew after the first tenth."""
    first, *later = [sample for sample in samples if sample.tasks >= tasks // 10]
    early = [sample for sample in samples if sample.tasks <= first.tasks]
    found = []
    growth_kb = max(sample.memory_kb for sample in later) - first.memory_kb
    if growth_kb >= GROWTH_MAX_KB:
        found.append(f"memory grew by {growth_kb} kB")
    for name in ("descriptors", "threads", "journal_bytes"):
        before = max(getattr(sample, name) for sample in early)
        after = max(getattr(sample, name) for sample in later)
        if after > before:
            found.append(f"{name} grew from {before} to {after}")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__, allow_abbrev=False)
    parser.add_argument("--tasks", type=int, default=200_000)
    parser.add_argument("--workers", type=int, default=8)
    given = parser.parse_args()
    command = [sys.executable, "-m", "tests.benchmark.platform"]
    with (
        tempfile.TemporaryDirectory() as folder,
        subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as platform,
    ):
        try:
            assert platform.stdout is not None
            port, started = int(platform.stdout.readline()), time.monotonic()
            samples = soak(given.tasks, given.workers, Path(folder), port)
            took_s = time.monotonic() - started
        finally:
            platform.kill()
    print(*[f"{name:>14}" for name in Sample._fields])
    for sample in samples:
        print(*[f"{value:14,}" for value in sample])
    found = findings(samples, given.tasks)
    print(f"{given.tasks:,} tasks in {took_s:.0f} s; {'; '.join(found) or 'nothing grows'}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())

# SPDX-License-Identifier: Apache-2.0
"""Processes and what they used: the platform's, and a contender's from its start to its end."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

from .contenders import Bench, Contender, Work
from .rows import Row

ROOT = Path(__file__).resolve().parents[2]
ROUND_LIMIT_S = 60.0
PROC = Path("/proc")


class PlatformProcess:
    """``port``: plain HTTP; ``tls_port``: the same platform with TLS."""

    def __init__(self) -> None:
        command = [sys.executable, "-m", "tests.benchmark.platform"]
        self._process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.port, self.tls_port = map(int, self._process.stdout.readline().split())

    def __enter__(self) -> PlatformProcess:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._process.kill()
        self._process.wait()
        if self._process.stdout:
            self._process.stdout.close()

    def base(self, tls: bool = False) -> str:
        """Its URL, without the ``/api`` of its paths."""
        return f"https://127.0.0.1:{self.tls_port}" if tls else f"http://127.0.0.1:{self.port}"

    def control(self, wanted: dict[str, Any] | None = None) -> dict[str, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        connection.request("POST" if wanted else "GET", "/control", json.dumps(wanted) if wanted else None)
        answer: dict[str, Any] = json.loads(connection.getresponse().read())
        connection.close()
        return answer


class Child:
    """A contender at work, as the leader of a session of its own. Ends with the ``with`` block."""

    def __init__(self, bench: Bench, contender: Contender, base: str, workers: int, work: Work) -> None:
        self._before_s = _ended_children_cpu_s()
        self.folder = bench.fresh()
        with open(self.folder / "log", "wb") as log:
            self.process = subprocess.Popen(
                bench.command(contender, base, workers, work),
                cwd=self.folder,
                env=bench.environment(contender),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def __enter__(self) -> Child:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def wait_until(self, is_reached: Callable[[], bool], step_s: float = 0.1) -> None:
        """Returns without it, too: when the process ended, or the time for a round is over."""
        for _ in range(int(ROUND_LIMIT_S / step_s)):
            if is_reached() or self.process.poll() is not None:
                return
            pause(step_s)

    def log(self) -> str:
        return (self.folder / "log").read_text("utf-8", "replace")[-2000:]

    def stop(self) -> None:
        for number in (signal.SIGTERM, signal.SIGKILL):
            if self.process.poll() is None:
                os.killpg(self.process.pid, number)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self.process.wait(10)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)  # what it started and left behind

    def cpu_s(self) -> float:
        """What it and its children have used. Without /proc: known when all have ended, 0.0 before."""
        if not PROC.is_dir():
            return _ended_children_cpu_s() - self._before_s
        ticks = 0
        for stat in PROC.glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                fields = stat.read_text("ascii", "replace").rpartition(")")[2].split()
                if int(fields[3]) == self.process.pid:  # the session
                    ticks += sum(map(int, fields[11:15]))
        return ticks / os.sysconf("SC_CLK_TCK")

    def memory_mb(self) -> float | None:
        """Resident, of the first process alone. None: there is no /proc here."""
        with contextlib.suppress(OSError):
            for line in (PROC / str(self.process.pid) / "status").read_text("ascii", "replace").splitlines():
                if line.startswith("VmRSS"):
                    return int(line.split()[1]) / 1024
        return None


def _ended_children_cpu_s() -> float:
    times = os.times()
    return times.children_user + times.children_system


_tick = threading.Event()


def pause(seconds: float) -> None:
    _tick.wait(seconds)


def throughput(platform: PlatformProcess, bench: Bench, contender: Contender, row: Row) -> dict[str, float]:
    """One round of one contender on a row's work: the platform's own figures for it, and the CPU it took."""
    tasks = row.tasks_of(contender)
    skip = row.whole(tasks / 10)
    platform.control({"tasks": tasks, "skip": skip, "delay_ms": row.delay_ms, "input": row.work.given})
    with Child(bench, contender, platform.base(row.tls), row.workers, row.work) as child:
        child.wait_until(lambda: platform.control()["reported"] >= tasks // 10)
        begun, begun_s = platform.control()["reported"], child.cpu_s()
        child.wait_until(lambda: platform.control()["reported"] >= tasks)
        figures, until_s = platform.control(), child.cpu_s()
        if not until_s:
            child.stop()
            begun, until_s = 0, child.cpu_s()
        if figures["reported"] < tasks:
            sys.stderr.write(f"{contender.name}: {figures['reported']} of {tasks} tasks are reported; {child.log()}\n")
    done = figures["reported"] - begun
    return {**figures, "cpu_us": (until_s - begun_s) * 1e6 / done if done else 0.0}

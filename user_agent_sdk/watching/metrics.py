# SPDX-License-Identifier: Apache-2.0
"""What a worker counts. Names, labels and buckets are conductor-python's canonical ones, so its dashboards fit; the
duration of functions has buckets up to an hour beyond them, since tasks of minutes are common."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from ..conductor.wire import Task, TaskStatus, Verdict
from ..worker.polling.intake import queued_s
from ..worker.watched import Counts

TIMES_S = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
LONG_TIMES_S = (*TIMES_S, 30.0, 60.0, 300.0, 1800.0, 3600.0)
SIZES_BYTES = (100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000)


class Family(NamedTuple):
    """One metric. ``bounds``: of a histogram's buckets."""

    kind: str
    help: str
    labels: tuple[str, ...]
    bounds: tuple[float, ...] = ()


_TASK, _WHY, _STATUS = ("taskType",), ("taskType", "exception"), ("taskType", "status")
FAMILIES = {
    "task_poll": Family("counter", "Polls sent", _TASK),
    "task_poll_error": Family("counter", "Polls without a usable answer", _WHY),
    "task_poll_time_seconds": Family("histogram", "Latency of polls, the server's wait included", _STATUS, TIMES_S),
    "task_queue_time_seconds": Family("histogram", "First tries' wait in the queue, where told", _TASK, LONG_TIMES_S),
    "task_execution_started": Family("counter", "Functions started", _TASK),
    "task_execute_error": Family("counter", "Functions that failed, by the status that is reported", _WHY),
    "task_execute_time_seconds": Family("histogram", "Duration of functions", _STATUS, LONG_TIMES_S),
    "task_update_error": Family("counter", "Reports that were not taken, retries included", _WHY),
    "task_update_time_seconds": Family("histogram", "Latency of reports, retries included", _STATUS, TIMES_S),
    "task_result_size_bytes": Family("histogram", "Size of reports", _TASK, SIZES_BYTES),
    "task_result_rejected": Family("counter", "Results that the platform refused for good", _TASK),
    "active_workers": Family("gauge", "Functions that run", _TASK),
    "worker_slots": Family("gauge", "Tasks that may run at once", _TASK),
    "last_contact_timestamp_seconds": Family("gauge", "When a poll was last answered, 0 before the first", _TASK),
    "token_expiry_timestamp_seconds": Family("gauge", "When the token ends, 0 without one", ()),
    "oldest_undelivered_seconds": Family("gauge", "How long the oldest result has waited for its delivery", ()),
    "stuck_workers": Family("gauge", "Functions that were given up and still run", ()),
    "journal_depth": Family("gauge", "Rows of the journal", ("state",)),
    "journal_on_disk": Family("gauge", "1 while what is written survives the process", ()),
    "user_agent_sdk_info": Family("gauge", "Always 1", ("version", "digest")),
    "process_start_time_seconds": Family("gauge", "When the process started, since the epoch", ()),
    "process_cpu_seconds": Family("counter", "CPU time used by the process", ()),
    "process_resident_memory_bytes": Family("gauge", "Memory in use, where /proc tells it", ()),
    "process_open_fds": Family("gauge", "Open descriptors, where /proc tells them", ()),
}

_TIMED = ("task_poll", "task_execute", "task_update")
_BOUNDS = {what: FAMILIES[what + "_time_seconds"].bounds for what in _TIMED}
_BOUNDS.update(task_result_size_bytes=SIZES_BYTES, task_queue_time_seconds=LONG_TIMES_S)
_FAILURES = (TaskStatus.FAILED, TaskStatus.FAILED_WITH_TERMINAL_ERROR)
_COMPLETED, _IN_PROGRESS, _APPLIED = TaskStatus.COMPLETED, TaskStatus.IN_PROGRESS, Verdict.APPLIED


class _Rows(dict[tuple[str, str, "str | None"], list[float]]):
    """By what was done, agent and error: how many values within each bound (the one before the last: above all of
    them), and at the end their sum. What happened, how often and how often in vain follow from it."""

    def __missing__(self, key: tuple[str, str, str | None]) -> list[float]:
        row = self[key] = [0] * (len(_BOUNDS.get(key[0], ())) + 1) + [0.0]
        return row


class Metrics(Counts):
    """Counts what the worker does."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # guards _rows
        self._rows = _Rows()

    def known(self, agent_id: str) -> None:
        """Count an agent's events from zero: an alert on a rise would miss the first event of a counter that
        begins with it."""
        known: list[tuple[str, str | None]] = [("task_execution_started", None), ("task_result_rejected", None)]
        known += [("task_poll", error) for error in (None, "PollError")]
        known += [("task_execute", error) for error in (None, *(status.value for status in _FAILURES))]
        known += [("task_update", None if verdict is _APPLIED else verdict.name) for verdict in Verdict]
        with self._lock:
            for what, error in known:
                self._rows[what, agent_id, error]  # which makes the row

    def polled(self, agent_id: str, took_s: float, error: str | None = None) -> None:
        self._observe(("task_poll", agent_id, error), took_s)

    def started(self, agent_id: str, task: Task) -> None:
        self._observe(("task_execution_started", agent_id, None), 0.0)
        if (waited_s := queued_s(task)) is not None:
            self._observe(("task_queue_time_seconds", agent_id, None), waited_s)

    def executed(self, agent_id: str, took_s: float, status: TaskStatus) -> None:
        error = None if status is _COMPLETED or status is _IN_PROGRESS else status.value
        self._observe(("task_execute", agent_id, error), took_s)

    def reported(self, agent_id: str, took_s: float, verdict: Verdict, size_bytes: int | None = None) -> None:
        self._observe(("task_update", agent_id, None if verdict is _APPLIED else verdict.name), took_s)
        if size_bytes is not None:
            self._observe(("task_result_size_bytes", agent_id, None), size_bytes)

    def rejected(self, agent_id: str) -> None:
        self._observe(("task_result_rejected", agent_id, None), 0.0)

    def _observe(self, key: tuple[str, str, str | None], value: float) -> None:
        with self._lock:
            row = self._rows[key]
            row[bisect_left(_BOUNDS.get(key[0], ()), value)] += 1
            row[-1] += value

    def render(self, gauges: Mapping[tuple[str, ...], float]) -> str:
        """The text that Prometheus reads; ``gauges`` by name and label values."""
        single: dict[tuple[str, ...], float] = defaultdict(int, gauges)
        histograms: dict[tuple[str, ...], list[float]] = {}
        with self._lock:
            rows = {key: row.copy() for key, row in self._rows.items()}
        for (what, agent_id, error), row in rows.items():
            key: tuple[str, ...] = (what, agent_id)
            if what in _TIMED:
                key = (what + "_time_seconds", agent_id, "SUCCESS" if error is None else "FAILURE")
            if error is not None:
                single[what + "_error", agent_id, error] += int(sum(row[:-1]))
            if what in FAMILIES and FAMILIES[what].kind == "counter":
                single[what, agent_id] += int(sum(row[:-1]))
            if what in _BOUNDS:
                histograms[key] = [a + b for a, b in zip(histograms.get(key, [0] * len(row)), row)]
        lines: list[str] = []
        for name, family in FAMILIES.items():
            shown = name + "_total" if family.kind == "counter" else name
            samples = [f"{shown}{_labels(family.labels, k[1:])} {n}" for k, n in single.items() if k[0] == name]
            for key, row in histograms.items():
                if key[0] == name:
                    samples += _buckets(name, key, row)
            if samples:
                lines += [f"# HELP {shown} {family.help}", f"# TYPE {shown} {family.kind}", *samples]
        return "\n".join(lines) + "\n"


def _labels(names: Sequence[str], values: Sequence[str]) -> str:
    shown = (value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"") for value in values)
    return "{" + ",".join(f'{name}="{text}"' for name, text in zip(names, shown)) + "}" if names else ""


def _buckets(name: str, key: Sequence[str], row: Sequence[float]) -> Iterator[str]:
    names, bounds, below = FAMILIES[name].labels, FAMILIES[name].bounds, 0.0
    for bound, count in zip((*bounds, None), row):
        below += count
        le = "+Inf" if bound is None else f"{bound:g}" if bound >= 1e6 else str(float(bound))
        yield f"{name}_bucket{_labels((*names, 'le'), (*key[1:], le))} {below:.0f}"
    yield f"{name}_sum{_labels(names, key[1:])} {row[-1]}"
    yield f"{name}_count{_labels(names, key[1:])} {below:.0f}"

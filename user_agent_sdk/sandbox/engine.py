# SPDX-License-Identifier: Apache-2.0
"""Queues, leases and retries of the platform, in memory: no socket, no thread, no file.

Every rule was read off Conductor OSS 3.32.1 and is held by ``tests/conformance.py``, which runs
against that server and against this engine. Timeouts are not watched by a thread: each call first
settles what has become due, and a waiting call looks again at least every ``_SLICE_S``.
A worker's call costs O(log n), however deep its queue is, and a look at all tasks that run.
"""

from __future__ import annotations

import heapq
import itertools
import json
import threading
import time
from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Mapping
from typing import Any, Callable, TypeVar

from ..conductor.wire import DEFAULT_RESPONSE_TIMEOUT_S, REASON_MAX_CHARS, LogLine
from ..errors import NotFoundError, UsageError
from ..settings import NO_DOMAIN
from .tasks import Attempt, Execution, ReportRefused, check_report, log_line, to_wire

PAYLOAD_MAX_BYTES = 10 * 1024 * 1024  # of an output more is accepted with a 200, and fails the task for good
KEPT_EXECUTIONS = 10_000  # ended ones; the oldest go first
KEPT_BYTES = 256 * 1024 * 1024  # of inputs and reports, over all ended executions
KEPT_LOG_LINES = 10_000  # log lines of one attempt
KEPT_LIVE_LINES = 1000  # those that a worker of this process writes
BRIEF_CHARS = 500  # characters of an input that a list shows and a search looks into
_SLICE_S = 0.1
# What an execution ends as whose last attempt ends so; as any other it ends too.
_ENDED_AS = {"FAILED_WITH_TERMINAL_ERROR": "FAILED", "CANCELED": "TERMINATED"}

Seen = TypeVar("Seen")


def wall_ms() -> int:
    """Now, in milliseconds of the epoch."""
    return time.time_ns() // 1_000_000


class Queue:
    """The tasks of one agent in one domain that wait for a poll."""

    def __init__(self, lock: threading.RLock) -> None:
        self.arrived = threading.Condition(lock)
        self.polled_ms = 0
        self.worker_id: str | None = None
        self.waiting: list[tuple[float, int, Attempt]] = []  # a heap: (ready at, place, attempt)

    def take(self, now: float) -> Attempt | None:
        while self.waiting and self.waiting[0][0] <= now:
            _, ticket, attempt = heapq.heappop(self.waiting)
            if attempt.place == ticket and attempt.status == "SCHEDULED":
                return attempt
        return None


class Engine:
    """The platform's state. Every method may be called from any thread; none does I/O."""

    def __init__(self) -> None:
        self.clock = time.monotonic
        self._lock = threading.RLock()  # guards everything below, and every record reached from it
        self._moved = threading.Condition(self._lock)  # some attempt has another status
        self._executions: dict[str, Execution] = {}  # oldest first
        self._tasks: dict[str, Attempt] = {}
        self._queues: defaultdict[tuple[str, str | None], Queue] = defaultdict(lambda: Queue(self._lock))
        self._leased: set[Attempt] = set()
        self._ended: deque[str] = deque()
        self._ended_bytes = 0
        self._tickets = itertools.count()
        self._closed = False

    def submit(self, agent_id: str, given: Mapping[str, Any], *, domain: str | None = None, retries: int = 2,
               retry_delay_s: float = 0, response_timeout_s: float = DEFAULT_RESPONSE_TIMEOUT_S) -> str:  # fmt: skip
        """Queue one task with the input ``given`` and return the id of its execution. ``retries``: attempts after the
        first. Raises UsageError for an input that is not a JSON object, an empty agent id, or a policy without sense.
        """
        try:
            text = json.dumps(given, allow_nan=False, ensure_ascii=False)
            size_bytes = len(text.encode("utf-8", "surrogatepass"))
            given = json.loads(text)
        except (TypeError, ValueError, RecursionError) as error:
            raise UsageError(f"the input can't be sent as JSON: {error}") from None
        if not isinstance(given, dict) or size_bytes > PAYLOAD_MAX_BYTES:
            raise UsageError(f"the input must be a JSON object of at most {PAYLOAD_MAX_BYTES:,} bytes")
        if not isinstance(agent_id, str) or not agent_id or not isinstance(domain, (str, type(None))):
            raise UsageError("a task needs an agent id, which is a text, as is its domain")
        if retries < 0 or not 0 <= retry_delay_s < 10**8 or not 0 < response_timeout_s < 10**8:
            raise UsageError("a task needs retries and a delay >= 0, and a response timeout > 0 (seconds)")
        with self._lock:
            now = self._settle()
            execution = Execution(agent_id, None if domain in ("", NO_DOMAIN) else domain, given, text[:BRIEF_CHARS],
                                  retries, retry_delay_s, response_timeout_s, wall_ms())  # fmt: skip
            execution.size_bytes = size_bytes
            self._executions[execution.id] = execution
            self._schedule(execution, now)
            return execution.id

    def poll(self, agent_id: str, worker_id: str | None = None, domain: str | None = None, *,
             wait_s: float = 0, count: int = 1) -> list[dict[str, Any]]:  # fmt: skip
        """Up to ``count`` tasks of the wire, each leased from now on. Waits at most ``wait_s``
        until it has that many, as the real server does: a count over 1 sits on what it has."""
        tasks: list[dict[str, Any]] = []
        with self._lock:
            queue = self._queues[agent_id, domain or None]
            queue.polled_ms, queue.worker_id = wall_ms(), worker_id
            deadline = self.clock() + wait_s
            while len(tasks) < count:
                now = self._settle()
                attempt = queue.take(now)
                if attempt is not None:
                    tasks.append(self._hand_out(attempt, worker_id, now))
                elif now >= deadline or self._closed:
                    break
                else:
                    due = queue.waiting[0][0] if queue.waiting else deadline
                    queue.arrived.wait(self._patience(now, min(deadline, due)))
        return tasks

    def update(self, report: Mapping[str, Any], size_bytes: int = 0) -> Execution | None:
        """Apply a TaskResult of the wire, ``size_bytes`` long: the execution whose attempt is over, by this report or
        before it (which ignores the report, without an error), None if it goes on. Raises ReportRefused."""
        check_report(report)
        with self._lock:
            now = self._settle()
            attempt = self._tasks.get(report["taskId"])
            extend = report.get("extendLease") is True  # whatever the status says, as the real server does
            if not extend and report["workflowInstanceId"] not in self._executions:
                raise ReportRefused(404, f"No such workflow found by id: {report['workflowInstanceId']}")
            if attempt is None:
                raise ReportRefused(404, f"No such task found by id: {report['taskId']}")
            execution = attempt.execution
            if attempt.status not in ("SCHEDULED", "IN_PROGRESS"):
                return None if extend else execution
            attempt.update_ms = wall_ms()
            if extend:
                attempt.lease_until = now + execution.response_timeout_s
                return None
            status = self._store(report, size_bytes, attempt)
            if status != "IN_PROGRESS":
                self._end(attempt, status, now)
                return execution
            attempt.callback_after_s = max(report.get("callbackAfterSeconds") or 0, 0)
            self._enqueue(attempt, now + attempt.callback_after_s)
            return None

    def wait(self, execution_id: str, timeout_s: float) -> Execution:
        """A snapshot of the execution when it has ended, or after ``timeout_s``. Raises NotFoundError."""
        with self._lock:
            execution = self._executions.get(execution_id)
            if execution is None:
                raise NotFoundError(f"no execution has the id {execution_id!r}")
            deadline = self.clock() + timeout_s
            while True:
                now = self._settle()
                if execution.status != "RUNNING" or now >= deadline or self._closed:
                    return execution.snapshot()
                self._moved.wait(self._patience(now, deadline))

    def task(self, task_id: str) -> dict[str, Any]:
        """A task of the wire, as it is now. Raises NotFoundError."""
        with self._lock:
            self._settle()
            attempt = self._tasks.get(task_id)
            if attempt is None:
                raise NotFoundError(f"No such task found by id: {task_id}")
            return to_wire(attempt)

    def view(self, show: Callable[[Iterable[Execution], float], Seen]) -> Seen:
        """What ``show`` makes of all executions, newest first, and of the monotonic time; nothing changes meanwhile."""
        with self._lock:
            now = self._settle()
            return show(reversed(self._executions.values()), now)

    def cancel(self, execution_id: str) -> None:
        """End an execution that waits or runs, as the platform does when somebody terminates its workflow: a worker is
        not told, and what it reports later is ignored. Raises NotFoundError."""
        with self._lock:
            now = self._settle()
            execution = self._executions.get(execution_id)
            if execution is None:
                raise NotFoundError(f"no execution has the id {execution_id!r}")
            if execution.status == "RUNNING":
                execution.attempts[-1].reason = "cancelled by hand"
                self._end(execution.attempts[-1], "CANCELED", now)

    def heard(self, task_id: str, level: str, line: LogLine) -> None:
        """A worker in this process wrote ``line`` to the log of a task."""
        with self._lock:
            attempt = self._tasks.get(task_id)
            if attempt is not None:
                attempt.live = [*attempt.live, (level, line)][-KEPT_LIVE_LINES:]

    def agents(self) -> list[dict[str, Any]]:
        """One row for each agent and domain that was polled or given a task."""
        with self._lock:
            self._settle()
            last = Counter((one.agent_id, one.domain, one.attempts[-1].status) for one in self._executions.values())
            return [{"agentId": agent_id, "domain": domain, "queued": last[agent_id, domain, "SCHEDULED"],
                     "running": last[agent_id, domain, "IN_PROGRESS"], "polledTime": queue.polled_ms,
                     "workerId": queue.worker_id}
                    for (agent_id, domain), queue in self._queues.items()]  # fmt: skip

    def close(self) -> None:
        """End every wait, those to come too."""
        with self._lock:
            self._closed = True
            self._moved.notify_all()
            for queue in self._queues.values():
                queue.arrived.notify_all()

    # Below, every method expects the lock to be held.

    def _patience(self, now: float, until: float) -> float:
        due = min([until, *(leased.lease_until for leased in self._leased)])
        return min(max(due - now, 0.001), _SLICE_S)

    def _settle(self) -> float:
        """Time out every lapsed lease; the time that the caller is to go by."""
        now = self.clock()
        lapsed = [leased for leased in self._leased if leased.lease_until <= now]
        for attempt in sorted(lapsed, key=lambda leased: leased.lease_until):
            attempt.reason = (f"responseTimeout: {attempt.execution.response_timeout_s:g} exceeded for the taskId: "
                              f"{attempt.task_id} with Task Definition: {attempt.execution.agent_id}")  # fmt: skip
            self._end(attempt, "TIMED_OUT", now)
        return now

    def _schedule(self, execution: Execution, ready_at: float) -> None:
        attempt = Attempt(execution, wall_ms())
        execution.attempts.append(attempt)
        self._tasks[attempt.task_id] = attempt
        self._enqueue(attempt, ready_at)

    def _enqueue(self, attempt: Attempt, ready_at: float) -> None:
        """Give ``attempt`` a place in its queue; an older place is void from now on."""
        attempt.place, attempt.ready_at = next(self._tickets), ready_at
        queue = self._queues[attempt.execution.agent_id, attempt.execution.domain]
        heapq.heappush(queue.waiting, (ready_at, attempt.place, attempt))
        queue.arrived.notify()
        self._move(attempt, "SCHEDULED")

    def _hand_out(self, attempt: Attempt, worker_id: str | None, now: float) -> dict[str, Any]:
        attempt.worker_id = worker_id
        attempt.poll_count += 1
        attempt.update_ms = wall_ms()
        attempt.start_ms = attempt.start_ms or attempt.update_ms
        attempt.callback_after_s = 0
        attempt.lease_until = now + attempt.execution.response_timeout_s
        self._move(attempt, "IN_PROGRESS")
        return to_wire(attempt)

    def _move(self, attempt: Attempt, status: str) -> None:
        (self._leased.add if status == "IN_PROGRESS" else self._leased.discard)(attempt)
        attempt.status = status
        self._moved.notify_all()

    def _store(self, report: Mapping[str, Any], size_bytes: int, attempt: Attempt) -> str:
        """Keep what a report says; the status that its attempt gets."""
        attempt.worker_id = report.get("workerId") or attempt.worker_id
        attempt.output = report.get("outputData") or {}
        reason = report.get("reasonForIncompletion")
        attempt.reason = str(reason)[:REASON_MAX_CHARS] if reason else None
        attempt.execution.size_bytes += size_bytes
        logs = report.get("logs")
        if logs and isinstance(logs, list):
            lines = [*attempt.logs, *map(log_line, logs)]
            attempt.logs = sorted(lines, key=lambda line: line.created_ms)[-KEPT_LOG_LINES:]
        if size_bytes > PAYLOAD_MAX_BYTES:
            output_bytes = len(json.dumps(attempt.output, ensure_ascii=False, separators=(",", ":")).encode())
            if output_bytes > PAYLOAD_MAX_BYTES:
                attempt.output = {}
                attempt.reason = (f"The payload size: {output_bytes} of task: {attempt.task_id} is greater than "
                                  f"the permissible limit: {PAYLOAD_MAX_BYTES} bytes")  # fmt: skip
                return "FAILED_WITH_TERMINAL_ERROR"
        return str(report["status"])

    def _end(self, attempt: Attempt, status: str, now: float) -> None:
        """End an attempt, and with it the execution unless it is to be tried again."""
        execution, attempt.end_ms = attempt.execution, wall_ms()
        if status in ("FAILED", "TIMED_OUT") and attempt.retry_count < execution.retries:
            self._schedule(execution, now + execution.retry_delay_s)
        else:
            execution.status = _ENDED_AS.get(status, status)
            execution.end_ms = attempt.end_ms
            execution.output, execution.reason = attempt.output, attempt.reason
            self._ended.append(execution.id)
            self._ended_bytes += execution.size_bytes
        self._move(attempt, status)
        while len(self._ended) > KEPT_EXECUTIONS or (self._ended_bytes > KEPT_BYTES and len(self._ended) > 1):
            dropped = self._executions.pop(self._ended.popleft())
            self._ended_bytes -= dropped.size_bytes
            for old in dropped.attempts:
                del self._tasks[old.task_id], old.execution  # which held each other: large outputs go at once

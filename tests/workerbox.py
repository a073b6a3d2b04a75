# SPDX-License-Identifier: Apache-2.0
"""A worker and a platform in one process for the worker's tests: a sandbox that can be told to
misbehave, and a Runner in a thread."""

from __future__ import annotations

import io
import json
import logging
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Callable

from user_agent_sdk import settings as settings_module
from user_agent_sdk.agents import REGISTRY, Agent, register_user_agent
from user_agent_sdk.cli.embedded import Background
from user_agent_sdk.sandbox.exchange import Reply, Request
from user_agent_sdk.sandbox.server import Sandbox
from user_agent_sdk.sandbox.tasks import Execution
from user_agent_sdk.watching.status import Status
from user_agent_sdk.worker.runner import Runner

logging.getLogger("user_agent_sdk").addHandler(logging.NullHandler())  # what is not asserted is not printed

PACKAGE = Path(settings_module.__file__).parent
AGENT = "tested#user-agent"
LONG_S = 20.0  # no test waits that long, unless it fails
Fault = Callable[[str, Request, Callable[[Request], Any]], Any]
PASS = object()
DOWN = Reply.of({"message": "down"}, 503)


def kind_of(request: Request) -> str:
    """poll, report, extend, put-back (IN_PROGRESS), token, or other."""
    if "/poll/" in request.path:
        return "poll"
    if request.path.endswith("/token"):
        return "token"
    if request.path.rpartition("/")[2] not in ("external", "tasks", "update-v2"):
        return "other"
    report = json.loads(request.body)
    if report.get("extendLease"):
        return "extend"
    return "put-back" if report["status"] == "IN_PROGRESS" else "report"


class Box(Sandbox):
    """``faults`` see each request in turn: PASS leaves it to the next and at last to the platform, a
    Reply is the answer, None hangs up. ``calls`` counts kinds; ``reports`` are those that arrived."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.faults: list[Fault] = []
        self.calls: Counter[str] = Counter()
        self.reports: list[dict[str, Any]] = []
        self._arrived = threading.Condition()  # guards calls and reports

    def handle(self, request: Request) -> Any:
        kind = kind_of(request)
        reply = PASS
        for fault in list(self.faults):
            reply = fault(kind, request, super().handle)
            if reply is not PASS:
                break
        if reply is PASS:
            reply = super().handle(request)
        with self._arrived:
            self.calls[kind] += 1
            if kind in ("report", "put-back"):
                self.reports.append(json.loads(request.body))
            self._arrived.notify_all()
        return reply

    def await_calls(self, kind: str, count: int) -> None:
        """Wait until that many calls of a kind were answered."""
        with self._arrived:
            if not self._arrived.wait_for(lambda: self.calls[kind] >= count, LONG_S):
                raise AssertionError(f"{count} calls of {kind} were expected, there are {dict(self.calls)}")

    def await_state(self, execution_id: str, is_reached: Callable[[Execution], bool]) -> Execution:
        """The execution as soon as ``is_reached`` is true of it, or it has ended."""
        deadline, never = time.monotonic() + LONG_S, threading.Event()
        while True:
            execution = self.wait(execution_id, 0)
            if is_reached(execution) or execution.status != "RUNNING" or time.monotonic() > deadline:
                return execution
            never.wait(0.002)

    @contextmanager
    def down(self, *kinds: str) -> Iterator[None]:
        """While this lasts, those calls are answered with 503; without kinds all are."""

        def fault(kind: str, request: Request, proceed: Any) -> Any:
            return DOWN if not kinds or kind in kinds else PASS

        self.faults.append(fault)
        try:
            yield
        finally:
            self.faults.remove(fault)

    @contextmanager
    def hanging(self, hung: str) -> Iterator[tuple[threading.Event, threading.Event]]:
        """While this lasts, calls of that kind are not answered before the second event; the first one tells of one."""
        asked, go = threading.Event(), threading.Event()

        def fault(kind: str, request: Request, proceed: Any) -> Any:
            if kind == hung:
                asked.set()
                go.wait(LONG_S)
            return PASS

        self.faults.append(fault)
        try:
            yield asked, go
        finally:
            go.set()
            self.faults.remove(fault)

    def put(self, agent_id: str = AGENT, /, **given: Any) -> str:
        """Submit a task whose response timeout is long."""
        return self.submit(agent_id, given, retries=2)


def agent(func: Callable[..., Any], **options: Any) -> Agent:
    """An Agent for a function, registered nowhere."""
    register_user_agent(func, options.pop("agent_id", AGENT), **options)
    return REGISTRY.pop()


def settings_for(box: Box, journal: Path | None = None, **changes: Any) -> Any:
    """Settings that point at the box; ``changes`` as of Settings."""
    plain = settings_module.load({}, environ={}, target=False)
    changes.setdefault("poll_interval_ms", 20)
    return plain.on_sandbox(box.credentials(AGENT), journal)._replace(**changes)


def hasten(case: Any, **pauses: float) -> None:
    """Shorten pauses of the worker for one test: ``hasten(self, slots_RESTART_PAUSE_S=0.01)``."""
    from importlib import import_module

    for name, value in pauses.items():
        stem, _, constant = name.partition("_")
        [path] = (PACKAGE / "worker").rglob(f"{stem}.py")
        module = import_module(".".join([PACKAGE.name, *path.relative_to(PACKAGE).with_suffix("").parts]))
        case.addCleanup(setattr, module, constant, getattr(module, constant))
        setattr(module, constant, value)


class Worker(Background):
    """A Runner in a thread, which a test stops."""

    def __init__(self, settings: Any, agents: list[Agent], **options: Any) -> None:
        super().__init__("worker", Runner(settings, agents, watch=Status(), **options))

    def stop(self, timeout_s: float = LONG_S) -> int | None:
        self.runner.stop()
        return self.ended(timeout_s)

    def ended(self, timeout_s: float = LONG_S) -> int | None:
        """Its exit code, once it has ended."""
        self.join(timeout_s)
        if self.is_alive():
            raise AssertionError("the worker did not stop")
        if self.error is not None:
            raise self.error
        return self.code


@contextmanager
def working(box: Box, agents: Any, journal: Path | None = None, **changes: Any) -> Iterator[Worker]:
    """A worker that runs meanwhile and is stopped at the end, if the test has not stopped it."""
    options = {"on_execution": changes.pop("on_execution", None)}
    worker = Worker(settings_for(box, journal, **changes), agents if isinstance(agents, list) else [agents], **options)
    worker.start()
    try:
        yield worker
    finally:
        worker.runner.stop()
        worker.join(LONG_S)


class FullFile(io.FileIO):
    """A file on a disk that has room for three bytes more."""

    def write(self, data: bytes) -> int:  # type: ignore[override]
        return super().write(data[:3])


def rows(folder: Path) -> list[tuple[str, str, str]]:
    """(state, task id, status) of every row in a journal whose process has ended."""
    from user_agent_sdk.worker.keeping import log_file

    found = []
    for path in sorted(folder.glob("*/*.log")):
        file = log_file.take(path)
        assert file is not None, f"{path} is locked"
        found += [(entry.state, entry.task_id, entry.status) for entry in file.read().values()]
        file.close()
    return found

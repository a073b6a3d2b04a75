# SPDX-License-Identifier: Apache-2.0
"""What all targets share: how a case is made, run, bounded in time, and judged."""

from __future__ import annotations

import contextlib
import gc
import logging
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

HANG_S = 10.0  # a case takes milliseconds; the machine may be busy
FINDINGS_KEPT = 5


class Wrong(AssertionError):
    """A promise that was not kept."""


class Hang(BaseException):
    """Raised in a case that takes too long; nothing that runs in a case may catch it."""


class Target(contextlib.ExitStack):
    """``make`` invents a case, ``run`` raises when it goes wrong. Entered before the first case."""

    name = ""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder

    def make(self, rng: Random) -> Any:
        raise NotImplementedError

    def run(self, case: Any) -> None:
        raise NotImplementedError


class Finding(NamedTuple):
    number: int
    case: Any
    error: BaseException

    def told(self, target: str, seed: int) -> str:
        shown = "".join(traceback.format_exception(type(self.error), self.error, self.error.__traceback__))
        again = f"python -m tests.fuzz --only {target} --seed {seed} --case {self.number}"
        return f"{target}, case {self.number}: {self.case!r:.2000}\n{shown}again: {again}\n"


class Outcome(NamedTuple):
    cases: int
    findings: list[Finding]
    took_s: float
    slowest_s: float


class _Complaints(logging.Handler):
    """A logged traceback is one that an operator sees."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.heard: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        said = record.getMessage()
        if record.exc_info or record.levelno >= logging.CRITICAL:
            error = record.exc_info[1] if record.exc_info else None
            where = "".join(traceback.format_tb(error.__traceback__)) if error else ""
            self.heard.append(f"{said}\n{where}{error!r}")


def fuzz(kind: type[Target], cases: int, seed: int, only: int | None = None, stop_at: int = FINDINGS_KEPT) -> Outcome:
    """Run so many cases of a target, or the one numbered ``only``; ends early after ``stop_at`` findings.

    A case depends on its number and the seed alone.
    """
    findings: list[Finding] = []
    slowest_s, began, number = 0.0, time.monotonic(), -1
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(dir=_quick_disk()))
        complaints, bound = stack.enter_context(_listening()), stack.enter_context(_alarm())
        target = stack.enter_context(kind(Path(folder).resolve()))
        for number in range(cases) if only is None else (only,):
            rng = Random(f"{seed}/{kind.name}/{number}")
            case = target.make(rng)
            before = time.monotonic()
            try:
                with bound():
                    target.run(case)
                if complaints.heard:
                    raise Wrong("\n".join(complaints.heard))
            except (Exception, Hang, SystemExit) as error:
                findings.append(Finding(number, case, error))
                traceback.clear_frames(error.__traceback__)  # a file that one has open can't be removed on Windows,
                gc.collect()  # nor one that a circle has
            complaints.heard.clear()
            slowest_s = max(slowest_s, time.monotonic() - before)
            if len(findings) >= stop_at:
                break
    return Outcome(number + 1 if only is None else 1, findings, time.monotonic() - began, slowest_s)


def _quick_disk() -> str | None:
    """Where a file costs no disk: SQLite syncs what it writes."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else None


@contextlib.contextmanager
def _listening() -> Iterator[_Complaints]:
    logger, complaints = logging.getLogger("user_agent_sdk"), _Complaints()
    kept = logger.propagate, logger.level
    logger.propagate = False
    logger.addHandler(complaints)
    logger.setLevel(logging.DEBUG)
    try:
        yield complaints
    finally:
        logger.removeHandler(complaints)
        logger.propagate, logger.level = kept
        logger.setLevel(kept[1])


@contextlib.contextmanager
def _alarm() -> Iterator[Any]:
    """A context manager for each case that ends it when it hangs, where there are such timers."""
    if sys.platform == "win32":
        yield contextlib.nullcontext
        return

    def ring(*_: object) -> None:
        raise Hang(f"no end after {HANG_S:g} s")

    @contextlib.contextmanager
    def bound() -> Iterator[None]:
        signal.setitimer(signal.ITIMER_REAL, HANG_S)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)

    before = signal.signal(signal.SIGALRM, ring)
    try:
        yield bound
    finally:
        signal.signal(signal.SIGALRM, before)

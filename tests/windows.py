# SPDX-License-Identifier: Apache-2.0
"""The hermetic tests on a Windows Python under Wine, module by module: what ``.ci/windows suite`` runs; and ``table``,
and ``engine``, the part of it that has a platform, on a real Conductor of this side.

``python -m tests.windows suite FOLDER [VERSION…] [MODULE…]``, where FOLDER is what ``.ci/windows setup`` filled. The
last lines are those of unittest, summed up. Wine's server may abort: then, told by the server's own end, the tests of
a module that had not passed are run. At the end, alone on the machine, what failed while two modules ran at a time is
run again; what passes then is told of, with all that was said of the failure.
"""

from __future__ import annotations

import contextlib
import os
import queue
import re
import subprocess
import sys
import tempfile
import threading
import time
import unittest
from collections import Counter
from functools import partial
from pathlib import Path
from typing import NamedTuple

from tests.parallel import HERE, LONGEST, leaves
from tests.real import servers

VERSIONS = ["3.9.13", "3.14.3"]  # the oldest and the newest
LIMIT_S = 240.0  # a module; the longest takes a minute
TABLE_LIMIT_S = 600.0
AGAIN_MOST = 3  # aborts of Wine's server in a row, with no test passed between them
RUNS_MOST = 12  # of a module, whatever passes between them
ABORTED_S = 10.0  # until the server's end is seen, on a crowded machine
LEAVE_S = 20.0  # for what a module leaves behind and still holds its pipe
NOTHING = subprocess.DEVNULL
GAP = "Wine lacks "  # how the reason of a test that Wine can't run begins
GAPS_MAX = 12
ABORT = re.compile(r"wineserver.*Assertion|Assertion .* failed|wine client error|wineserver crashed")
_RAN = re.compile(r"^Ran (\d+) tests? in", re.M)
_VERDICT = re.compile(r"^(?:OK|FAILED|NO TESTS RAN)(?: \((.*)\))?\s*$", re.M)
_SKIPPED = re.compile(r"\.\.\. skipped ['\"](.*)['\"]\s*$", re.M)
_PASSED = re.compile(r"(?:\n[^\n]*)? \.\.\. (?:ok|skipped ['\"][^\n]*['\"])\n")  # and not a word beside
_BEGUN = re.compile(r"^(test\w*) \((tests\.[\w.]+)\)", re.M)


class Outcome(NamedTuple):
    """What a module's output says. ``bad`` counts failures and errors, and 1 for an end without a verdict."""

    ran: int
    bad: int
    reasons: list[str]


def judge(output: str, code: int | None) -> Outcome:
    """``code``: the exit code, None when the time was over."""
    verdicts, runs = _VERDICT.findall(output), _RAN.findall(output)
    counts = dict(part.split("=") for part in verdicts[-1].split(", ") if part) if verdicts else {}
    bad = sum(int(counts.get(kind, 0)) for kind in ("failures", "errors", "unexpected successes"))
    if not bad and (code != 0 or not verdicts or not runs or re.search("^Exception ignored", output, re.M)):
        bad = 1  # a ResourceWarning in a finalizer can't fail a test by itself
    reasons = _SKIPPED.findall(output)
    reasons += ["no reason was found"] * (int(counts.get("skipped", 0)) - len(reasons))
    return Outcome(int(runs[-1]) if runs else 0, bad, reasons)


class Wine:
    """One Windows: a prefix of its own, so that two of them share nothing."""

    def __init__(self, prefix: Path) -> None:
        self._log = prefix / "server.log"
        self._server: subprocess.Popen[bytes] | None = None
        self._has_aborted = False
        self.environ = {**os.environ, "WINEPREFIX": str(prefix), "PYTHONPYCACHEPREFIX": "C:\\pycache"}
        self.aborts = 0

    def start(self) -> None:
        """Started by a program, the server and Windows' services would inherit that one's pipe and hold it open."""
        if self._server is None or self._server.poll() is not None:
            self.stop()
            with self._log.open("wb") as log:
                command = ["wineserver", "-f", "-p600"]  # in the foreground: how it ends is seen
                self._server = subprocess.Popen(command, env=self.environ, stdin=NOTHING, stdout=log, stderr=log)
        subprocess.run(["wine", "cmd", "/c", "exit"], env=self.environ, stdin=NOTHING, stdout=NOTHING, stderr=NOTHING)

    def stop(self) -> None:
        subprocess.run(["wineserver", "-k"], env=self.environ, stdin=NOTHING, capture_output=True)
        if self._server is not None:
            self._server.wait(LEAVE_S)
            self._server = None

    def run(self, *command: str, limit_s: float = LIMIT_S) -> tuple[str, int | None]:
        """Both streams and the exit code of a Windows program, which gets pipes: it can't use files of this side."""
        self.start()
        self._has_aborted = False
        assert self._server is not None
        said: list[bytes] = []
        process = subprocess.Popen(["wine", *command], env=self.environ, stdin=NOTHING,
                                   stdout=subprocess.PIPE, stderr=subprocess.STDOUT)  # fmt: skip
        assert process.stdout is not None
        reader = threading.Thread(target=lambda: said.extend(process.stdout or ()), daemon=True)
        reader.start()
        deadline = time.monotonic() + limit_s
        while True:
            reader.join(1.0)
            code = process.poll()
            if not reader.is_alive() or self._server.poll() is not None or time.monotonic() > deadline:
                break
            if code is not None:
                deadline = min(deadline, time.monotonic() + LEAVE_S)
        if reader.is_alive():
            self._has_aborted = self._server.poll() is not None
            self.stop()
            process.kill()
            reader.join(LEAVE_S)
        code = process.wait() if code is None and not reader.is_alive() and time.monotonic() < deadline else code
        return b"".join(said).decode("utf-8", "replace").replace("\r\n", "\n"), code

    def has_aborted(self) -> bool:
        """Whether its server ended by itself in the last run: an assertion has words in its log, a crash has none."""
        if not self._has_aborted and self._server is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._server.wait(ABORTED_S)  # the program's end may be seen before
                self._has_aborted = True
        return self._has_aborted

    def said(self) -> str:
        """What the server said, and how it ended."""
        return f"{self._log.read_text('utf-8', 'replace')!r}, {self._server and self._server.poll()}"


def passed(output: str) -> dict[str, str]:
    """The ids of the tests that a run which broke off had passed or skipped, with what was said of each. What failed
    is not among them: unittest tells why at the end, and there was none."""
    begun = [*_BEGUN.finditer(output)]
    ends = [*(one.start() for one in begun[1:]), len(output)]
    said = {f"{one[2].removesuffix('.' + one[1])}.{one[1]}": output[one.end():end] for one, end in zip(begun, ends)}
    return {name: text for name, text in said.items() if _PASSED.fullmatch(text) and text.count(" ... ") == 1}


def attempt(wine: Wine, python: str, module: str) -> tuple[str, Outcome]:
    """A module's output and outcome. When Wine's server has aborted, what is left of the module is run."""
    names, done, in_a_row = [module], dict[str, str](), 0
    for _ in range(RUNS_MOST):
        output, code = wine.run(python, "-W", "error", "-m", "unittest", "-v", *names)
        outcome, how = judge(output, code), f"exit code {code}, and of Wine's server: {wine.said()}"
        if not outcome.bad or not (wine.has_aborted() or ABORT.search(output)):
            break
        wine.aborts += 1
        wine.stop()
        more = passed(output)
        done.update(more)
        names = [name for name in ids(module) if name not in done]
        if not names:  # it ended without a word of its own
            names, more, done = [module], {}, {}
        in_a_row = 0 if more else in_a_row + 1
        if in_a_row > AGAIN_MOST:
            break
        print(f"{module}: Wine's server aborted after {len(more)} tests; {len(names)} are left", flush=True)
    if not outcome.ran:
        output += f"\nno verdict; {how}\n"
    reasons = outcome.reasons + _SKIPPED.findall("".join(done.values()))
    return output, Outcome(outcome.ran + len(done), outcome.bad, reasons)


def ids(module: str) -> list[str]:
    """The tests of a module, as this side sees them."""
    return [test.id() for test in leaves(unittest.defaultTestLoader.loadTestsFromName(module))]


def suite(folder: Path, version: str, names: list[str]) -> bool:
    """Run these modules on that Python, two at a time; whether all is well."""
    began = time.monotonic()
    order = [name.rpartition(".")[0] for name in LONGEST]
    rank = {name: place for place, name in reversed([*enumerate(order)])}
    modules: queue.SimpleQueue[str] = queue.SimpleQueue()
    for name in sorted(names, key=lambda name: (rank.get(name, len(rank)), name)):
        modules.put(name)
    outcomes: dict[str, Outcome] = {}
    wines = [Wine(prefix) for prefix in sorted(folder.glob("prefix.*"))]

    def work(wine: Wine) -> None:
        while not modules.empty():
            try:
                module = modules.get_nowait()
            except queue.Empty:  # the other one was faster
                break
            since = time.monotonic()
            output, outcome = attempt(wine, str(folder / version / "python.exe"), module)
            took_s = time.monotonic() - since
            said = output if outcome.bad else ""
            head = f"{module}: {outcome.ran} run, {outcome.bad} failed, {len(outcome.reasons)} skipped, {took_s:.1f} s"
            print(f"{said}{head}", flush=True)
            outcomes[module] = outcome
        wine.stop()

    threads = [threading.Thread(target=work, args=(wine,), daemon=True) for wine in wines]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for module in [name for name, outcome in outcomes.items() if outcome.bad]:
        output, outcome = attempt(wines[0], str(folder / version / "python.exe"), module)
        print(f"{output if outcome.bad else ''}{module}: alone on the machine, {outcome.bad} failed", flush=True)
        outcomes[module] = outcome
        wines[0].stop()
    return verdict(version, names, outcomes, sum(wine.aborts for wine in wines), time.monotonic() - began)


def verdict(version: str, names: list[str], outcomes: dict[str, Outcome], aborts: int, took_s: float) -> bool:
    """Print the sum as unittest does; whether all is well."""
    reasons = Counter(reason for outcome in outcomes.values() for reason in outcome.reasons)
    gaps = sum(count for reason, count in reasons.items() if reason.startswith(GAP))
    bad = sum(outcome.bad for outcome in outcomes.values()) + len(set(names) - set(outcomes)) + (gaps > GAPS_MAX)
    print(f"\nPython {version} for Windows: Wine's server aborted {aborts} times; skipped, {gaps} for Wine's gaps:")
    for reason, count in reasons.most_common():
        print(f"  {count:3} {reason}")
    skipped = f"skipped={sum(reasons.values())}"
    print(f"\nRan {sum(outcome.ran for outcome in outcomes.values())} tests in {took_s:.3f}s\n")
    print(f"FAILED (failures={bad}, {skipped})" if bad else f"OK ({skipped})", flush=True)
    return not bad


def table(folder: Path, version: str, *words: str) -> bool:
    """Each command as a user gives it: what ``tests.walk`` says there, whether all is well."""
    wine = Wine(folder / "prefix.0")
    for is_last in (False, True):
        output, code = wine.run(str(folder / version / "python.exe"), "-m", "tests.walk", *words, limit_s=TABLE_LIMIT_S)
        print(output, flush=True)
        aborted = wine.has_aborted() or bool(ABORT.search(output))
        wine.stop()
        if is_last or not code or not aborted:
            break
        print("Wine's server aborted: once more")
    return code == 0


def engine(folder: Path, version: str) -> bool:
    """The commands that want a platform, on a real Conductor."""
    with tempfile.TemporaryDirectory() as data:
        port = servers.free_port()
        conductor = servers.conductor(Path(data), port, indexing=False)
        conductor.start()
        try:
            conductor.wait_ready()
            return table(folder, version, f"http://127.0.0.1:{port}/api")
        finally:
            conductor.stop()


def main(what: str, folder: str, *words: str) -> int:
    names = [word for word in words if word.startswith("tests.")]
    names = names or [f"tests.{path.stem}" for path in HERE.glob("test_*.py")]
    versions = [word for word in words if not word.startswith("tests.")] or VERSIONS
    run = {"suite": partial(suite, names=names), "table": table, "engine": engine}[what]
    verdicts = [run(Path(folder), version) for version in versions]  # each, though one fails
    return int(not all(verdicts))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

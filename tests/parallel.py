# SPDX-License-Identifier: Apache-2.0
"""All tests over a few processes, one class at a time: what ``python -m unittest`` does when nothing is named.

The parent loads the tests and repeats to unittest's own result, test by test, what its children say, so that
every option means what it always means. In one process run: what is named, by ``-k`` too, and everything with
``USERAGENT_TEST_JOBS=1``.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
import unittest
import warnings
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.case import _SubTest
from unittest.suite import _ErrorHolder

HERE = Path(__file__).resolve().parent
LONGEST = (
    "tests.test_over.OverTest",
    "tests.test_faults.StopTest",
    "tests.test_runner.DrainTest",
    "tests.test_slots.RefusedTest",
    "tests.test_parallel.ParallelTest",
    "tests.test_faults.KillTest",
    "tests.test_rooms.RoomsTest",
    "tests.test_journal.RowsTest",
    "tests.test_runner.RunTest",
    "tests.test_fuzz.FuzzTest",
    "tests.test_faults.WireFaultsTest",
    "tests.test_import_path.PlantedTest",
    "tests.test_slots.CopiesTest",
    "tests.test_slots.RetriesTest",
    "tests.test_cli_dev.DevTest",
    "tests.test_lease.LeaseKeeperTest",
    "tests.test_history_views.LargeTest",
    "tests.test_cli_run.RunTest",
    "tests.test_vendoring.CopiedPackageTest",
    "tests.test_readme.ExamplesTest",
    "tests.test_readme.CommandsTest",
    "tests.test_history_recorder.TroubleTest",
    "tests.test_log_lines.JsonTest",
    "tests.guests.test_guests.AloneTest",
    "tests.guests.test_guests.TogetherTest",
    "tests.guests.test_processes.ProcessesTest",
    "tests.test_cli_init.InitTest",
    "tests.test_audit.WatchedRunTest",
    "tests.test_claims.WatchedTest",
    "tests.test_doors.HabitsTest",
    "tests.test_cli_sandbox.SandboxProcess",
)  # they begin first, lest one be left alone at the end
TOGETHER = f"{__package__}.real."  # these share servers: all in one process, in their order
PATIENCE_S = 10.0  # for tests that still run after Ctrl+C
LEAVE_S = 60.0  # for what tests leave behind: a server of theirs is stopped at the exit


def load(loader: unittest.TestLoader, pattern: str | None) -> unittest.TestSuite:
    found = loader.discover(str(HERE), pattern or "test*.py", str(HERE.parent))
    wanted = os.environ.get("USERAGENT_TEST_JOBS")
    jobs = int(wanted) if wanted else min(12, 6 * (os.cpu_count() or 1))  # most of a test's time is waiting
    return found if jobs < 2 or loader.testNamePatterns else Suite(found, jobs)


def leaves(suite: Any) -> Iterator[unittest.TestCase]:
    for test in suite:
        if isinstance(test, unittest.TestSuite):
            yield from leaves(test)
        else:
            yield test


def unit_of(test: unittest.TestCase) -> str:
    """Its class, or its module when that is set up; empty for what stands for a file that can't be loaded."""
    module, name = type(test).__module__, type(test).__qualname__
    if not module.startswith(f"{__package__}."):
        return ""
    if module.startswith(TOGETHER):
        return TOGETHER
    return module if hasattr(sys.modules[module], "setUpModule") else f"{module}.{name}"


class SubTest(_SubTest):
    """A subtest of a child, as it was described there."""

    def __init__(self, test: unittest.TestCase, described: str) -> None:
        super().__init__(test, described, {})

    def _subDescription(self) -> str:  # noqa: N802
        return str(self._message)


class Suite(unittest.TestSuite):
    """Runs the tests of ``found`` in so many processes. What was never run, though nothing stopped it, is an error."""

    def __init__(self, found: unittest.TestSuite, jobs: int) -> None:
        super().__init__(leaves(found))
        self._jobs = jobs

    def run(self, result: unittest.TestResult, debug: bool = False) -> unittest.TestResult:
        tests, units = dict(enumerate(self)), {}
        for number, test in tests.items():
            units.setdefault(unit_of(test), []).append(number)
        if debug or len(units) < 2:
            return super().run(result, debug)
        unittest.TestSuite(tests.pop(number) for number in units.pop("", [])).run(result)
        places = {name: place for place, name in enumerate(LONGEST)}
        order = sorted(units, key=lambda name: (places.get(name, len(places)), -len(units[name])))
        with tempfile.TemporaryDirectory() as folder:
            crew = Crew(tests, [units[name] for name in order], result, folder)
            crew.work(min(self._jobs, len(units)))
        return result


class Crew:
    """The children, with a thread for each; what they say is repeated on the thread that calls ``work``."""

    def __init__(self, tests: dict[int, Any], units: list[list[int]], result: Any, folder: str) -> None:
        self._tests = tests
        self._units = deque(units)
        self._result = result
        self._waiting = set(tests)  # nothing was said of these yet
        self._stopping = False
        self._said: queue.SimpleQueue[list[list[Any]] | None] = queue.SimpleQueue()  # None: a thread has ended
        self._children: list[subprocess.Popen[bytes]] = []
        self._given = result.buffer, getattr(result, "tb_locals", False)
        self._flags: list[str] = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]
        self._environ = dict(os.environ)
        if sys.dont_write_bytecode:  # a hundred processes are started: each would compile all that it imports
            self._flags = [flag for flag in self._flags if flag != "-B"]
            self._environ.pop("PYTHONDONTWRITEBYTECODE", None)
            self._environ.setdefault("PYTHONPYCACHEPREFIX", folder)

    def work(self, jobs: int) -> None:
        threads = [threading.Thread(target=self._attend, daemon=True) for _ in range(jobs)]
        for thread in threads:
            thread.start()
        self._result.buffer = False  # that is done in the children
        try:
            while jobs:
                with contextlib.suppress(queue.Empty):  # Windows interrupts no wait that has no end
                    said = self._said.get(timeout=1.0)
                    jobs -= said is None
                    for line in said or ():
                        self._repeat(*line)
                self._stopping = self._stopping or self._result.shouldStop
            for number in [] if self._stopping else sorted(self._waiting):
                self._repeat("addError", number, None, "It was not run, and nothing says why")
        finally:
            self._stopping = True
            self._result.buffer = self._given[0]
            for child in self._children:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    child.wait(PATIENCE_S)  # it got a Ctrl+C too
                child.kill()
            for thread in threads:
                thread.join(PATIENCE_S)
            for child in self._children:
                with contextlib.suppress(OSError), child:
                    pass  # close its pipes

    def _repeat(self, call: str, number: int | str, described: str | None, *rest: Any) -> None:
        """Do ``call`` of the result. ``number``: of a test, or a name when it is of none, as of a setUpClass."""
        result = self._result
        if isinstance(number, str):
            test: Any = _ErrorHolder(number)
            owner = number.rpartition("(")[2].rstrip(")") + "."
            self._waiting -= {one for one in self._waiting if self._tests[one].id().startswith(owner)}
        else:
            test = self._tests[number]
            self._waiting.discard(number)
        part = SubTest(test, described) if described is not None else test
        if call == "addSubTest":
            is_failure, text = rest
            result.addSubTest(test, part, self._told(text, test.failureException if is_failure else Exception))
        elif call in ("addError", "addFailure", "addExpectedFailure"):
            getattr(result, call)(part, self._told(*rest))
        else:
            getattr(result, call)(part, *rest)

    @staticmethod
    def _told(text: str, base: type[BaseException] = Exception) -> Any:
        """An exc_info that is printed as a child's text."""
        kind = type("In a process of its own", (base,), {"__module__": "builtins"})
        return kind, kind("\n" + text), None

    def _attend(self) -> None:
        child: subprocess.Popen[bytes] | None = None
        try:
            while self._units and not self._stopping:
                try:
                    unit = self._units.popleft()
                except IndexError:  # another thread was faster
                    break
                child = child or self._start()
                left = self._hand(child, unit)
                if left is not None:
                    child = None
                    self._units.extendleft([left] if left else [])
            if child is not None:
                assert child.stdin is not None
                child.stdin.close()
                code = child.wait(LEAVE_S)
                if code and not self._stopping:
                    raise RuntimeError(f"a process ended with {code} after its tests")
        except Exception as error:  # TimeoutExpired: a test has left something that runs for ever
            self._said.put([["addError", "a process of the tests", None, f"{error!r:.500}"]])
        finally:
            self._said.put(None)

    def _start(self) -> subprocess.Popen[bytes]:
        code = f"import sys; sys.path[:] = {sys.path!r}; sys.argv[:] = {sys.argv!r}\n"
        code += f"from {__name__} import serve; serve{self._given}"
        command = [sys.executable, *self._flags, "-c", code]
        child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=self._environ)
        self._children.append(child)
        return child

    def _hand(self, child: subprocess.Popen[bytes], unit: list[int]) -> list[int] | None:
        """Let ``child`` run these; when it dies meanwhile, those that are left."""
        assert child.stdin is not None and child.stdout is not None
        kinds = [(number, type(self._tests[number]), self._tests[number]._testMethodName) for number in unit]
        order = [(number, kind.__module__, kind.__qualname__, method) for number, kind, method in kinds]
        left, said = dict.fromkeys(unit), []
        with contextlib.suppress(OSError):  # it died, and that is seen below
            child.stdin.write(json.dumps(order).encode() + b"\n")
            child.stdin.flush()
        for line in child.stdout:
            said.append(json.loads(line))
            call, number, *_ = said[-1]
            if call == "done":
                self._said.put(said[:-1])
                return None
            if call == "stopTest" or isinstance(number, str):
                self._said.put(said)
                said = []
            if call == "stopTest":
                del left[number]
                with contextlib.suppress(OSError):
                    if self._stopping:
                        child.stdin.close()
                    else:
                        child.stdin.write(b"\n")
                        child.stdin.flush()
        code = child.wait()
        if self._stopping:
            return []
        error = [None, f"The process ended with {code} before this test had ended"]
        if left:
            said = said or [["startTest", next(iter(left)), None]]
            last = said[0][1]
            del left[last]
            self._said.put([*said, ["addError", last, *error], ["stopTest", last, None]])
        else:
            self._said.put([["addError", "the end of a class", *error]])
        return list(left)


# -- in a child ------------------------------------------------------------------------------------------


class Reporter(unittest.TestResult):
    """Says each call as a line, and goes on after a test when it is told to."""

    def __init__(self, numbers: dict[int, int], orders: Any, lines: Any) -> None:
        super().__init__()
        self._numbers = numbers  # by id()
        self._orders = orders
        self._lines = lines

    def say(self, call: str, test: Any, *rest: Any) -> None:
        owner = getattr(test, "test_case", test)
        number = self._numbers.get(id(owner), str(owner))
        described = test._subDescription() if owner is not test else None
        self._lines.write(json.dumps([call, number, described, *rest]).encode() + b"\n")
        self._lines.flush()
        self._mirrorOutput = False  # what was printed is in the text

    def startTest(self, test: Any) -> None:  # noqa: N802
        super().startTest(test)
        self.say("startTest", test)

    def stopTest(self, test: Any) -> None:  # noqa: N802
        super().stopTest(test)
        self.say("stopTest", test)
        if not self._orders.readline():
            self.stop()

    def addSuccess(self, test: Any) -> None:  # noqa: N802
        self.say("addSuccess", test)

    def addError(self, test: Any, err: Any) -> None:  # noqa: N802
        super().addError(test, err)
        self.say("addError", test, self.errors[-1][1])

    def addFailure(self, test: Any, err: Any) -> None:  # noqa: N802
        super().addFailure(test, err)
        self.say("addFailure", test, self.failures[-1][1])

    def addSubTest(self, test: Any, subtest: Any, err: Any) -> None:  # noqa: N802
        super().addSubTest(test, subtest, err)
        if err is not None:
            is_failure = issubclass(err[0], test.failureException)
            self.say("addSubTest", subtest, is_failure, (self.failures if is_failure else self.errors)[-1][1])

    def addSkip(self, test: Any, reason: str) -> None:  # noqa: N802
        self.say("addSkip", test, reason)

    def addExpectedFailure(self, test: Any, err: Any) -> None:  # noqa: N802
        super().addExpectedFailure(test, err)
        self.say("addExpectedFailure", test, self.expectedFailures[-1][1])

    def addUnexpectedSuccess(self, test: Any) -> None:  # noqa: N802
        self.say("addUnexpectedSuccess", test)

    def addDuration(self, test: Any, elapsed: float) -> None:  # noqa: N802
        self.say("addDuration", test, elapsed)


def serve(buffer: bool, tb_locals: bool) -> None:
    """Run what stdin orders and say so on stdout; to the tests, these are the null device and stderr."""
    orders_fd, lines_fd = os.dup(0), os.dup(1)
    with open(os.devnull) as nothing:
        os.dup2(nothing.fileno(), 0)
    os.dup2(2, 1)
    sys.modules["__main__"].__file__ = __file__  # there is a script, as there always is
    if not sys.warnoptions:
        warnings.simplefilter("default")  # as unittest does
    interrupted = contextlib.suppress(KeyboardInterrupt)  # the parent tells of it
    with interrupted, os.fdopen(orders_fd, "rb") as orders, os.fdopen(lines_fd, "wb") as lines:
        for order in orders:
            tests, numbers = [], {}
            for number, module, kind, method in json.loads(order):
                tests.append(functools.reduce(getattr, kind.split("."), importlib.import_module(module))(method))
                numbers[id(tests[-1])] = number
            result = Reporter(numbers, orders, lines)
            result.buffer, result.tb_locals = buffer, tb_locals
            unittest.TestSuite(tests).run(result)
            result.say("done", None)
        return
    sys.exit(130)

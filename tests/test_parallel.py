# SPDX-License-Identifier: Apache-2.0
"""What several processes run is reported as if it were one, and nothing is left out without a word."""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import signal
import subprocess
import sys
import unittest
from unittest import mock

from tests import parallel, parallelcases


def run(*classes: type[unittest.TestCase], processes: int = 2, **options: bool) -> unittest.TextTestResult:
    """The result of these in so many processes; ``options`` are attributes of the result."""
    loader = unittest.defaultTestLoader
    suite = unittest.TestSuite(loader.loadTestsFromTestCase(kind) for kind in classes)
    result = unittest.TextTestResult(unittest.runner._WritelnDecorator(io.StringIO()), True, 2)
    vars(result).update(options)
    (parallel.Suite(suite, processes) if processes > 1 else suite).run(result)
    return result


def told(result: unittest.TestResult) -> dict[str, list[str]]:
    """Each test or part by its list in the result, and the last line of what is printed of it."""
    lists = ("failures", "errors", "skipped", "expectedFailures")
    found = {kind: sorted(f"{one}: {text.strip().splitlines()[-1]}" for one, text in getattr(result, kind))
             for kind in lists}  # fmt: skip
    return {**found, "unexpected": [str(one) for one in result.unexpectedSuccesses]}


class ParallelTest(unittest.TestCase):
    def test_every_end_of_a_test_is_reported_as_in_one_process(self) -> None:
        kinds = (parallelcases.Ends, parallelcases.IsNotSetUp, parallelcases.IsLeftOut, parallelcases.IsNotTornDown)
        with contextlib.redirect_stdout(io.StringIO()):
            alone = run(*kinds, processes=1, buffer=True)
        several = run(*kinds, buffer=True)
        self.assertEqual(told(several), told(alone))
        self.assertEqual(several.testsRun, alone.testsRun)
        counts = [len(each) for each in told(several).values()]
        self.assertEqual(counts, [2, 4, 3, 1, 1])
        [text] = [text for test, text in several.failures if "test_2" in str(test)]
        self.assertIn("parallelcases.py", text)
        self.assertIn('self.assertEqual("a\\ud800", "é")', text)
        self.assertIn("Stdout:\nsaid by one that fails", text)
        printed = several.stream.getvalue()
        self.assertRegex(printed, r"(?m)^test_4_is_skipped .*\.\.\. skipped 'for a reason'$")
        self.assertNotIn("said by one that passes", printed)
        if sys.version_info >= (3, 12):
            self.assertEqual(len(several.collectedDurations), len(alone.collectedDurations))

    def test_a_process_that_dies_fails_the_test_that_it_ran_and_the_others_are_run(self) -> None:
        result = run(parallelcases.Dies, parallelcases.IsLeftOut)
        self.assertEqual(result.testsRun, 3)
        [(test, text)] = result.errors
        self.assertEqual(test.id(), "tests.parallelcases.Dies.test_2_dies")
        self.assertIn("The process ended with 3 before this test had ended", text)

    def test_a_process_that_dies_when_its_tests_have_passed_is_an_error_too(self) -> None:
        result = run(parallelcases.DiesAtTheEnd, parallelcases.IsLeftOut)
        [(_, text)] = result.errors
        self.assertIn("The process ended with 4", text)

    def test_a_test_that_nobody_ran_is_an_error(self) -> None:
        result = run(parallelcases.HidesATest, parallelcases.IsLeftOut)
        [(test, text)] = result.errors
        self.assertEqual(test.id(), "tests.parallelcases.HidesATest.test_hidden")
        self.assertIn("It was not run, and nothing says why", text)

    def test_failfast_stops_the_others_after_the_test_that_they_run(self) -> None:
        result = run(*[parallelcases.Ends] * 40, parallelcases.Dies, failfast=True, buffer=True)
        self.assertLess(result.testsRun, 100)  # of 283
        self.assertTrue(result.failures or result.errors)
        self.assertNotIn("It was not run", str(result.errors))

    def test_a_process_is_as_the_first_one(self) -> None:
        with mock.patch.object(sys, "warnoptions", ["error::FutureWarning"]):
            result = run(parallelcases.Process, parallelcases.IsLeftOut)
        expected = (["error::FutureWarning"], sys.flags.dev_mode, sys.path[0], os.getcwd(), "")
        self.assertIn(repr(expected), result.failures[0][1])

    def test_what_is_named_runs_here_and_so_does_everything_when_told(self) -> None:
        class Loader(unittest.TestLoader):
            def discover(self, *_: object) -> unittest.TestSuite:
                return unittest.TestSuite()

        everything, named = Loader(), Loader()
        named.testNamePatterns = ["*runner*"]
        with mock.patch.dict(os.environ):
            os.environ.pop("USERAGENT_TEST_JOBS", None)
            self.assertIs(type(parallel.load(everything, None)), parallel.Suite)
            self.assertIs(type(parallel.load(named, None)), unittest.TestSuite)
            os.environ["USERAGENT_TEST_JOBS"] = "1"
            self.assertIs(type(parallel.load(everything, None)), unittest.TestSuite)

    def test_what_takes_longest_is_there(self) -> None:
        for name in parallel.LONGEST:
            module, _, kind = name.rpartition(".")
            self.assertTrue(issubclass(getattr(importlib.import_module(module), kind), unittest.TestCase), name)

    def test_tests_that_share_servers_stay_together_in_their_order(self) -> None:
        from tests.real import test_chaos, test_stack

        load = unittest.defaultTestLoader.loadTestsFromModule
        suite = unittest.TestSuite(load(module) for module in (test_chaos, test_stack))
        self.assertEqual({parallel.unit_of(test) for test in parallel.leaves(suite)}, {"tests.real."})

    @unittest.skipUnless(os.name == "posix", "signals of POSIX")
    def test_ctrl_c_ends_them_all(self) -> None:
        code = "from tests import parallelcases as cases, test_parallel; test_parallel.run(cases.Waits, cases.WaitsToo)"
        process = subprocess.Popen(
            [sys.executable, "-c", code], cwd=parallel.HERE.parent, stderr=subprocess.PIPE, start_new_session=True
        )
        self.addCleanup(process.kill)
        with process.stderr:
            self.assertEqual([process.stderr.readline() for _ in range(2)], [b"waiting\n"] * 2)
            os.killpg(process.pid, signal.SIGINT)
            said = process.stderr.read()  # until the last of them has ended
        self.assertEqual(process.wait(10), -signal.SIGINT)
        # of the process that began the others; in two parts when Ctrl+C came while it handled that nothing was said
        self.assertEqual(said.count(b"Traceback") - said.count(b"During handling of the above"), 1, said)
        self.assertTrue(said.endswith(b"KeyboardInterrupt\n"), said)


if __name__ == "__main__":
    unittest.main()

# SPDX-License-Identifier: Apache-2.0
"""What test_parallel.py runs: every way in which a test can end. No file of tests, by its name."""

from __future__ import annotations

import os
import sys
import threading
import unittest


class Ends(unittest.TestCase):
    def test_1_passes(self) -> None:
        print("said by one that passes")

    def test_2_fails(self) -> None:
        print("said by one that fails")
        self.assertEqual("a\ud800", "é")

    def test_3_breaks(self) -> None:
        raise KeyError("a bug")

    @unittest.skip("for a reason")
    def test_4_is_skipped(self) -> None:
        pass

    @unittest.expectedFailure
    def test_5_fails_as_expected(self) -> None:
        raise AssertionError("as expected")

    @unittest.expectedFailure
    def test_6_passes_unexpectedly(self) -> None:
        pass

    def test_7_has_parts(self) -> None:
        for part in range(4):
            with self.subTest("part", number=part):
                if part == 3:
                    self.skipTest("no third")
                if part == 2:
                    raise KeyError(part)
                self.assertNotEqual(part, 1)


class Dies(unittest.TestCase):
    def test_1_before(self) -> None:
        pass

    def test_2_dies(self) -> None:
        os._exit(3)

    def test_3_after(self) -> None:
        pass


class IsNotSetUp(unittest.TestCase):
    @classmethod
    def setUpClass(cls) -> None:
        raise RuntimeError("not set up")

    def test_never(self) -> None:
        pass


class IsLeftOut(unittest.TestCase):
    @classmethod
    def setUpClass(cls) -> None:
        raise unittest.SkipTest("left out")

    def test_never(self) -> None:
        pass


class IsNotTornDown(unittest.TestCase):
    @classmethod
    def tearDownClass(cls) -> None:
        raise RuntimeError("not torn down")

    def test_passes(self) -> None:
        pass


class DiesAtTheEnd(unittest.TestCase):
    @classmethod
    def tearDownClass(cls) -> None:
        os._exit(4)

    def test_passes(self) -> None:
        pass


class HidesATest(unittest.TestCase):
    def run(self, result: unittest.TestResult | None = None) -> None:
        """Neither run nor reported."""

    def test_hidden(self) -> None:
        pass


class Process(unittest.TestCase):
    def test_what_it_was_given(self) -> None:
        given = sys.warnoptions, sys.flags.dev_mode, sys.path[0], os.getcwd(), sys.stdin.read()
        raise AssertionError(given)


class Waits(unittest.TestCase):
    def test_for_ever(self) -> None:
        os.write(1, b"waiting\n")  # in one piece
        threading.Event().wait(60)


class WaitsToo(Waits):
    pass

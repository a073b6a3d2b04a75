# SPDX-License-Identifier: Apache-2.0
"""Windows: what a run of the tests there is judged by, on every system; and there, commands as processes."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import textwrap
import threading
import time
import unittest
from pathlib import Path
from unittest import mock

from tests import windows
from tests.cli import ROOT, SUM, CliTest
from tests.support import unless_wine_lacks

SKIPPED = "test_a (tests.x) ... skipped 'Wine lacks a thing'\n"
INTERRUPTED = """
    import os, signal, threading
    from user_agent_sdk import user_agent
    def heed():
        while number := os.read(0, 2):
            signal.raise_signal(int(number))
    threading.Thread(target=heed, daemon=True).start()
    @user_agent()
    def waits(seconds=0):
        threading.Event().wait(seconds)
        return seconds
    """


class JudgeTest(unittest.TestCase):
    def test_only_an_end_with_ok_and_0_is_no_failure(self) -> None:
        for output, code, ran, bad in (
            ("Ran 3 tests in 1.0s\n\nOK\n", 0, 3, 0),
            ("Ran 3 tests in 1.0s\n\nOK\n", 1, 3, 1),
            ("Ran 3 tests in 1.0s\n\nOK\n", None, 3, 1),  # over its time, though it had said so
            ("Ran 3 tests in 1.0s\n\nFAILED (failures=1, errors=2)\n", 1, 3, 3),
            ("Ran 3 tests in 1.0s\n\nFAILED (unexpected successes=1)\n", 1, 3, 1),
            ("test_a (tests.x) ... ", None, 0, 1),
            ("NO TESTS RAN\n", 0, 0, 1),
            ("Exception ignored in: <socket>\nRan 3 tests in 1.0s\n\nOK\n", 0, 3, 1),
        ):
            outcome = windows.judge(output, code)
            self.assertEqual((outcome.ran, outcome.bad), (ran, bad), output)

    def test_each_skip_has_its_reason(self) -> None:
        outcome = windows.judge(SKIPPED + "Ran 2 tests in 1.0s\n\nOK (skipped=2)\n", 0)
        self.assertEqual(outcome.reasons, ["Wine lacks a thing", "no reason was found"])

    def test_what_passed_before_wine_broke_off_is_not_run_again(self) -> None:
        """Modules of forty tests met the server's end four times in a row, each time somewhere else."""
        output = (
            "test_a (tests.x.CaseTest)\nTold as a story. ... ok\n"
            "test_b (tests.x.CaseTest.test_b) ... ok\n"
            "test_c (tests.x.CaseTest.test_c) ... skipped 'Wine lacks a thing'\n"
            "test_d (tests.x.CaseTest.test_d) ... FAIL\n"
            "test_e (tests.x.CaseTest.test_e) ... a line of its own\nok\n"
            "test_g (tests.x.CaseTest) ... "  # 3.9 says nothing of a subtest that failed, and ends no line
            "test_h (tests.x.CaseTest) ... ok\n"
            "test_i (tests.x.CaseTest.test_i) ... \n  test_i (tests.x.CaseTest.test_i) (n=1) ... skipped 'why'\nok\n"
            "test_j (tests.x.CaseTest.test_j) ... FAIL\nsetUpClass (tests.x.CaseTest) ... skipped 'a reason'\n"
            "test_f (tests.x.CaseTest.test_f) ... "
        )
        self.assertEqual([*windows.passed(output)], [f"tests.x.CaseTest.test_{letter}" for letter in "abc"])

    def test_a_run_that_wine_broke_off_is_gone_on_with_and_counts_each_test_once(self) -> None:
        names = windows.ids(__name__)
        head, rest = names[:3], names[3:]
        begun = "".join(f"{name.rpartition('.')[2]} ({name}) ... ok\n" for name in head)
        wine = mock.Mock(spec=windows.Wine, aborts=0)
        wine.run.side_effect = [(begun, None), ("", None), (f"Ran {len(rest)} tests in 1s\n\nOK\n", 0)]
        with mock.patch("sys.stdout", io.StringIO()):
            _, outcome = windows.attempt(wine, "python.exe", __name__)
        self.assertEqual(outcome, windows.Outcome(len(names), 0, []))
        self.assertEqual([call.args[6:] for call in wine.run.call_args_list], [(__name__,), (*rest,), (*rest,)])

    def test_a_test_that_wine_breaks_off_each_time_is_a_failure(self) -> None:
        wine = mock.Mock(spec=windows.Wine, aborts=0)
        wine.run.return_value = ("", None)
        with mock.patch("sys.stdout", io.StringIO()):
            _, outcome = windows.attempt(wine, "python.exe", __name__)
        self.assertEqual((outcome.bad, wine.run.call_count), (1, 1 + windows.AGAIN_MOST))

    def test_a_module_that_was_not_run_and_too_many_gaps_are_failures(self) -> None:
        fine, gaps = windows.Outcome(1, 0, []), windows.Outcome(20, 0, [windows.GAP + "it"] * (windows.GAPS_MAX + 1))
        for names, outcome, expected in (("a", fine, True), ("ab", fine, False), ("a", gaps, False)):
            with mock.patch("sys.stdout", io.StringIO()) as said:
                self.assertEqual(windows.verdict("3.0", [*names], {"a": outcome}, 0, 1.0), expected)
            self.assertEqual("\nOK (" in said.getvalue(), expected)

    def test_the_words_of_wines_own_end_are_known_and_no_failure_has_them(self) -> None:
        self.assertTrue(windows.ABORT.search("wineserver: server/sock.c:1040: sock_poll: Assertion `x' failed."))
        self.assertFalse(windows.ABORT.search("AssertionError: 1 != 2\nFAILED (failures=1)"))


@unittest.skipUnless(sys.platform == "win32", "test_faults and test_cli do so elsewhere")
class ProcessTest(CliTest):
    def start(self, *words: str) -> subprocess.Popen[str]:
        """A worker on a sandbox of its own, which raises the signals whose numbers it reads."""
        command = [sys.executable, "-m", "user_agent_sdk", *words]
        environ = {**os.environ, "PYTHONPATH": str(ROOT)}
        process = subprocess.Popen(command, env=environ, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.addCleanup(process.communicate)
        self.addCleanup(process.kill)
        assert process.stderr is not None
        while "agent waits" not in (said := process.stderr.readline()):
            self.assertTrue(said)
        threading.Thread(target=process.stderr.read, daemon=True).start()
        return process

    def test_ctrl_c_and_ctrl_break_end_it_within_a_second_when_nothing_runs(self) -> None:
        self.write("agent.py", INTERRUPTED)
        for number in (2, 21):
            process = self.start("dev", "agent.py", "--sandbox", "-w", "4")
            assert process.stdin is not None
            began = time.monotonic()
            process.stdin.write(f"{number:02}")
            process.stdin.flush()
            self.assertEqual(process.wait(30), 0)
            self.assertLess(time.monotonic() - began, 3.0)  # of which the interpreter's end is a part

    def assert_it_runs(self, path: str) -> None:
        ended = self.run_process("-m", "user_agent_sdk", "invoke", path, "-r")
        self.assertEqual((ended.code, ended.out), (0, '{"result": 0}\n'), ended.err)

    def test_a_path_may_have_spaces_and_letters_of_all_kinds_or_be_of_a_drives_own_folder(self) -> None:
        Path("Bot kế toán").mkdir()
        self.write("Bot kế toán/agent.py", SUM)
        self.assert_it_runs("Bot kế toán\\agent.py")
        self.assert_it_runs(f"{str(self.folder)[:2]}Bot kế toán\\agent.py")

    @unless_wine_lacks("the final name of a long path")
    def test_a_path_may_be_longer_than_260_characters(self) -> None:
        deep = "\\\\?\\" + str(self.folder.joinpath(*["d" * 50] * 5))
        Path(deep).mkdir(parents=True)
        Path(deep, "agent.py").write_text(textwrap.dedent(SUM), "utf-8")
        self.assert_it_runs(f"{deep}\\agent.py")

    def test_what_another_program_has_open_is_said_and_left(self) -> None:
        self.write("agent.py", SUM)
        self.assertEqual(self.run_process("-m", "user_agent_sdk", "invoke", "agent.py", "-r").code, 0)
        Path("report.html").write_text("old", "utf-8")
        with open("report.html"), open("execution_history.db", "rb"):
            ended = self.run_process("-m", "user_agent_sdk", "history", "--html", "report.html")
            self.assertEqual((ended.code, "report.html can't be written" in ended.err), (1, True), ended.err)
            pruned = self.run_process("-m", "user_agent_sdk", "history-prune", "--older-than", "0s")
            self.assertEqual((pruned.code, pruned.out), (0, "1\n"), pruned.err)
        self.assertEqual(Path("report.html").read_text("utf-8"), "old")


if __name__ == "__main__":
    unittest.main()

# SPDX-License-Identifier: Apache-2.0
"""``useragent invoke``: one task on an embedded platform, the answer on stdout, the rest on stderr."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
import unittest
from unittest import mock

from tests.cli import ROOT, SUM, CliTest
from user_agent_sdk.cli import invoke, options
from user_agent_sdk.sandbox import server

TWO = """
    from user_agent_sdk import user_agent
    @user_agent(agent_id="sum agent id")
    def plus(a, b): return a + b
    @user_agent(agent_id="minus agent id", domain="far")
    def minus(a, b): return a - b
    """
COUNTING = """
    from user_agent_sdk import NonRetryableException, current_task, user_agent
    @user_agent
    def flaky(logger, kind="plain", until=9):
        logger.info("attempt %d", current_task().attempt)
        if kind == "final":
            raise NonRetryableException("no such customer")
        if current_task().attempt < until:
            raise ValueError("not yet")
        return "at last"
    """


class InvokeTest(CliTest):
    def test_the_result_is_one_line_of_json_and_the_logs_are_on_stderr(self) -> None:
        self.write("sum_agent.py", SUM)
        ended = self.run_main("invoke", "sum_agent.py", "-i", '{"num1": 2, "num2": 3}')
        self.assertEqual((ended.code, ended.out), (0, '{"result": 5}\n'), ended.err)
        [line] = ended.err.splitlines()
        self.assertIn("Processing task input", line)

    def test_what_the_agent_prints_is_not_the_answer(self) -> None:
        self.write(
            "prints.py",
            "print('loading')\n" + "from user_agent_sdk import user_agent\n@user_agent\ndef f(): print('hi')\n",
        )
        ended = self.run_main("invoke", "prints.py")
        self.assertEqual((ended.code, ended.out), (0, '{"result": null}\n'))
        self.assertIn("loading\n", ended.err)
        self.assertIn("hi\n", ended.err)

    def test_the_answer_reaches_its_stream_whatever_the_script_does_to_the_streams_of_sys(self) -> None:
        """The usual idiom for UTF-8 on Windows closed stdout with its wrapper: no answer, exit 120; and a script that
        changed the folder had its history in another place."""
        self.write(
            "hostile.py",
            """
            import io, os, sys
            sys.stdout = io.TextIOWrapper(sys.stdout.buffer, encoding="utf-8")
            sys.stderr = io.TextIOWrapper(sys.stderr.detach(), encoding="utf-8")
            os.mkdir("elsewhere")
            os.chdir("elsewhere")
            from user_agent_sdk import user_agent
            @user_agent
            def work(logger):
                logger.info("to the log")
                sys.stdout = sys.stdout.detach()
                return 5
            """,
        )
        ended = self.run_process("-m", "user_agent_sdk", "invoke", "hostile.py", "-r")
        self.assertEqual((ended.code, ended.out), (0, '{"result": 5}\n'))
        self.assertIn("to the log", ended.err)
        self.assertTrue((self.folder / "execution_history.db").is_file())
        self.assertEqual(list((self.folder / "elsewhere").iterdir()), [])

    def test_streams_that_cannot_be_flushed_are_no_error_at_the_end(self) -> None:
        """An object with write() alone, nothing at all, or a file on a full disk in place of stderr: after the answer
        came a traceback of ours, and exit 1 or 120."""
        tee = "    class Tee:\n        def write(self, text): return len(text)\n    import sys\n    sys.stderr = "
        full = ["open('/dev/full', 'w'); sys.stderr.write('x')"] if os.path.exists("/dev/full") else []
        for stream in ("Tee()", "None", *full):
            with self.subTest(stream):
                self.write("agent.py", f"{tee}{stream}{SUM}")
                ended = self.run_process("-m", "user_agent_sdk", "invoke", "agent.py")
                self.assertEqual((ended.code, ended.out), (0, '{"result": 0}\n'), ended.err)
                self.assertNotIn("Traceback", ended.err)
                self.assertNotIn("ignored", ended.err)

    def test_no_account_is_needed_and_none_is_used(self) -> None:
        self.write("sum_agent.py", SUM)
        self.write("credentials.json", "{broken")
        elsewhere = {"CONDUCTOR_SERVER_URL": "http://127.0.0.1:9/api", "USERAGENT_PROXY": "http://127.0.0.1:9",
                     "USERAGENT_SERVICE_URL": "https://service.invalid/api", "USERAGENT_DOMAIN": "d"}  # fmt: skip
        with mock.patch.dict(os.environ, elsewhere):
            self.assertEqual(self.run_main("invoke", "sum_agent.py").out, '{"result": 0}\n')

    def test_a_plain_exception_is_tried_three_times(self) -> None:
        self.write("flaky.py", COUNTING)
        ended = self.run_main("invoke", "flaky.py")
        self.assertEqual((ended.code, ended.out), (1, ""))
        for attempt in (1, 2, 3):
            self.assertIn(f"attempt {attempt}", ended.err)
        self.assertIn("useragent: error[task-failed]: flaky failed after 3 attempts: ", ended.err)
        self.assertIn("not yet", ended.err.splitlines()[-1])
        self.assertEqual(self.run_main("invoke", "flaky.py", "-i", '{"until": 3}').out, '{"result": "at last"}\n')

    def test_a_workers_variables_about_its_port_and_its_end_are_not_for_one_task(self) -> None:
        """In a container whose worker has USERAGENT_STATUS_PORT, invoke ended with 3 ("this copy was made without
        watching/"), and with USERAGENT_MAX_TASKS=1 a failed task was not tried again."""
        self.write("flaky.py", COUNTING)
        for name in ("USERAGENT_STATUS_PORT", "USERAGENT_MAX_TASKS"):
            with self.subTest(name), mock.patch.dict(os.environ, {name: "1"}):
                ended = self.run_main("invoke", "flaky.py", "-q", "-i", '{"until": 3}')
                self.assertEqual((ended.code, ended.out), (0, '{"result": "at last"}\n'), ended.err)

    def test_a_final_failure_is_not_tried_again(self) -> None:
        self.write("flaky.py", COUNTING)
        ended = self.run_main("invoke", "flaky.py", "-i", '{"kind": "final"}')
        self.assertEqual(ended.code, 1)
        self.assertIn("flaky failed after 1 attempt: ", ended.err)
        self.assertIn("no such customer", ended.err)

    def test_json_tells_the_whole_story(self) -> None:
        self.write("flaky.py", COUNTING)
        ended = self.run_main("invoke", "flaky.py", "--json", "-i", '{"until": 2}')
        told = json.loads(ended.out)
        self.assertEqual(list(told), ["status", "output", "logs", "reason", "attempts", "duration"])
        self.assertEqual((told["status"], told["output"], told["attempts"]), ("COMPLETED", {"result": "at last"}, 2))
        self.assertIn("attempt 1", told["logs"])
        self.assertIn("attempt 2", told["logs"])
        ended = self.run_main("invoke", "flaky.py", "--json", "-i", '{"kind": "final"}')
        self.assertEqual((ended.code, json.loads(ended.out)["status"]), (1, "FAILED"))
        self.assertEqual(self.error_of(ended)["code"], "task-failed")

    def test_the_input_comes_from_json_a_file_or_stdin(self) -> None:
        self.write("sum_agent.py", SUM)
        (self.folder / "input.json").write_bytes(b'\xef\xbb\xbf{"num1": 7}')
        self.assertEqual(self.run_main("invoke", "sum_agent.py", "-i", "input.json").out, '{"result": 7}\n')
        self.assertEqual(
            self.run_main("invoke", "sum_agent.py", "--input=-", stdin=b'{"num2": 8}').out, '{"result": 8}\n'
        )
        self.assertEqual(
            self.run_main("invoke", "sum_agent.py", "-i", "-", stdin=b'{"num2": 8}').out, '{"result": 8}\n'
        )

    def test_an_input_that_cannot_be_used_says_why(self) -> None:
        self.write("sum_agent.py", SUM)
        self.write("input.json", '{"num1":\n 1,}')
        for given, said in (
            ("absent.json", "No such file"), ("inptu.json", "did you mean input.json?"),
            ("[1]", "a JSON object"), ("{num1: 2}", options.about_quotes()),
            ('{"a": NaN}', "NaN"),
            ("input.json", "line 2 column"), ("[" * 99999, "not JSON"),
        ):  # fmt: skip
            ended = self.run_main("invoke", "sum_agent.py", "-i", given)
            self.assertEqual((ended.code, ended.out), (2, ""), given[:20])
            self.assertIn(said, ended.err)
        self.assertEqual(self.run_main("invoke", "sum_agent.py", "-t", "0").code, 2)
        unreadable = self.run_main("invoke", "sum_agent.py", "-i", ".", "--json")
        self.assertEqual((self.error_of(unreadable)["code"], unreadable.code), ("io", 1))

    def test_one_of_several_agents_is_chosen_by_id_or_name(self) -> None:
        self.write("two.py", TWO)
        given = ("-i", '{"a": 5, "b": 3}')
        self.assertEqual(self.run_main("invoke", "two.py", "-a", "minus agent id", *given).out, '{"result": 2}\n')
        self.assertEqual(self.run_main("invoke", "two.py", "-a", "plus", *given).out, '{"result": 8}\n')
        for words in ((), ("-a", "times")):
            ended = self.run_main("invoke", "two.py", *words, *given)
            self.assertEqual((ended.code, ended.out), (2, ""))
            self.assertIn("plus (sum agent id), minus (minus agent id)", ended.err)

    def test_a_function_that_never_ends_is_left_at_the_timeout(self) -> None:
        self.write(
            "stuck.py",
            "import threading\nfrom user_agent_sdk import user_agent\n@user_agent\ndef f(): threading.Event().wait()\n",
        )
        ended = self.run_process("-m", "user_agent_sdk", "invoke", "stuck.py", "-t", "0.2", "--json")
        self.assertEqual((ended.code, json.loads(ended.out)["status"]), (1, "RUNNING"))
        self.assertIn("had not ended after 0.2 s", self.error_of(ended)["message"])

    def test_a_function_past_its_own_timeout_failed_for_that_reason(self) -> None:
        """Nobody was left to take the next try: "had not ended after 60 s", with the hint to wait longer, after one."""
        text = "import threading\nfrom user_agent_sdk import user_agent\n@user_agent(timeout_s=0.1)\n"
        self.write("stuck.py", text + "def f(): threading.Event().wait()\n")
        ended = self.run_process("-m", "user_agent_sdk", "invoke", "stuck.py", "--json")
        told, reason = json.loads(ended.out), "the function ran longer than its timeout of 0.1 s"
        self.assertEqual((told["status"], told["reason"], told["attempts"]), ("FAILED", reason, 1))
        error = self.error_of(ended)
        self.assertEqual((error["message"], error["hint"]), (f"f failed after 1 attempt: {reason}", None))

    def test_no_poll_is_waited_for_at_the_end(self) -> None:
        """Each call took a tenth of a second more: the worker asks for the next task beside a report."""
        self.write("sum_agent.py", SUM)
        began = time.monotonic()
        with mock.patch.object(server, "PLAIN_POLL_S", 50.0), mock.patch.object(invoke, "STOP_S", 50.0):
            self.assertEqual(self.run_main("invoke", "sum_agent.py").out, '{"result": 0}\n')
        self.assertLess(time.monotonic() - began, 25)

    def test_nothing_is_left_behind(self) -> None:
        self.write("sum_agent.py", SUM)
        temporary = self.folder / "tmp"
        temporary.mkdir()
        with mock.patch.object(tempfile, "tempdir", str(temporary)):
            self.run_main("invoke", "sum_agent.py")
        self.assertEqual(list(temporary.iterdir()), [])
        self.assertEqual({path.name for path in self.folder.iterdir()} - {"__pycache__"}, {"sum_agent.py", "tmp"})

    def test_the_lines_of_a_worker_stay_out_of_sight_wherever_the_copy_is(self) -> None:
        """In a package ``tool.cli`` the copy took the loggers of ``tool`` for its own."""
        copy = self.folder / "tool" / "cli" / "kit"
        shutil.copytree(ROOT / "user_agent_sdk", copy, ignore=shutil.ignore_patterns("__pycache__"))
        self.write("agent.py", SUM)
        ended = self.run_process("-m", "tool.cli.kit", "invoke", "agent.py", PYTHONPATH=str(self.folder))
        self.assertEqual((ended.code, ended.out.strip()), (0, '{"result": 0}'), ended.err)
        self.assertEqual([line for line in ended.err.splitlines() if "Processing" not in line], [])


if __name__ == "__main__":
    unittest.main()

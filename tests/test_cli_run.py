# SPDX-License-Identifier: Apache-2.0
"""``useragent run``, and ``user_agent_sdk.run()``: against the embedded platform, over the wire."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import signal
import subprocess
import threading
import unittest
from typing import Any
from unittest import mock

import user_agent_sdk
from tests.cli import PYTHON, ROOT, SUM, CliTest, Ended
from tests.support import Arrivals, entered
from tests.test_cli_journal import entry
from tests.workerbox import PASS, Box
from user_agent_sdk.sandbox.server import Sandbox
from user_agent_sdk.worker.keeping.journal import Journal
from user_agent_sdk.worker.keeping.journal_file import RESULT

AGENT_ID = "0000#user-agent"
PATIENT = """
    import threading
    from user_agent_sdk import current_task, user_agent
    @user_agent()
    def patient(logger):
        print("running", flush=True)
        current_task().stopping.wait(30)
        return "finished"
    """
OWN_END = """
    if __name__ == "__main__":
        import user_agent_sdk
        user_agent_sdk.run()
        print("after")
    """


class RunTest(CliTest):
    def setUp(self) -> None:
        super().setUp()
        self.sandbox = entered(self, Sandbox())
        self.write("sum_agent.py", SUM)

    def give_credentials(self, **changed: str) -> None:
        self.write("credentials.json", json.dumps({**self.sandbox.credentials(AGENT_ID), **changed})).chmod(0o600)

    def run_one(self, *words: str) -> Ended:
        """Run until one task is done. In this process the drain has no limit, so no timer outlives the test."""
        return self.run_main("run", *words, "--max-tasks", "1", "--drain-timeout", "0", "--poll-interval", "10")

    def test_results_of_another_target_in_its_journal_are_said_once(self) -> None:
        """A changed address or client stranded them, and only ``check`` said so."""
        journal = Journal(self.folder / ".useragent" / "journal" / "0123456789ab")
        journal.open()
        journal.write(entry("theirs", RESULT))
        journal.write(entry("refused"))
        self.give_credentials()
        for is_running, said in ((True, 0), (False, 1)):
            self.sandbox.submit(AGENT_ID, {"num1": 2, "num2": 3})
            ended = self.run_one("sum_agent.py")
            told = ended.err.count("1 result or started tasks of another")
            self.assertEqual((ended.code, told), (0, said), ended.err)
            if is_running:
                journal.close()

    def test_a_task_is_run_with_what_the_credentials_say(self) -> None:
        self.give_credentials()
        execution = self.sandbox.submit(AGENT_ID, {"num1": 2, "num2": 3})
        ended = self.run_one("sum_agent.py")
        self.assertEqual((ended.code, ended.out), (0, ""), ended.err)
        self.assertEqual(self.sandbox.wait(execution, 0).output, {"result": 5})
        banner = ended.err.splitlines()[0]
        self.assertIn(f"akabot at {self.sandbox.url}", banner)
        self.assertIn(f"serviceUrl in {self.folder / 'credentials.json'}", banner)
        self.assertNotIn(self.sandbox.credentials("")["clientSecret"], ended.err)
        self.assertTrue((self.folder / ".useragent" / "journal").is_dir())

    def test_it_says_that_the_platform_answers_and_whose_tasks_it_waits_for(self) -> None:
        """It never did: a wrong agent id was 40 s of silence, as was an idle queue."""
        self.give_credentials()
        poll = self.sandbox.engine.poll
        ready = threading.Event()

        def once_ready(record: logging.LogRecord) -> bool:
            if record.__dict__.get("action") == "ready":
                ready.set()
            return True

        def answered(*args: Any, **options: Any) -> Any:
            if ready.is_set():
                self.sandbox.submit(AGENT_ID, {})
            return poll(*args, **options)

        log = logging.getLogger("user_agent_sdk.worker.runner")
        log.addFilter(once_ready)
        self.addCleanup(log.removeFilter, once_ready)
        with mock.patch.object(self.sandbox.engine, "poll", answered):
            ended = self.run_one("sum_agent.py")
        self.assertIn(f"INFO    Ready: waiting for tasks of {AGENT_ID}; Ctrl+C ends it\n", ended.err)

    def test_a_plain_conductor_needs_no_credentials(self) -> None:
        execution = self.sandbox.submit("from-flag", {"num1": 1})
        ended = self.run_one(
            "-p", "sum_agent.py", "--conductor", self.sandbox.url, "-a", "from-flag", "--no-journal", "-w2"
        )
        self.assertEqual(ended.code, 0, ended.err)
        self.assertEqual(self.sandbox.wait(execution, 0).output, {"result": 1})
        self.assertIn(f"conductor at {self.sandbox.url} (from --conductor)", ended.err)
        self.assertIn("2 workers", ended.err)
        self.assertFalse((self.folder / ".useragent").exists())

    def test_the_domain_and_the_worker_id_reach_the_platform(self) -> None:
        self.give_credentials()
        execution = self.sandbox.submit(AGENT_ID, {}, domain="north")
        ended = self.run_one("sum_agent.py", "--domain", "north", "--worker-id", "robot-7")
        self.assertEqual(ended.code, 0, ended.err)
        self.assertEqual(self.sandbox.wait(execution, 0).attempts[0].worker_id, "robot-7")

    def test_logs_may_be_json_lines(self) -> None:
        self.give_credentials()
        self.sandbox.submit(AGENT_ID, {})
        ended = self.run_one("sum_agent.py", "--log-format", "json")
        lines = [json.loads(line) for line in ended.err.splitlines()]
        self.assertEqual([lines[0]["action"], lines[1]["action"]], ["start", "start_agent"])
        self.assertEqual(lines[1]["agent_id"], AGENT_ID)

    def test_a_json_line_about_a_task_says_which_and_how_long_and_its_trace(self) -> None:
        self.give_credentials()
        trace_id = "0af7651916cd43dd8448eb211c80319c"
        execution = self.sandbox.submit(AGENT_ID, {"traceparent": f"00-{trace_id}-b7ad6b7169203331-01"})
        ended = self.run_one("sum_agent.py", "--log-format", "json")
        lines = [json.loads(line) for line in ended.err.splitlines()]
        [own] = [line for line in lines if line["msg"] == "Processing task input"]
        [done] = [line for line in lines if line.get("action") == "task_ended"]
        self.assertEqual(done["msg"], "sum_agent: completed")
        for line in (own, done):
            self.assertEqual((line["agent_id"], line["workflow_id"]), (AGENT_ID, execution))
            self.assertEqual((line["attempt"], line["trace_id"]), (1, trace_id))
        self.assertEqual(own["task_id"], done["task_id"])
        self.assertGreaterEqual(done["duration_ms"], 0)

    def test_an_idle_worker_is_quiet(self) -> None:
        self.give_credentials()
        runs: list[Ended] = []
        thread = threading.Thread(target=lambda: runs.append(self.run_one("sum_agent.py", "-d")), daemon=True)
        polls = Arrivals()
        handle = self.sandbox.handle
        with mock.patch.object(self.sandbox, "handle", lambda request: (polls.arrived(), handle(request))[1]):
            thread.start()
            polls.wait(10)
        self.sandbox.submit(AGENT_ID, {})
        thread.join(20)
        self.assertLessEqual(len(runs[0].err.splitlines()), 12, runs[0].err)

    def test_quiet_says_nothing_when_nothing_is_wrong(self) -> None:
        self.give_credentials()
        self.sandbox.submit(AGENT_ID, {})
        self.assertEqual(self.run_one("sum_agent.py", "-q"), (0, "", ""))

    def test_what_is_wrong_ends_it_before_anything_is_polled(self) -> None:
        self.write("none.py", "x = 1\n")
        self.write("twice.py", SUM + SUM.replace("sum_agent", "again"))
        self.write("yields.py", SUM.replace("return", "yield"))
        self.assertEqual(self.run_main("run", "sum_agent.py").code, 3)  # no credentials
        self.give_credentials()
        for words, code, error in (
            (("none.py",), 6, "no-agent"), (("twice.py",), 6, "no-agent"), (("yields.py",), 6, "agent-signature"),
            (("absent.py",), 6, "agent-missing"), (("sum_agent.py", "-w", "x"), 2, "usage"),
        ):  # fmt: skip
            ended = self.run_main("run", *words)
            self.assertEqual((ended.code, ended.out), (code, ""), ended.err)
            self.assertIn(f"useragent: error[{error}]: ", ended.err)
        self.give_credentials(agentId="")
        ended = self.run_main("run", "sum_agent.py")
        self.assertEqual(ended.code, 6)
        self.assertIn("sum_agent", ended.err)
        self.assertIn("has no id", ended.err)
        self.assertEqual(self.sandbox.engine.agents(), [])

    def test_refused_credentials_are_exit_4(self) -> None:
        """0.2.0 went on without Authorization, for ever."""
        self.give_credentials(clientSecret="wrong-secret")
        ended = self.run_main("run", "sum_agent.py", "--drain-timeout", "0")
        self.assertEqual((ended.code, ended.out), (4, ""))
        self.assertIn("useragent: error[auth-refused]: ", ended.err)
        self.assertNotIn("wrong-secret", ended.err)

    def test_a_script_may_run_itself(self) -> None:
        self.give_credentials()
        script = self.write("own.py", SUM + OWN_END)
        execution = self.sandbox.submit(AGENT_ID, {"num1": 4})
        ended = self.run_process(str(script), "--max-tasks", "1")
        self.assertEqual((ended.code, ended.out.splitlines()), (0, ["after"]), ended.err)
        self.assertEqual(self.sandbox.wait(execution, 0).output, {"result": 4})

    @unittest.skipUnless(os.name == "posix", "signals of POSIX")
    def test_a_script_goes_on_after_a_stop_though_a_poll_is_kept(self) -> None:
        """A drain shorter than a long poll ended the process with 0, at its last word: "Stopped". What a script did
        after its run(), and at its exit, was left out."""
        script, box, polled = self.write("own.py", SUM + OWN_END), entered(self, Box()), threading.Semaphore(0)
        box.faults.append(lambda kind, *_: polled.release() or PASS if kind == "poll" else PASS)
        words = [*PYTHON, str(script), "--conductor", box.url, "-a", "own", "--drain-timeout", "0.2"]
        worker = subprocess.Popen(
            [*words, "--no-journal"], env={**os.environ, "PYTHONPATH": str(ROOT)}, cwd=self.folder,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.addCleanup(worker.kill)
        for _ in range(2):  # the first poll of a worker is none that the platform keeps
            self.assertTrue(polled.acquire(timeout=30))
        worker.send_signal(signal.SIGTERM)
        out, err = worker.communicate(timeout=30)
        self.assertEqual((worker.returncode, out), (0, "after\n"), err)
        self.assertIn("Stopped", err)

    def test_a_script_that_runs_itself_ends_with_the_commands_exit_code(self) -> None:
        with contextlib.redirect_stderr(io.StringIO()) as err, self.assertRaises(SystemExit) as ended:
            user_agent_sdk.run(["--workers", "none"])
        self.assertEqual(ended.exception.code, 2)
        self.assertIn("--workers must be", err.getvalue())

    @unittest.skipUnless(os.name == "posix", "signals of POSIX")
    def test_sigterm_lets_the_running_task_finish(self) -> None:
        """0.2.0 died at once, and the task with it."""
        self.give_credentials()
        self.write("patient.py", PATIENT)
        execution = self.sandbox.submit(AGENT_ID, {})
        worker = subprocess.Popen(
            [*PYTHON, "-m", "user_agent_sdk", "run", "patient.py"],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self.addCleanup(worker.kill)
        assert worker.stdout is not None
        self.assertEqual(worker.stdout.readline(), b"running\n")
        worker.send_signal(signal.SIGTERM)
        _, err = worker.communicate(timeout=30)
        self.assertEqual(worker.returncode, 0, err.decode())
        self.assertEqual(self.sandbox.wait(execution, 0).output, {"result": "finished"})


if __name__ == "__main__":
    unittest.main()

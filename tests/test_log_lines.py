# SPDX-License-Identifier: Apache-2.0
"""Where the log goes, seen from outside: with ``--log-format json`` every line on stderr is JSON, to the last one of
each ending, and a ``--log-file`` has all that is said, wherever it was moved meanwhile."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
import unittest
from pathlib import Path
from typing import Any
from unittest import mock

from tests.cli import PYTHON, ROOT, SUM, CliTest, Ended
from tests.support import entered
from user_agent_sdk import logs
from user_agent_sdk._version import __version__, digest
from user_agent_sdk.sandbox.server import Sandbox

AGENT_ID = "0000#user-agent"
SAYS_MUCH = """
    import gc, logging, threading, warnings
    from user_agent_sdk import user_agent

    class Refuses:
        def __del__(self):
            raise RuntimeError("will not go")

    def die():
        raise KeyError("a thread of the function's")

    warnings.warn("at the top")
    logging.getLogger("scripts.own").warning("before the worker's log was ready")

    @user_agent()
    def says_much(logger):
        warnings.warn("in a task", DeprecationWarning)
        warnings.warn("in a task too")
        Refuses()
        gc.collect()
        thread = threading.Thread(target=die, name="doomed")
        thread.start()
        thread.join()
        logging.getLogger("scripts.own").error("after\\nit")
        raise ValueError("and fails")
    """
RAISES = "x = {}\nx['absent']\n"
PATIENT = """
    import threading
    from user_agent_sdk import current_task, user_agent
    @user_agent()
    def patient():
        print("running", flush=True)
        current_task().stopping.wait(30)
    """


class LogLinesTest(CliTest):
    def setUp(self) -> None:
        super().setUp()
        self.sandbox = entered(self, Sandbox())
        self.write("agent.py", SUM)
        self.give_credentials()

    def give_credentials(self, **changed: str) -> None:
        self.write("credentials.json", json.dumps({**self.sandbox.credentials(AGENT_ID), **changed})).chmod(0o600)

    def start(self, *words: str, **environ: str) -> Ended:
        return self.run_process("-m", "user_agent_sdk", *words, **environ)

    def popen(self, *words: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [*PYTHON, "-m", "user_agent_sdk", *words], env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8",
        )  # fmt: skip
        self.addCleanup(process.kill)
        return process

    def lines(self, text: str) -> list[dict[str, Any]]:
        """Every line of ``text``, each of which has what the README promises."""
        found = [json.loads(line) for line in text.splitlines()]
        for line in found:
            self.assertEqual(list(line)[:5], ["ts", "level", "logger", "pid", "msg"])
            self.assertLessEqual({*line}, {"ts", "level", "logger", "pid", "msg", "exc", *logs.FIELDS})
        return found

    def last_of(self, ended: Ended, code: str) -> dict[str, Any]:
        """The last line of a command that failed; all of them were parsed."""
        last = self.lines(ended.err)[-1]
        told = (last["level"], last["action"], last["code"], last["exit"])
        self.assertEqual(told, ("ERROR", "failed", code, ended.code))
        return last


class JsonTest(LogLinesTest):
    def test_a_refused_secret_ends_in_json_with_code_exit_and_hint(self) -> None:
        """An operator's jq met the one line that mattered, in plain text, and ended there."""
        self.give_credentials(clientSecret="not-the-secret")
        for more in ((), ("-d",)):
            ended = self.run_main("run", "agent.py", "--log-format", "json", *more)
            last = self.last_of(ended, "auth-refused")
            self.assertTrue(last["hint"])
            self.assertEqual("exc" in last, bool(more))
            self.assertNotIn("not-the-secret", ended.err)

    def test_a_script_that_raises_at_import_has_its_traceback_in_a_field(self) -> None:
        self.write("raises.py", RAISES)
        last = self.last_of(self.run_main("run", "raises.py", "--log-format=json"), "agent-load")
        self.assertIn("raises.py", last["msg"])
        self.assertIn("KeyError: 'absent'", last["exc"])

    def test_what_is_wrong_before_the_settings_are_known_is_json_too(self) -> None:
        self.last_of(self.start("run", "agent.py", "--log-format", "json", "--wrokers", "3"), "usage")
        self.last_of(self.start("run", "agent.py", "-w", "x", USERAGENT_LOG_FORMAT="JSON"), "usage")
        self.last_of(self.start("run", "agent.py", "--log_format=json", "--quiet", "-w"), "usage")
        Path("credentials.json").unlink()
        self.last_of(self.start("run", "agent.py", "--log-format", "json"), "config-missing")
        self.assertIn("error[usage]", self.start("run", "agent.py", "-w", "x", "--log-format", "text").err)

    def test_places_that_cannot_be_written_are_said_in_json(self) -> None:
        self.write("a-file", "")
        self.sandbox.submit(AGENT_ID, {})
        words = ("--journal", "a-file/journal", "-r", "-db", "a-file/history.db", "--max-tasks", "1")
        ended = self.run_main("run", "agent.py", *words, "--log-format", "json")
        self.assertLessEqual({"journal", "history_failed"}, {line.get("action") for line in self.lines(ended.err)})

    def test_warnings_and_what_dies_in_a_thread_or_a_destructor_are_json(self) -> None:
        self.write("says_much.py", SAYS_MUCH)
        self.sandbox.submit(AGENT_ID, {}, retries=0)
        ended = self.start("run", "says_much.py", "--max-tasks", "1", "--log-format", "json")
        self.assertEqual(ended.code, 0)
        found = self.lines(ended.err)
        self.assertEqual([line["action"] for line in found if line["level"] == "CRITICAL"], ["uncaught"] * 2)
        self.assertEqual({line["msg"] for line in found if line["logger"] == "scripts.own"},
                         {"before the worker's log was ready", "after\nit"})  # fmt: skip
        text = ended.err
        for words in ("at the top", "in a task too", "will not go", "a thread of the function's", "and fails"):
            self.assertIn(words, text)
        self.assertEqual(found[-1]["action"], "stopped")

    def test_a_script_that_runs_itself_and_then_fails_fails_in_json(self) -> None:
        self.sandbox.submit(AGENT_ID, {})
        script = self.write("own.py", SUM + """
    if __name__ == "__main__":
        import user_agent_sdk
        user_agent_sdk.run()
        {}["after the worker"]
    """)  # fmt: skip
        ended = self.run_process(str(script), "--max-tasks", "1", "--log-format", "json")
        last = self.lines(ended.err)[-1]
        self.assertEqual((ended.code, last["action"]), (1, "uncaught"))
        self.assertIn("KeyError: 'after the worker'", last["exc"])

    @unittest.skipUnless(os.name == "posix", "signals of POSIX")
    def test_a_sigterm_in_mid_task_drains_in_json(self) -> None:
        self.write("patient.py", PATIENT)
        self.sandbox.submit(AGENT_ID, {})
        for words in (("run", "patient.py"), ("dev", "patient.py")):
            worker = self.popen(*words, "--log-format", "json")
            assert worker.stdout is not None
            self.assertEqual(worker.stdout.readline(), "running\n")
            self.sandbox.submit(AGENT_ID, {})
            worker.send_signal(signal.SIGTERM)
            err = worker.communicate(timeout=30)[1]
            self.assertEqual((worker.returncode, self.lines(err)[-1]["action"]), (0, "stopped"), err)

    def test_with_json_the_document_of_the_error_follows_its_line(self) -> None:
        ended = self.run_main("invoke", "agent.py", "--log-format", "json", "--json", "--replay", "7")
        *before, document = ended.err.splitlines()
        self.assertEqual(list(json.loads(document)), ["error"])
        self.last_of(ended._replace(err="\n".join(before)), "db-missing")

    @unittest.skipUnless(os.name == "posix", "signals of POSIX")
    def test_a_sandboxs_banner_is_json_where_the_log_is(self) -> None:
        sandbox = self.popen("sandbox", "agent.py", "--port", "0", "--log-format", "json")
        assert sandbox.stderr is not None
        [banner] = self.lines(sandbox.stderr.readline())
        self.assertRegex(banner["msg"], "^sandbox at http://")
        found = [banner]
        while found[-1].get("action") != "ready":  # from here on it heeds a signal
            found += self.lines(sandbox.stderr.readline())
        sandbox.send_signal(signal.SIGTERM)
        self.assertEqual(self.lines(sandbox.communicate(timeout=30)[1])[-1]["action"], "stopped")


class LogFileTest(LogLinesTest):
    def run_in(self, path: str, *words: str) -> Ended:
        return self.run_main("run", "agent.py", "--max-tasks", "1", "--log-file", path, *words)

    def test_the_log_goes_there_and_not_to_stderr(self) -> None:
        self.sandbox.submit(AGENT_ID, {})
        self.assertEqual(self.run_in("worker.log"), (0, "", ""))
        text = Path("worker.log").read_text("utf-8")
        said = re.escape(f"{__version__} ({digest()}) for akabot at ")
        self.assertRegex(text, r"^\d{4}-\d\d-\d\dT\S+ INFO    user-agent-sdk " + said)
        self.assertIn("Processing task input", text)
        self.sandbox.submit(AGENT_ID, {})
        self.assertEqual(self.run_in("worker.log", "--log-format", "json"), (0, "", ""))
        self.assertTrue(self.lines(Path("worker.log").read_text("utf-8")[len(text) :]))
        if os.name == "posix":
            self.assertEqual(Path("worker.log").stat().st_mode & 0o777, 0o600)

    def test_a_file_that_is_moved_or_removed_is_made_anew_for_the_next_line(self) -> None:
        """A log file that was renamed was written for ever, and the new one stayed empty."""
        path = self.folder / "worker.log"
        handler = logs.FileHandler(path, as_json=False)
        record = logs.logging.makeLogRecord
        for name in ("first", "second"):
            handler.handle(record({"msg": name, "levelname": "INFO"}))
            path.rename(self.folder / name)
        handler.handle(record({"msg": "third", "levelname": "INFO"}))
        path.unlink()
        handler.handle(record({"msg": "fourth", "levelname": "INFO"}))
        for name, said in (("first", "first"), ("second", "second"), ("worker.log", "fourth")):
            self.assertEqual((self.folder / name).read_text("utf-8").split()[-1:], [said])
        self.assertNotIn("third", "".join(each.read_text("utf-8") for each in self.folder.glob("*d")))

    @unittest.skipIf(sys.platform == "win32", "a file's size is limited on POSIX")
    def test_that_it_can_not_be_written_is_said_once_on_stderr(self) -> None:
        """On a full disk lines were lost, and nobody was told."""
        import resource

        path, (soft, hard) = self.folder / "worker.log", resource.getrlimit(resource.RLIMIT_FSIZE)
        handler = logs.FileHandler(path, as_json=False)

        def log(text: str) -> None:
            handler.handle(logs.logging.makeLogRecord({"msg": text, "levelname": "INFO"}))

        with mock.patch("sys.__stderr__", io.StringIO()) as said:
            for _ in range(2):  # after a line that was written, it is said again
                log("written")
                resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size, hard))
                try:
                    log("lost")
                    log("lost")
                finally:
                    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        self.assertEqual([line.partition(",")[0] for line in said.getvalue().splitlines()],
                         ["The log file can't be written"] * 2)  # fmt: skip
        self.assertEqual([line.split()[-1] for line in path.read_text("utf-8").splitlines()], ["written"] * 2)

    def test_the_error_that_ends_it_is_in_the_file_too(self) -> None:
        """Nobody sees the stderr of a worker that the Task Scheduler starts."""
        Path("credentials.json").unlink()
        ended = self.run_in("worker.log")
        self.assertIn("error[config-missing]", ended.err)
        self.assertRegex(
            Path("worker.log").read_text("utf-8"), r"ERROR   no credentials.json .* \[code=config-missing exit=3 "
        )
        ended = self.run_in("worker.json", "--log-format", "json")
        self.last_of(ended._replace(err=Path("worker.json").read_text("utf-8")), "config-missing")
        self.assertEqual(list(json.loads(ended.err)), ["error"])

    def test_a_file_that_cannot_be_written_or_is_somebody_elses_is_refused(self) -> None:
        self.write("a-file", "")
        ended = self.run_in("a-file/worker.log")
        self.assertEqual((ended.code, "error[config-invalid]: the log file can't be written" in ended.err), (3, True))
        if os.name == "posix":
            Path("worker.log").symlink_to("elsewhere")
            self.assertEqual(self.run_in("worker.log").code, 3)
            self.assertFalse(Path("elsewhere").exists())


if __name__ == "__main__":
    unittest.main()

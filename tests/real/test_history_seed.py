# SPDX-License-Identifier: Apache-2.0
"""The published 0.2.0 and this SDK on each other's history files.

``USERAGENT_SEED_PYTHON`` names a Python (3.12 or newer) in whose environment user-agent-sdk 0.2.0 is installed.
"""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import unittest
from datetime import datetime, timedelta
from pathlib import Path

from tests.cli import SUM, CliTest
from user_agent_sdk.sandbox.server import Sandbox

SEED = os.environ.get("USERAGENT_SEED_PYTHON", "")
AGENT_ID = "sum#user-agent"
STRANGER = 4711  # a user's number
PLATFORM_KEYS = {"__task_id__": "platform-1", "__deployed_workflow_id__": "deployed-1"}


@unittest.skipUnless(SEED, "USERAGENT_SEED_PYTHON does not name a Python with user-agent-sdk 0.2.0")
class RoundTripTest(CliTest):
    def seed(self, *words: str) -> list[str]:
        code = "import sys; from user_agent_sdk.cli import app; sys.exit(app())"
        return [SEED, "-c", code, *words]

    def seed_says(self, *words: str) -> str:
        environ = {**os.environ, "COLUMNS": "250", "NO_COLOR": "1", "PYTHONUTF8": "1"}
        environ.pop("PYTHONPATH", None)
        result = subprocess.run(self.seed(*words), env=environ, capture_output=True, timeout=60, check=True)
        return result.stdout.decode("utf-8")

    def run_seed_worker(self, *inputs: dict[str, object]) -> None:
        """0.2.0 itself runs those tasks with -r; its history is in the current folder."""
        agent = self.write("agent.py", SUM)
        with Sandbox() as sandbox:
            self.write("credentials.json", json.dumps(sandbox.credentials(AGENT_ID)))
            environ = {**os.environ, "PYTHONUTF8": "1"}
            environ.pop("PYTHONPATH", None)
            process = subprocess.Popen(
                self.seed("run", str(agent), "-r"), env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            try:
                for given in inputs:
                    execution = sandbox.submit(AGENT_ID, {**PLATFORM_KEYS, **given}, retries=0)
                    self.assertNotEqual(sandbox.wait(execution, 60).status, "RUNNING")
            finally:
                process.kill()
                process.wait()

    def test_our_file_in_0_2_0(self) -> None:
        self.write("agent.py", SUM)
        given = json.dumps({"num1": 2, "num2": 3, **PLATFORM_KEYS})
        self.run_main("invoke", "agent.py", "-r", "-a", AGENT_ID, "-i", given)
        self.run_main("invoke", "agent.py", "-r", "-a", AGENT_ID, "-i", '{"num1": "two", "num2": 3}')
        shown = self.seed_says("history")
        self.assertIn("Showing 4 record(s)", shown)  # one, and three attempts
        for text in ("platform-1", "deployed-1", AGENT_ID, "success", "error"):
            self.assertIn(text, shown)
        self.assertIn("Showing 1 record(s)", self.seed_says("history", "-a", "deployed-1"))
        detail = self.seed_says("hd", "1")
        for text in ("platform-1", '"num1": 2', '"result": 5', "success"):
            self.assertIn(text, detail)
        self.assertIn("TypeError", self.seed_says("hd", "2"))
        self.seed_says("history", "-e", "theirs.csv")
        self.run_main("history", "-e", "ours.csv")
        theirs, ours = (Path(name).read_text("utf-8").splitlines()[0] for name in ("theirs.csv", "ours.csv"))
        self.assertTrue(ours.startswith(theirs))

    def test_what_moving_here_tells_of_files_and_exit_codes(self) -> None:
        """``seed_says`` raises for another exit code than 0."""
        self.write("agent.py", SUM)
        self.run_main("invoke", "agent.py", "-r", "-a", AGENT_ID, "-i", '{"num1": 2, "num2": 3}')
        for words in (("hd", "999"), ("history", "-e", "no/such/folder.csv"), ("history", "-db", "none.db")):
            self.seed_says(*words)
            Path("none.db").unlink(missing_ok=True)
            self.assertEqual(self.run_main(*words).code, 1, words)
        self.seed_says("history", "-a", "NOPE", "-e", "nothing.csv")
        self.assertFalse(Path("nothing.csv").exists())
        self.run_main("history", "-a", "NOPE", "-e", "nothing.csv")
        self.assertEqual(len(Path("nothing.csv").read_text("utf-8").splitlines()), 1)
        Path("execution_history.db").chmod(0o666)  # others may write it
        self.assertIn("Showing 1 record(s)", self.seed_says("history"))
        self.assertIn("can be written by others", self.run_main("history").err)
        self.assertEqual(self.run_main("history", "-db", "execution_history.db").code, 0)
        self.assertIn("can be written by others", self.run_main("invoke", "agent.py", "-r").err)

    @unittest.skipUnless(hasattr(os, "chown") and os.geteuid() == 0, "only root can give a file to another user")
    def test_what_moving_here_tells_of_credentials_of_another_user(self) -> None:
        os.chown(self.write("credentials.json", ""), STRANGER, STRANGER)
        self.run_seed_worker({"num1": 2, "num2": 3})  # which completes the task
        ended = self.run_main("run", "agent.py")
        self.assertEqual(ended.code, 3)
        self.assertIn(f"belongs to user {STRANGER}", ended.err)

    def test_its_file_here_and_then_by_both(self) -> None:
        self.run_seed_worker({"num1": 2, "num2": 3}, {"num1": "two", "num2": 3})
        shown = self.run_main("history", "--json")
        failed, worked = json.loads(shown.out)
        self.assertEqual((worked["task_id"], worked["agent_id"], worked["user_agent_id"], worked["status"]),
                         ("platform-1", "deployed-1", AGENT_ID, "success"))  # fmt: skip
        self.assertEqual((worked["input_data"], worked["output_data"]), ({"num1": 2, "num2": 3}, {"result": 5}))
        self.assertGreaterEqual(worked["extra"]["duration_ms"], 0)
        self.assertEqual(failed["status"], "error")
        self.assertIn('"num1": "two"', self.run_main("hd", "last").out)
        self.assertEqual(self.run_main("history", "--html", "report.html").code, 0)
        self.assertEqual(json.loads(self.run_main("invoke", "agent.py", "--replay", "1", "-r").out), {"result": 5})
        self.assertIn("Showing 3 record(s)", self.seed_says("history"))
        self.assertIn('"result": 5', self.seed_says("hd", "3"))
        db = sqlite3.connect("execution_history.db")
        self.addCleanup(db.close)
        self.assertEqual(len(db.execute("SELECT * FROM execution_history").fetchone()), 10)
        self.run_seed_worker({"num1": 3, "num2": 4})  # into the file that we have written to
        self.assertEqual([row["id"] for row in json.loads(self.run_main("history", "--json").out)], [4, 3, 2, 1])
        self.assertIn('"result": 7', self.run_main("hd", "4").out)
        for started, ended in db.execute("SELECT started_at, ended_at FROM execution_history"):
            lasted = datetime.fromisoformat(ended) - datetime.fromisoformat(started)
            self.assertLess(abs(datetime.now() - datetime.fromisoformat(started)) + lasted, timedelta(hours=1))


if __name__ == "__main__":
    unittest.main()

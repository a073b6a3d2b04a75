# SPDX-License-Identifier: Apache-2.0
"""Where newcomers once stumbled, walked again on a terminal of 80 and of 140 columns: each stumble is gone.

What was on the screens is kept as text in the folder ``USERAGENT_PICTURES``, where that is set, for those who look.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import tempfile
import time
import unittest
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from . import WANTED
from . import test_first_hour as hour
from .servers import free_port

SDK = "python -m user_agent_sdk "
SLOW = ('    num1 = ', '    __import__("time").sleep(input_data.get("s", 0))\n    num1 = ')  # fmt: skip
AGENT = "from user_agent_sdk import user_agent\n@user_agent()\ndef a({given}):\n    {does}\n"
ADVICE = {  # what a file has, and what a person is told
    "path.json": (b'{"path": "C:\\Uploads\\an"}', 2, 'hint: in JSON a backslash is written twice, "C:\\\\bills"'),
    "latin.json": (b'{"name": "M\xfcller"}', 2, "hint: save the file as UTF-8"),
    "nan.py": (AGENT.format(given="", does="return float('nan')"), 1, "nan is not a JSON number; return None"),
    "leaves.py": (AGENT.format(given="", does="__import__('sys').exit(0)"), 1, "return a value, or raise an exception"),
    "inside.py": (f"from .helper import x\n{AGENT.format(given='', does='pass')}", 6, "write `import helper`"),
    "needs.py": (AGENT.format(given="path", does="return path"), 1, "no 'path', which a needs"),
}


@unittest.skipUnless(WANTED and os.name == "posix", "a terminal is opened only with USERAGENT_REAL=1, on POSIX")
class StumblesTest(unittest.TestCase):
    def test_each_stumble_is_gone_at_80_and_at_140_columns(self) -> None:
        with ThreadPoolExecutor(2) as walks:
            for walk in [walks.submit(Walk(self, columns).all) for columns in (80, 140)]:
                walk.result()


class Walk:
    def __init__(self, case: unittest.TestCase, columns: int) -> None:
        holder = tempfile.TemporaryDirectory()
        case.addCleanup(holder.cleanup)
        self.case, self.columns, self.folder = case, columns, Path(holder.name).resolve()
        self.bot, self.shown = self.folder / "my_bot", ""
        for name in ("user_agent_sdk", "examples"):
            ignore = shutil.ignore_patterns("__pycache__")
            shutil.copytree(hour.ROOT / name, self.folder / "checkout" / name, ignore=ignore)
        (self.folder / "bin").mkdir()
        (self.folder / "bin" / "python").symlink_to(sys.executable)
        self.url = f"http://127.0.0.1:{free_port()}"

    def screen(self, command: str, here: Path | None = None) -> hour.Screen:
        environ = {"PATH": str(self.folder / "bin"), "HOME": str(self.folder), "TERM": "xterm",
                   "TZ": "Asia/Ho_Chi_Minh"}  # fmt: skip
        screen = hour.Screen(command, here or self.bot, self.columns, environ)
        self.case.addCleanup(screen.process.kill)
        return screen

    def ended(self, command: str, screen: hour.Screen, code: int) -> str:
        self.case.assertEqual(screen.ended(), code, f"{command}\n{screen.text}")
        text = re.sub(r"\x1b\[[\d;]*m", "", screen.text)
        self.shown += f"$ {command}\n{text}\n"
        for line in text.splitlines():
            is_whole = re.match(r"\d\d:\d\d:\d\d |[{\[]|    ", line) or str(self.folder) in line or "http://" in line
            self.case.assertTrue(len(line) <= self.columns or is_whole, f"{command}\n{line}")
        self.case.assertNotRegex(text, r"\d\.\d{6}", command)
        return text

    def says(self, command: str, *patterns: str, code: int = 0, here: Path | None = None) -> str:
        text = self.ended(command, self.screen(command, here), code)
        for pattern in patterns:
            self.case.assertRegex(re.sub(r"\s+", " ", text), pattern, command)
        return text

    def sandbox(self, credentials: str) -> hour.Screen:
        port = self.url.rpartition(":")[2]
        screen = self.screen(f"{SDK}sandbox --port {port} --credentials {credentials} -a sum_agent")
        screen.until("submit a task")
        return screen

    def stop(self, command: str, screen: hour.Screen, code: int = 0) -> str:
        screen.type(b"\x03")
        return self.ended(command, screen, code)

    def all(self) -> None:
        self.says(SDK + "init ../my_bot --vendor", "next:", here=self.folder / "checkout")
        self.says("python -m unittest", "OK")
        self.says(SDK + "invoke agent.py -i input.json -r", '{"result": 5}')
        self.a_platform_that_comes_and_goes()
        self.a_task_that_nobody_takes()
        self.a_save_while_a_task_runs()
        self.what_is_kept()
        self.advice()
        if folder := os.environ.get("USERAGENT_PICTURES"):
            Path(folder).mkdir(parents=True, exist_ok=True)
            (Path(folder) / f"walk-{self.columns}.txt").write_text(self.shown, "utf-8")

    def a_platform_that_comes_and_goes(self) -> None:
        """The secret of a sandbox that came back was another one, and "does not answer" was said of a 401."""
        platform, submit = self.sandbox("credentials.json"), f"{SDK}submit -i input.json --url {self.url}"
        worker = self.screen(SDK + "run agent.py -r")
        worker.until("Ready: waiting for tasks of sum_agent; Ctrl\\+C ends it")
        self.says(submit, '{"result": 5}')
        self.stop("sandbox", platform)
        worker.until("\x1b\\[35mWARNING\x1b\\[0m Polling fails: ")
        worker.until("the platform does not answer: next poll at ")
        platform, began = self.sandbox("credentials.json"), time.monotonic()
        worker.until("Polling fails: over after")
        self.case.assertLess(time.monotonic() - began, 4)  # of the worker's 2 s at most
        self.says(submit, '{"result": 5}')
        self.stop("sandbox", platform)
        platform = self.sandbox("other.json")
        worker.until("\x1b\\[31mERROR  \x1b\\[0m Polling fails: HTTP 401")
        worker.until("the platform refuses the credentials: next poll at ")
        self.says(SDK + "check agent.py", "1 thing to mend before a worker can start $", code=4)
        self.says(SDK + "check agent.py -c other.json", "nothing keeps a worker from starting $")
        task = re.findall(r"task_id=(\w+)", self.stop("run", worker))[0]
        self.says(f"{SDK}hd {task}", r"Started 20\d\d-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} UTC\+07:00")
        self.says(f"{SDK}history --task {task}", r"STARTED \+07:00", task)
        self.stop("sandbox", platform)
        self.says(SDK + "check agent.py", "2 things to mend before a worker can start $", code=5)

    def a_task_that_nobody_takes(self) -> None:
        platform = self.sandbox("credentials.json")
        for agent, words in (("sum_agent", r"yet\n"), ("sum_agnet", r"yet \(did you mean -a sum_agent\?\)")):
            command = f"{SDK}submit -i input.json -a {agent} --url {self.url}"
            screen = self.screen(command)
            screen.until(f"no worker polls for {agent} {words}")
            self.case.assertIn(f"it goes on: {self.url}/#", self.stop(command, screen, 130))
            if agent == "sum_agent":
                worker = self.screen("python agent.py")  # did nothing
                worker.until("Ready: ")
        self.stop("python agent.py", worker)
        self.stop("sandbox", platform)

    def a_save_while_a_task_runs(self) -> None:
        script = self.bot / "agent.py"
        code = script.read_text("utf-8")
        script.write_text(code.replace(*SLOW), "utf-8")
        dev = self.screen(SDK + "dev agent.py --sandbox")
        url = dev.until(r"page at (\S+);")[1]
        dev.until("agent sum_agent, 1 worker")
        (self.bot / "slow.json").write_text('{"num1": 2, "num2": 3, "s": 4}', "utf-8")
        first = self.screen(f"{SDK}submit -i slow.json --url {url}")
        dev.until("Processing task input")
        script.write_text(code.replace(*SLOW) + "# saved\n", "utf-8")
        dev.until(r"Reloaded agent\.py")
        dev.until("the old version still runs 1 task")
        self.case.assertIn('{"result": 5}', self.ended("submit", first, 0))
        second = self.screen(f"{SDK}submit -i slow.json --url {url}")
        dev.until("(?s)Processing task input.*Processing task input")
        said = self.stop("dev", dev)
        self.case.assertRegex(said, r"Stopped while 1 task ran\n.*Stopped\n")
        self.case.assertNotRegex(said, "another Ctrl|drain timeout")
        second.ended()
        script.write_text(code, "utf-8")

    def what_is_kept(self) -> None:
        """Results in the journal of a worker, living and killed; what becomes of old executions; help."""
        script = self.bot / "agent.py"
        code = script.read_text("utf-8")
        script.write_text(code.replace(*SLOW), "utf-8")
        (self.bot / "slow.json").write_text('{"s": 1}', "utf-8")
        platform = self.sandbox("credentials.json")
        worker = self.screen(SDK + "run agent.py")
        worker.until("Ready: ")
        submitted = self.screen(f"{SDK}submit -i slow.json --url {self.url}")
        worker.until("Processing task input")
        platform.process.kill()
        worker.until("1 undelivered result: next try at ")
        table = r"TASK +STATE +STATUS +AGENT +STARTED \+07:00 +REASON\n\w{8} +result +COMPLETED +sum_agent +20"
        held = self.ended(f"{SDK}journal", self.screen(f"{SDK}journal"), 0)
        self.case.assertRegex(held, table + r"(?s:.*)1 result of these: in a running worker")
        worker.process.kill()
        self.ended("run, killed", worker, -9)
        platform.ended()
        submitted.ended()
        [task] = re.findall(r"(?m)^(\w{8}) +result", held)
        self.says(f"{SDK}journal show {task[:6]}", '"outputData"')
        self.says(f"{SDK}journal drop {task[:6]}", f"the result of {task}-.* is dropped")
        self.says(SDK + "history-prune --older-than 30d", r"^deleted no executions that ended before 20[^.]*\+07:00 $")
        self.says(SDK + "history-prune --older-than 0s", "^deleted [23] executions that ended before")
        self.says(SDK + "help", "commands: run ", "COMMAND -h explains one $")
        self.says(SDK + "help submit", "examples: python -m user_agent_sdk submit")
        self.says(SDK + "--log-format json run agent.py", "hint: .* run agent.py --log-format json", code=2)
        script.write_text(code, "utf-8")

    def advice(self) -> None:
        (self.bot / "helper.py").write_text("x = 1\n", "utf-8")
        for name, (content, code, words) in ADVICE.items():
            (self.bot / name).write_bytes(content if isinstance(content, bytes) else content.encode())
            command = f"{SDK}invoke agent.py -i {name}" if name.endswith(".json") else f"{SDK}invoke {name}"
            self.says(command, re.escape(words), code=code)
        (self.bot / "credentials.json").write_text(json.dumps({"clientID": "a"}), "utf-8")
        self.says(SDK + "check agent.py", "clientID", "things? to mend before a worker can start $", code=3)


if __name__ == "__main__":
    unittest.main()

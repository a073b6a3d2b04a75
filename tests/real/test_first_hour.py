# SPDX-License-Identifier: Apache-2.0
"""The README's first five minutes, typed into a terminal: each command works the first time and fits.

From the package and the examples alone, with one Python and nothing else on the PATH, at two widths, with
and without colour.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import unittest
from pathlib import Path
from typing import Any

from tests.test_readme import ROOT, TEXT, commands
from user_agent_sdk.sandbox.server import Sandbox

from . import WANTED, RealTestCase

if os.name == "posix":
    import fcntl
    import pty
    import struct
    import termios

LONG_S = 60.0


class Screen:
    """A command on a terminal of its own, ``columns`` wide; ``text`` is what it has shown."""

    def __init__(self, command: str, cwd: Path, columns: int, environ: dict[str, str]) -> None:
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))

        def adopt() -> None:  # so that a typed Ctrl+C is a signal
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)

        self.process = subprocess.Popen(
            ["/bin/sh", "-c", f"exec {command}"],
            cwd=cwd,
            env=environ,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            preexec_fn=adopt,
        )
        os.close(slave)
        self._began = time.monotonic()
        self.text = ""
        self._grown = threading.Condition()  # guards text
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        while True:
            try:
                data = os.read(self._master, 65536)
            except OSError:  # Linux says so when nobody has the other end
                data = b""
            with self._grown:
                self.text += data.decode().replace("\r\n", "\n")
                self._grown.notify_all()
            if not data:
                return

    def until(self, pattern: str) -> re.Match[str]:
        with self._grown:
            self._grown.wait_for(lambda: re.search(pattern, self.text) or not self._reader.is_alive(), LONG_S)
            found = re.search(pattern, self.text)
        assert found is not None, f"{pattern} is not in:\n{self.text}"
        return found

    def says(self, words: str) -> float:
        """After how many seconds the line came that has these words in it."""
        self.until(re.escape(words))
        return time.monotonic() - self._began

    def type(self, keys: bytes) -> None:
        os.write(self._master, keys)

    def ended(self) -> int:
        """The exit code, when all is shown."""
        try:
            return self.process.wait(LONG_S)
        finally:
            self.process.kill()
            self._reader.join(LONG_S)
            os.close(self._master)


@unittest.skipUnless(WANTED and os.name == "posix", "a terminal is opened only with USERAGENT_REAL=1, on POSIX")
class FirstHourTest(unittest.TestCase):
    def setUp(self) -> None:
        holder = tempfile.TemporaryDirectory()
        self.addCleanup(holder.cleanup)
        self.folder = Path(holder.name).resolve()
        self.checkout = self.folder / "checkout"
        for name in ("user_agent_sdk", "examples"):
            shutil.copytree(ROOT / name, self.checkout / name, ignore=shutil.ignore_patterns("__pycache__"))
        (self.folder / "bin").mkdir()
        (self.folder / "bin" / "python").symlink_to(sys.executable)

    def begin(self, columns: int, **environ: str) -> None:
        self.columns = columns
        self.environ = {"PATH": str(self.folder / "bin"), "HOME": str(self.folder), "TERM": "xterm", **environ}
        self.shown = ""

    def screen(self, command: str, here: Path) -> Screen:
        return Screen(command, here, self.columns, self.environ)

    def walked(self, command: str, here: Path) -> str:
        screen = self.screen(command, here)
        self.assertEqual(screen.ended(), 0, f"{command}\n{screen.text}")
        self.shown += screen.text
        for line in re.sub(r"\x1b\[[\d;]*m", "", screen.text).splitlines():
            is_as_long_as_it_is = str(self.folder) in line or line.startswith(("{", "["))  # a path, JSON
            self.assertTrue(len(line) <= self.columns or is_as_long_as_it_is, f"{command}\n{line}")
        return screen.text

    def walk(self) -> None:
        here = self.checkout
        for command, _ in commands():
            if command.startswith("cd "):
                here = (here / command[3:]).resolve()
            elif command != "python -m unittest" or here != self.checkout:
                self.walked(command, here)
        table = re.sub(r"\x1b\[[\d;]*m", "", self.walked("python -m user_agent_sdk history", here)).splitlines()
        self.assertRegex(table[0], r"^ID +STATUS ")
        self.assertRegex(table[1], r"^ +1 +success +\d\d-\d\d \d\d:\d\d:\d\d ")
        self.assertEqual(len(table), 2)
        self.develop(here)

    def develop(self, here: Path) -> None:
        dev, submit = (self.of_readme(name) for name in ("dev", "submit"))
        screen = self.screen(dev, here)
        try:
            origin = screen.until(r"page at (\S+);")[1]
            screen.until("agent sum_agent, 1 worker")
            if not origin.endswith(":8088"):  # somebody else's; dev has said what to add
                submit += f" --url {origin}"
            self.assertEqual(json.loads(self.walked(submit, here)), {"result": 5})
            script = here / "agent.py"
            code = script.read_text(encoding="utf-8")
            script.write_text(code.replace("num1 + num2", "num1 * (num2"), encoding="utf-8")
            screen.until(r"agent\.py:\d+: SyntaxError:\s(.|\n)*agent\.py: waiting for the next save\n")
            script.write_text(code.replace("num1 + num2", "num1 * num2"), encoding="utf-8")
            screen.until(r"Reloaded agent\.py \(\d\.\d s\)\n")
            self.assertEqual(json.loads(self.walked(submit, here)), {"result": 6})
            screen.type(b"\x03")
        except BaseException:
            screen.process.kill()
            raise
        finally:
            code_of_dev = screen.ended()
        self.assertEqual(code_of_dev, 0, screen.text)
        self.assertRegex(screen.text, r"Stopped\n$")
        self.shown += screen.text

    def of_readme(self, name: str) -> str:
        found = re.search(rf"^python -m user_agent_sdk {name} .*$", TEXT, re.MULTILINE)
        assert found is not None, name
        return found[0]

    def test_a_newcomers_first_hour_at_80_columns(self) -> None:
        self.begin(80)
        self.walk()
        used = set(re.findall(r"\x1b\[([\d;]*)m", self.shown))
        self.assertIn("32", used)
        self.assertLessEqual(used, {"0", "1", "31", "32", "35"}, "yellow, blue or cyan can't be read everywhere")

    def test_a_newcomers_first_hour_at_140_columns_without_colour(self) -> None:
        self.begin(140, NO_COLOR="1")
        self.walk()
        self.assertNotIn("\x1b", self.shown)

    def test_in_a_pipe_there_is_no_colour(self) -> None:
        self.begin(80)
        for command in ("init bot", "invoke bot/agent.py -r", "history", "hd 1", "hd 2", "check", "-h"):
            options: Any = {"cwd": self.checkout, "env": self.environ, "capture_output": True, "timeout": LONG_S}
            done = subprocess.run([sys.executable, "-m", "user_agent_sdk", *command.split()], **options)
            self.assertTrue(done.stdout or done.stderr)
            self.assertNotIn(b"\x1b", done.stdout + done.stderr, command)


@unittest.skipUnless(os.name == "posix", "a terminal is opened on POSIX")
class FirstLineTest(RealTestCase):
    """What is wrong is on the screen within three seconds: a wrong agent id was forty of silence."""

    def setUp(self) -> None:
        super().setUp()
        holder = tempfile.TemporaryDirectory()
        self.addCleanup(holder.cleanup)
        self.folder = Path(holder.name).resolve()
        shutil.copy(ROOT / "examples" / "sum_agent.py", self.folder / "agent.py")
        began = time.monotonic()
        subprocess.run([sys.executable, "-c", "pass"], check=True)
        self.bare_s = time.monotonic() - began

    def holds(self, credentials: dict[str, str]) -> None:
        (self.folder / "credentials.json").write_text(json.dumps(credentials), encoding="utf-8")
        (self.folder / "credentials.json").chmod(0o600)

    def is_told(self, command: str, words: str) -> None:
        environ = {"PATH": os.environ["PATH"], "HOME": str(self.folder), "PYTHONPATH": str(ROOT), "TERM": "xterm",
                   "NO_COLOR": "1"}  # fmt: skip
        screen = Screen(f"{sys.executable} -m user_agent_sdk {command}", self.folder, 80, environ)
        try:
            seconds = screen.says(words)
        finally:
            screen.process.kill()
            screen.ended()
        line = next(line for line in screen.text.splitlines() if words in line)
        sys.stderr.write(f"\n{command}: {seconds:.1f} s: {line}\n")
        self.assertLess(seconds, 3.0 + self.bare_s, screen.text)

    def test_a_task_for_a_misspelt_agent(self) -> None:
        with Sandbox() as sandbox:
            self.holds(sandbox.credentials("sum_agent"))
            sandbox.engine.poll("sum_agent", "rpa-07")
            self.is_told("submit -a sum_agnet", "no worker polls for sum_agnet yet (did you mean -a sum_agent?)")

    def test_a_sandbox_that_is_gone(self) -> None:
        with Sandbox() as sandbox:
            self.holds(sandbox.credentials("sum_agent"))
        self.is_told("submit", "error[platform-unreachable]: no sandbox answers at")
        self.is_told("run agent.py", "Polling fails: ")

    def test_a_wrong_secret(self) -> None:
        self.holds({**self.stack.credentials("sum_agent"), "clientSecret": "another"})
        self.is_told("run agent.py", "error[auth-refused]:")
        self.is_told("check agent.py", "refused the credentials")

    def test_a_task_type_that_the_server_lacks(self) -> None:
        options = f"agent.py --conductor {self.stack.conductor_url} -a no_such_type"
        self.is_told(f"run {options}", "Task type no_such_type has no definition")
        self.is_told(f"check {options}", "no_such_type has no definition")


if __name__ == "__main__":
    unittest.main()

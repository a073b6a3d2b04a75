# SPDX-License-Identifier: Apache-2.0
"""A bot that PyInstaller has made one program of: it finds its credentials, runs its hooks, and starts processes.

PyInstaller comes from the package registry into an environment that is thrown away.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import tempfile
import unittest
from pathlib import Path

from tests.real import WANTED
from user_agent_sdk.sandbox.server import Sandbox

ROOT = Path(__file__).resolve().parents[2]
BUILD_S, LONG_S = 300, 60
SCRIPT = """
import multiprocessing

import user_agent_sdk
from user_agent_sdk import TaskResult, on_start, on_stop, user_agent

on_start(lambda: print("opened", flush=True))
on_stop(lambda: print("closed", flush=True))

def look(number, result):
    return [number * number, isinstance(result, TaskResult)]

@user_agent()
def work(how):
    with multiprocessing.get_context(how).Pool(1) as pool:
        return pool.starmap(look, [(3, TaskResult())])

if __name__ == "__main__":
    multiprocessing.freeze_support()
    user_agent_sdk.run()
"""


@unittest.skipUnless(WANTED, "with USERAGENT_REAL=1: it fetches PyInstaller")
@unittest.skipUnless(os.name == "nt" or sysconfig.get_config_var("Py_ENABLE_SHARED"), "PyInstaller wants a libpython")
class FrozenTest(unittest.TestCase):
    def test_a_frozen_bot_does_its_tasks(self) -> None:
        holder = tempfile.TemporaryDirectory()
        self.addCleanup(holder.cleanup)
        folder = Path(holder.name).resolve()
        (folder / "bot.py").write_text(SCRIPT, "utf-8")
        subprocess.run([sys.executable, "-m", "venv", "venv"], cwd=folder, check=True, timeout=BUILD_S)
        python = folder / "venv" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
        for words in (["pip", "install", "-q", "pyinstaller"],
                      ["PyInstaller", "--onefile", "--log-level", "WARN", "--collect-submodules", "user_agent_sdk",
                       "bot.py"]):  # fmt: skip
            subprocess.run([str(python), "-m", *words], cwd=folder, check=True, timeout=BUILD_S,
                           env={**os.environ, "PYTHONPATH": str(ROOT)})  # fmt: skip
        program = next((folder / "dist").glob("bot*"))
        with Sandbox() as sandbox:
            credentials = program.parent / "credentials.json"
            credentials.write_text(json.dumps(sandbox.credentials("frozen")), "utf-8")
            credentials.chmod(0o600)
            methods = ("fork", "spawn") if hasattr(os, "fork") else ("spawn",)
            tasks = [sandbox.submit("frozen", {"how": how}, retries=0) for how in methods]
            bot = subprocess.Popen([str(program), "--max-tasks", str(len(tasks))], cwd=folder, stdout=subprocess.PIPE)
            try:
                for task in tasks:
                    ended = sandbox.wait(task, LONG_S)
                    self.assertEqual(ended.output, {"result": [[9, True]]}, ended.reason)
                self.assertEqual(bot.communicate(timeout=LONG_S)[0].split(), [b"opened", b"closed"])
                self.assertEqual(bot.returncode, 0)
            finally:
                bot.kill()
                bot.communicate()


if __name__ == "__main__":
    unittest.main()

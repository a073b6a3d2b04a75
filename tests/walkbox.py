# SPDX-License-Identifier: Apache-2.0
"""What the rows of ``tests.walk`` share: a folder with an agent in it, and commands that end or go on."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from tests.engine import Engine
from tests.workerbox import AGENT, Box
from user_agent_sdk.worker.drain import OPEN_POLL_S

ROOT = Path(__file__).resolve().parent.parent
USERAGENT = (sys.executable, "-m", "user_agent_sdk")
PATIENCE_S = 60.0
BREAK = 21 if sys.platform == "win32" else 15  # Ctrl+Break, or SIGTERM
# Nobody can send a signal to a single process of Windows: these raise those whose numbers they read.
AGENT_TEXT = """\
import os, signal, threading
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from user_agent_sdk import user_agent
def heed():
    while number := os.read(0, 2):
        signal.raise_signal(int(number))
def square(n):
    return n * n
@user_agent()
def tells(n=0, seconds=0, pool=0, logger=None):
    logger.info("begun %s", n)
    threading.Event().wait(seconds)
    if pool:
        with ProcessPoolExecutor(2, get_context("spawn")) as workers:
            return sum(workers.map(square, range(pool)))
    return n
if "USERAGENT_HEEDS" in os.environ:
    threading.Thread(target=heed, daemon=True).start()
"""


class Ended(NamedTuple):
    out: str
    err: str
    took_s: float


class Started:
    """A command that goes on; its two streams are read line by line."""

    def __init__(self, *words: str, folder: Path, environ: dict[str, str]) -> None:
        self.process = subprocess.Popen(
            words, cwd=folder, env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._said: list[str] = []
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line.decode("utf-8", "replace"))
        self._lines.put("")

    def until(self, words: str) -> str:
        """The next line that has these words in it."""
        deadline = time.monotonic() + PATIENCE_S
        with contextlib.suppress(queue.Empty):
            while line := self._lines.get(timeout=max(0, deadline - time.monotonic())):
                self._said.append(line)
                if words in line:
                    return line
        raise AssertionError(f"no {words!r} in: {''.join(self._said)}")

    def give(self, *numbers: int) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(b"".join(b"%02d" % number for number in numbers))
        self.process.stdin.flush()

    def ends(self, *codes: int) -> None:
        code = self.process.wait(PATIENCE_S)
        self.until_end()
        assert code in codes, f"ended with {code}: {''.join(self._said)}"

    def until_end(self) -> str:
        """All that it has said, once it has ended."""
        with contextlib.suppress(AssertionError):
            self.until("\0")
        return "".join(self._said)

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()


class Walk:
    """A folder with an agent in it, and what starts commands there. All is closed at its end."""

    bare_s = 0.0  # what Python's own start takes
    conductor = ""  # the address of a real one, in the place of the sandbox

    def __init__(self, folder: Path, dist: Path) -> None:
        self.folder = folder
        self.dist = dist  # what was built, for all rows
        self.cleanup = contextlib.ExitStack()
        plain = {name: value for name, value in os.environ.items() if not name.startswith(("USERAGENT_", "CONDUCTOR_"))}
        self.environ = {**plain, "PYTHONPATH": str(ROOT)}
        self.environ.pop("PYTHONUTF8", None)
        self.write("agent.py", AGENT_TEXT)
        self.write("input.json", '{"n": 5}')

    def write(self, name: str, text: str) -> None:
        (self.folder / name).write_text(text, "utf-8")

    def command(self, *words: str, folder: Path | None = None, code: int = 0, **environ: str) -> Ended:
        """What ``python -m user_agent_sdk WORDS`` said; or the program that the first word is a path of."""
        words = words if os.path.isabs(words[0]) else (*USERAGENT, *words)
        began = time.monotonic()
        ended = subprocess.run(words, cwd=folder or self.folder, env={**self.environ, **environ},
                               stdin=subprocess.DEVNULL, capture_output=True, timeout=PATIENCE_S * 2)  # fmt: skip
        took_s = time.monotonic() - began
        out, err = (text.decode("utf-8", "replace").replace("\r\n", "\n") for text in (ended.stdout, ended.stderr))
        assert ended.returncode == code, f"{words} ended with {ended.returncode}: {out}{err}"
        return Ended(out, err, took_s)

    def invoke(self, path: str, *words: str, **options: Any) -> Ended:
        ended = self.command("invoke", path, *words, **options)
        assert ended.out in ('{"result": 0}\n', '{"result": 5}\n'), ended
        return ended

    def start(self, *words: str) -> Started:
        environ = {**self.environ, "USERAGENT_HEEDS": "1"}
        started = Started(*USERAGENT, *words, folder=self.folder, environ=environ)
        self.cleanup.callback(started.close)
        return started

    @contextlib.contextmanager
    def platform(self, *, refuses: bool = False) -> Iterator[Box | Engine]:
        """A sandbox in this process, which the credentials in the folder point at; or the real engine, by itself or,
        where ``refuses``, behind a gateway that can refuse reports."""
        if not self.conductor:
            with Box() as box:
                self.write("credentials.json", json.dumps(box.credentials(AGENT)))
                yield box
            return
        with Engine(self.conductor) as engine:
            self.environ["CONDUCTOR_SERVER_URL"] = engine.gateway.conductor_url if refuses else self.conductor
            self.write("credentials.json", json.dumps({"agentId": engine.agent_id}))
            yield engine

    def worker(self, *words: str) -> Started:
        worker = self.start("run", "agent.py", "-w", "4", *words)
        worker.until("Ready:")
        return worker

    def idle_limit_s(self) -> float:
        """A stop when nothing runs takes so long at most: Conductor's reply to an open poll may bring a task."""
        return self.bare_s + (OPEN_POLL_S if self.conductor else 1.0)

    def seconds_to_end(self, worker: Started, *numbers: int, codes: tuple[int, ...] = (0,)) -> float:
        began = time.monotonic()
        worker.give(*numbers)
        worker.process.wait(PATIENCE_S)
        took_s = time.monotonic() - began
        worker.ends(*codes)
        return took_s


def within(limit_s: float, took_s: float) -> float:
    assert took_s <= limit_s, f"{took_s:.2f} s, of at most {limit_s:.2f}"
    return took_s

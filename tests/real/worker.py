# SPDX-License-Identifier: Apache-2.0
"""``useragent run`` as a process of its own, as an operator starts it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
STOP_LIMIT_S = 60


class Worker:
    """A folder with a script and, for akaBot, its credentials.json; started, stopped or killed by hand.

    The log of every run of it is kept in ``log``, a line an entry.
    """

    def __init__(self, script: str, credentials: Mapping[str, str] | None, *options: str, folder: Path | None = None):
        self._owned = tempfile.TemporaryDirectory() if folder is None else None
        self.folder = Path(self._owned.name) if self._owned else folder or Path()
        self.script = self.folder / "agent.py"
        self.script.write_text(textwrap.dedent(script), encoding="utf-8")
        if credentials is not None:
            path = self.folder / "credentials.json"
            path.write_text(json.dumps(credentials), encoding="utf-8")
            path.chmod(0o600)
        self._options = options
        self.log: list[str] = []
        self._process: subprocess.Popen[str] | None = None
        self._reader: threading.Thread | None = None

    def __enter__(self) -> Worker:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self.stop()
        if self._owned:
            self._owned.cleanup()

    @property
    def is_started(self) -> bool:
        """False before the start, and from a kill to the next one."""
        return self._process is not None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        clean = {
            key: value for key, value in os.environ.items() if not key.upper().startswith(("USERAGENT_", "CONDUCTOR_"))
        }
        self._process = subprocess.Popen(
            [sys.executable, "-m", "user_agent_sdk", "run", str(self.script), *self._options],
            cwd=self.folder,
            env={**clean, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
        )
        self._reader = threading.Thread(target=self._read, args=(self._process.stderr,), daemon=True)
        self._reader.start()

    def _read(self, stderr: Any) -> None:
        with stderr:
            for line in stderr:
                self.log.append(line.rstrip("\n"))

    def kill(self) -> None:
        """As a crash: SIGKILL."""
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        """SIGTERM; the exit code of the drain."""
        return self._end(signal.SIGTERM)

    def _end(self, number: int) -> int:
        process, self._process = self._process, None
        assert process is not None
        process.send_signal(number)
        try:
            code = process.wait(STOP_LIMIT_S)
        finally:
            process.kill()
            process.wait()
            if self._reader is not None:
                self._reader.join(5)
        return code

# SPDX-License-Identifier: Apache-2.0
"""A command line run in this process, in a folder of its own, with a clean environment."""

from __future__ import annotations

import contextlib
import copy
import io
import json
import logging
import os
import subprocess
import sys
import tempfile
import textwrap
import threading
import unittest
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import user_agent_sdk
from user_agent_sdk import logs
from user_agent_sdk.agents import REGISTRY
from user_agent_sdk.cli import main

ROOT = Path(user_agent_sdk.__file__).parent.parent
PYTHON = (sys.executable, "-S")  # without site-packages, whose .pth files may take longer than the test
SUM = """
    from user_agent_sdk import user_agent
    @user_agent()
    def sum_agent(input_data, logger):
        logger.info("Processing task input")
        return input_data.get("num1", 0) + input_data.get("num2", 0)
    """


def keep_imports_as_they_are(case: unittest.TestCase, folder: Path) -> None:
    """When the test ends, forget what was imported from ``folder`` and the ways to it."""

    def forget() -> None:
        for name, module in list(sys.modules.items()):
            if str(getattr(module, "__file__", "")).startswith(str(folder)):
                del sys.modules[name]
        REGISTRY.clear()

    case.addCleanup(forget)
    case.addCleanup(sys.path.__setitem__, slice(None), list(sys.path))
    case.addCleanup(sys.meta_path.__setitem__, slice(None), list(sys.meta_path))


def keep_logging_as_it_is(case: unittest.TestCase) -> None:
    """When the test ends, take back what it set up on the root's loggers and on ours."""
    for hook in ("excepthook", "unraisablehook"):
        case.addCleanup(setattr, sys, hook, getattr(sys, hook))
    case.addCleanup(setattr, threading, "excepthook", threading.excepthook)
    case.addCleanup(setattr, logging, "lastResort", logging.lastResort)
    case.addCleanup(setattr, logs, "_console", logs._console)
    case.addCleanup(logging.captureWarnings, False)
    for name in ("", "user_agent_sdk", "user_agent_sdk.agent", "py.warnings"):
        logger = logging.getLogger(name)
        case.addCleanup(logger.setLevel, logger.level)
        case.addCleanup(setattr, logger, "propagate", logger.propagate)
        case.addCleanup(logger.handlers.__setitem__, slice(None), list(logger.handlers))


def keep_secrets_as_they_are(case: unittest.TestCase) -> None:
    """When the test ends, take back which secrets are blanked. A token "t0ken-of-the-platform" once blanked the words
    "the platform" of another test in the same process."""
    held = {name: copy.copy(value) for name, value in vars(logs.redactor).items() if name != "_lock"}
    case.addCleanup(vars(logs.redactor).update, held)


class Ended(NamedTuple):
    """``code`` is the exit code."""

    code: int
    out: str
    err: str


class CliTest(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name).resolve()
        self.addCleanup(os.chdir, Path.cwd())
        os.chdir(self.folder)
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.upper().startswith(("USERAGENT_", "CONDUCTOR_"))
        }
        environ = mock.patch.dict(os.environ, kept, clear=True)
        environ.start()
        self.addCleanup(environ.stop)
        argv = mock.patch.object(sys, "argv", ["useragent"])
        argv.start()
        self.addCleanup(argv.stop)
        keep_imports_as_they_are(self, self.folder)
        keep_logging_as_it_is(self)
        keep_secrets_as_they_are(self)

    def write(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.write_text(textwrap.dedent(text), "utf-8")
        return path

    def run_main(self, *words: str, stdin: bytes = b"") -> Ended:
        out, err, given = io.StringIO(), io.StringIO(), io.TextIOWrapper(io.BytesIO(stdin))
        REGISTRY.clear()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), mock.patch.object(sys, "stdin", given):
            code = main(words)
        return Ended(code, out.getvalue(), err.getvalue())

    def run_process(self, *words: str, **environ: str) -> Ended:
        """The same as a process of its own."""
        result = subprocess.run(
            [*PYTHON, *words],
            env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUTF8": "1", **environ},
            capture_output=True,
            timeout=60,
        )
        said = (text.decode().replace(os.linesep, "\n") for text in (result.stdout, result.stderr))
        return Ended(result.returncode, *said)

    def error_of(self, ended: Ended) -> dict[str, Any]:
        """The error document of a command that was given --json."""
        error: dict[str, Any] = json.loads(ended.err.splitlines()[-1])["error"]
        self.assertEqual(list(error), ["code", "message", "hint", "exit_code"])
        self.assertEqual(error["exit_code"], ended.code)
        return error

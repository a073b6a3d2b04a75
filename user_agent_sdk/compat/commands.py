# SPDX-License-Identifier: Apache-2.0
"""The command line called from Python, as 0.2.0 had it."""

from __future__ import annotations

import shlex
import sys
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from .. import loader
from ..agents import REGISTRY
from ..cli.commands import fail, main
from ..errors import UserAgentError
from .runner import UserAgentRunner


def app(tokens: str | Iterable[str] | None = None, **options: Any) -> None:
    """Run a command line (default: the process's) and end the process with its exit code (SystemExit)."""
    sys.exit(main(shlex.split(tokens) if isinstance(tokens, str) else None if tokens is None else [*tokens]))


def run_command(
    agent_spec: str,
    config_file: str | None = None,
    debug: bool = False,
    abort_signal: threading.Event | None = None,
    workers: int | None = None,
    record_logs: bool = False,
) -> None:
    """Load an agent's script and run it until Ctrl+C, SIGTERM or ``abort_signal``; SystemExit when that fails."""
    try:
        REGISTRY[:] = loader.load(Path(agent_spec))  # the calling script itself has registered its agents already
        UserAgentRunner(None, config_file, debug, workers, record_logs, abort_signal).run()
    except UserAgentError as error:
        sys.exit(fail(error, []))

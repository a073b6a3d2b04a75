# SPDX-License-Identifier: Apache-2.0
"""Loggers as 0.2.0 named and set them up."""

from __future__ import annotations

import logging
import sys
import time
from typing import Any

from .. import logs

_PACKAGE = __name__.rpartition(".compat.")[0]
LogLevelType = str
logger = logging.getLogger(_PACKAGE)  # each module's own had that level and those handlers


def get_logger(name: str) -> logging.Logger:
    """The logger of that name below this package's own: its lines go where those of the SDK go."""
    return logging.getLogger(f"{_PACKAGE}.{name.removeprefix('user_agent_sdk.')}")


def configure_logging(
    level: int | str = "INFO", logger: logging.Logger | None = None, *rich: Any, **rich_options: Any
) -> None:
    """Send this SDK's lines, or those of ``logger``, to stderr from ``level`` up. Options of rich do nothing."""
    if logger is None:
        logs.setup(level, "text", (), sys.stderr)
        return
    logger.propagate = False
    logger.setLevel(level)
    logger.handlers[:] = [logs.Handler(sys.stderr, as_json=False)]


class AgentLogHandler(logging.Handler):
    """Keeps (epoch milliseconds, message) of each record."""

    def __init__(self, level: int = logging.NOTSET) -> None:
        super().__init__(level)
        self.logged_messages: list[tuple[int, str]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.logged_messages.append((int(time.time() * 1000), record.getMessage()))

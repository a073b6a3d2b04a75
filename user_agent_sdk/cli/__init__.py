"""The command line: one module a command, found through the table in ``app``."""

from __future__ import annotations

from .app import main

__all__ = ["main"]

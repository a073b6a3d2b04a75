"""The command line: one module a command, found through the table in ``app``."""

from __future__ import annotations

import sys

from .._version import __version__

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line (default: the process's) and return its exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    if words == ["--version"] and sys.stdout is not None:  # what the rest loads takes as long as Python's own start
        try:
            print(f"useragent {__version__}", flush=True)  # noqa: T201 - ASCII, and all of it
            return 0
        except (OSError, ValueError):  # nobody reads it any more: app knows what to do then
            pass
    from . import app

    return app.main(words)

# SPDX-License-Identifier: Apache-2.0
"""The auditor's reading guide: which files of a core copy, in which order, how many lines, trusted with what.

``python -m tests.guide`` prints the table as the README has it; ``tests/test_claims.py`` holds the README to it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from fnmatch import fnmatch
from typing import NamedTuple

from tests.test_doors import FILE_LINES, PACKAGE
from tests.test_rooms import needed_by_run


class Step(NamedTuple):
    """``files``: patterns, as the README shows them. ``is_near``: touches network, credentials or disk."""

    files: tuple[str, ...]
    trust: str
    is_near: bool = False


STEPS = (
    Step(("credentials.py", "settings.py", "values.py"), "the secret, and who may read it; the environment", True),
    Step(("conductor/wire.py", "conductor/paths.py"), "what is sent and what a reply means; no I/O"),
    Step(("conductor/*.py",), "every connection, TLS, the proxy, the token", True),
    Step(("private.py", "worker/keeping/log_file.py", "worker/keeping/journal*.py", "worker/keeping/leftovers.py"),
         "every file that is written", True),
    Step(("logs.py", "redaction.py", "errors.py"), "what a log or an error shows, and what is blanked"),
    Step(("loader.py", "agents.py", "worker/running/*.py"), "running the agent's code"),
    Step(("worker/*.py", "worker/polling/*.py", "worker/keeping/*.py"), "which task is taken, kept, handed back"),
    Step(("cli/*.py", "*.py"), "the command line; the import path; names of earlier releases"),
)  # fmt: skip


def lines_of(name: str) -> int:
    return len((PACKAGE / name).read_text("utf-8").splitlines())


def table() -> Iterator[tuple[Step, int, list[str]]]:
    """Each step with its lines and its files; a file is of the first step that names it. AssertionError for a file of
    a core copy that no step names."""
    left = sorted(needed_by_run())
    for step in STEPS:
        found = [name for name in left if any(fnmatch(name, pattern) for pattern in step.files)]
        left = [name for name in left if name not in found]
        yield step, sum(map(lines_of, found)), found
    assert not left, f"the reading guide names no step for {left}"


def figures() -> tuple[int, int, int]:
    """Lines of the package, of a core copy, and of its part that touches network, credentials or disk."""
    rows = list(table())
    whole = sum(lines_of(path.relative_to(PACKAGE).as_posix()) for path in PACKAGE.rglob("*.py"))
    return whole, sum(lines for _, lines, _ in rows), sum(lines for step, lines, _ in rows if step.is_near)


def markdown() -> str:
    lines = ["| | files | lines | trusted with |", "|---|---|---|---|"]
    for number, (step, count, _) in enumerate(table(), 1):
        files = ", ".join(f"`{pattern}`" for pattern in step.files)
        lines.append(f"| {number} | {files} | {round(count, -1)} | {step.trust}{' **' if step.is_near else ''} |")
    whole, core, near = (f"{round(count, -1):,}" for count in figures())
    lines += ["", f"The package has {whole} lines of Python, a core copy {core}; {near} of them, marked **, touch the "
              f"network, credentials or the disk. No file has more than {FILE_LINES}."]  # fmt: skip
    return "\n".join(lines)


if __name__ == "__main__":
    sys.stdout.write(markdown() + "\n")

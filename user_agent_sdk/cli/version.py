# SPDX-License-Identifier: Apache-2.0
"""``useragent version``: which copy this is, and with ``--verify`` whether it is the one that was released."""

from __future__ import annotations

import os
import platform
import sys
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path

from .. import _version
from ..errors import EXIT_FAILED, EXIT_OK, UserAgentError
from ..logs import counted, escape
from . import terminal
from .options import Parser


def configure(parser: Parser) -> None:
    parser.show_examples("", "--verify SHA256SUMS")
    parser.add_argument("--verify", metavar="SHA256SUMS", help="compare each file of this copy with a release's list")
    parser.titled("output").add_argument("--json", action="store_true", help="as one JSON document")


def main(args: Namespace) -> int:
    if args.verify is not None:
        try:
            lines = [line.partition(" ") for line in Path(args.verify).read_text("utf-8").splitlines()]
            listed, found = {name.lstrip(" *"): digest for digest, _, name in lines}, _version.hashes()
        except (OSError, ValueError) as error:  # of this copy: an editor's lock, say, a link that leads nowhere
            raise UserAgentError(f"{args.verify} or a file of this copy can't be read: {error}", code="io") from None
        return _verify(listed, found, args.json)
    python = f"{platform.python_version()} ({platform.python_implementation()})"
    system = f"{platform.system()} {platform.release()} {platform.machine()}"
    facts = {"sdk": _version.__version__, "digest": _version.digest(), "python": python, "platform": system,
             "executable": sys.executable, "root": str(Path(_version.__file__).parent)}  # fmt: skip
    if args.json:
        terminal.write_json(facts)
    else:
        for name, value in facts.items():
            terminal.write(f"{name:<11}{value}" if terminal.is_interactive() else f"{name}\t{value}")
    return EXIT_OK


def _verify(listed: Mapping[str, str], found: Mapping[str, str], as_json: bool) -> int:
    """Print each file that differs. A listed file that is missing can't run, so it is only counted."""
    if os.path.isdir(os.path.dirname(_version.__file__)):
        wanted = {name: sha for name, sha in listed.items() if name.startswith("user_agent_sdk/")}
    else:  # in an archive, which has a line of its own
        wanted = {name: listed[name] for name in found if name in listed}
    changed = sorted(name for name, digest in found.items() if wanted.get(name, digest) != digest)
    unknown = sorted(found.keys() - wanted.keys())
    missing = sorted(wanted.keys() - found.keys())
    is_released = not changed and not unknown
    if as_json:
        terminal.write_json({"ok": is_released, "changed": changed, "unknown": unknown, "missing": missing})
    for name in () if as_json else changed:
        terminal.write(f"changed  {escape(name)}")
    for name in () if as_json else unknown:
        terminal.write(f"unknown  {escape(name)}")
    same = len(found) - len(changed) - len(unknown)
    terminal.note(f"{counted(same, 'file')} as released, {len(changed)} changed, {len(unknown)} unknown; "
                  f"{counted(len(missing), 'file')} left out of this copy; __pycache__ is Python's own")  # fmt: skip
    return EXIT_OK if is_released else EXIT_FAILED

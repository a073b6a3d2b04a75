# SPDX-License-Identifier: Apache-2.0
"""``useragent version``."""

from __future__ import annotations

import platform
import sys
from argparse import Namespace
from pathlib import Path

from .. import _version
from . import terminal
from .options import Parser


def configure(parser: Parser) -> None:
    parser.titled("output").add_argument("--json", action="store_true", help="as one JSON document")


def main(args: Namespace) -> None:
    facts = {
        "sdk": _version.__version__,
        "python": f"{platform.python_version()} ({platform.python_implementation()})",
        "platform": f"{platform.system()} {platform.release()} {platform.machine()}",
        "executable": sys.executable,
        "root": str(Path(_version.__file__).parent),
    }
    if args.json:
        terminal.write_json(facts)
    else:
        for name, value in facts.items():
            terminal.write(f"{name:<11}{value}" if terminal.is_interactive() else f"{name}\t{value}")

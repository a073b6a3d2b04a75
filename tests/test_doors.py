# SPDX-License-Identifier: Apache-2.0
"""Who may import whom, and how large a thing may grow: the plan of the house, read from the source."""

from __future__ import annotations

import ast
import functools
import re
import subprocess
import sys
import unittest
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "user_agent_sdk"

# A room may import rooms of a lower floor, and itself. A module that is not in a folder is in the
# room of its own name, but for those named here.
FLOORS = (
    {"_version", "earlier", "errors", "forking", "prepared"},
    {"private", "redaction"},
    {"settings", "logs", "pages", "storage", "tables", "utils"},
    {"agents", "conductor"},
    {"worker", "history", "sandbox", "loader"},
    {"cli", "testing"},
    {"compat"},
)
ROOM_OF = {"credentials": "settings", "values": "settings", "watching": "worker", "spawned": "loader"}
APART = {"__init__", "__main__", "_build"}  # ways in: they import what they start, nobody imports them
FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}

# Inside the worker: the rooms that a room may import from, besides itself; "" is the loop and what builds it.
WORKER_ROOMS = {
    "": {"polling", "running", "keeping"},
    "keeping": {"polling"},  # its backoff
    "polling": set(),
    "running": set(),
}

# The only modules that may import these.
ONLY = {
    "urllib.request": {"conductor.transport"},
    "http.client": {"conductor.transport", "conductor.connection"},
    "http.server": set(),
    "sqlite3": {"storage"},
    "argparse": {"cli"},
    "pkgutil": {"pages"},
    "zipfile": {"_build", "cli"},
}
LAZY = ("asyncio", "ssl")  # never at a module's top: most runs need none of them
FILE_LINES, FUNCTION_LINES = 350, 50

# What must not be written anywhere; in pieces, so that this file is no finding.
PRIVATE = re.compile(
    "|".join(
        [
            r"pypi\." + "org",
            r"python" + r"hosted\.org",
            r"registry\.npm" + "js",
            r"repo1?\.maven\.(?:apache\.)?" + "org",
            r"deb\.debian\." + "org",
            r"crates\." + "io",
            r"(?<![\w.])/(?:ro" + r"ot|wo" + r"rk)/",
            r"/ho" + r"me/[a-z]",
            r"[A-Z]:\\+Us" + "ers",
            r"\.\./sha" + "red",
        ]
    )
)


class Import(NamedTuple):
    """``name``: one of our modules, without the package's name, or whatever is imported from outside,
    dotted. ``at_top``: when the importing module is imported (not in a function, not for the type
    checker alone)."""

    name: str
    is_ours: bool
    at_top: bool
    line: int


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


@functools.cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_bytes())


def sources() -> Iterator[tuple[str, Path]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        yield module_name(path), path


@functools.cache
def imports(tree: ast.Module, path: Path) -> list[Import]:
    folder = list(path.relative_to(PACKAGE).parent.parts)
    found: list[Import] = []

    def visit(node: ast.AST, at_top: bool) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                found.extend(Import(alias.name, False, at_top, child.lineno) for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                add_from(child, at_top)
            later = isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
            later = later or (isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test))
            visit(child, at_top and not later)

    def add_from(node: ast.ImportFrom, at_top: bool) -> None:
        base = folder[: len(folder) - node.level + 1] if node.level else []
        base = base + (node.module.split(".") if node.module else [])
        for alias in node.names:  # `from . import journal` names a module, `from .journal import Entry` what is in it
            inner = [*base, alias.name]
            target = PACKAGE.joinpath(*inner)
            is_module = node.level and (target.is_dir() or target.with_suffix(".py").is_file())
            name = inner if is_module or not node.level else base
            found.append(Import(".".join(name), bool(node.level), at_top, node.lineno))

    visit(tree, True)
    return found


def room(name: str) -> str:
    first = name.split(".")[0]
    return ROOM_OF.get(first, first)


def worker_room(name: str) -> str:
    second = name.split(".")[1] if "." in name else ""
    return second if second in WORKER_ROOMS else ""


def is_in(name: str, module: str) -> bool:
    return (name + ".").startswith(module + ".")


def wrong_door(importer: str, imported: Import) -> str | None:
    """Why ``importer`` may not import that, if so."""
    name = imported.name
    if not imported.is_ours:
        for outside, owners in ONLY.items():
            if is_in(name, outside) and not any(is_in(importer, own) for own in owners):
                return f"only {', '.join(sorted(owners))} may import {outside}"
        if name.split(".")[0] == PACKAGE.name:
            return "the package's own name: a copy may be called something else"
        late = imported.at_top and any(is_in(name, module) for module in LAZY)
        return f"{name} is to be imported where it is used" if late else None
    if not name or room(name) in APART:
        return f"nothing imports {name or 'the package itself'}"
    if importer == "conductor.wire" and name not in ("errors", "conductor.fields", "prepared"):
        return "wire imports errors, fields and an encoder alone"
    if is_in(importer, "worker") and is_in(name, "worker") and worker_room(name) != worker_room(importer):
        may = name == "worker.watched" or worker_room(name) in WORKER_ROOMS[worker_room(importer)]
        return None if may else f"worker.{worker_room(importer)} does not import {name}"
    if room(importer) in APART or room(importer) == room(name):
        return None
    if FLOOR_OF[room(importer)] <= FLOOR_OF[room(name)]:
        return f"{room(name)} is not below {room(importer)}"
    return None


class DoorsTest(unittest.TestCase):
    def test_every_import_goes_down_the_stairs(self) -> None:
        for importer, path in sources():
            self.assertIn(room(importer), {*FLOOR_OF, *APART}, f"{path}: which floor is it on?")
            for imported in imports(parsed(path), path):
                why = wrong_door(importer, imported)
                self.assertIsNone(why, f"{path}:{imported.line}: {why}")

    def test_a_wrong_door_is_noticed(self) -> None:
        for module, line in (
            ("conductor/client.py", "from ..worker import slots"),
            ("conductor/client.py", "from ..agents import Agent"),
            ("conductor/wire.py", "from ..logs import escape"),
            ("worker/slots.py", "from ..history import store"),
            ("worker/slots.py", "from .. import __version__"),
            ("worker/slots.py", "from ..cli import commands"),
            ("errors.py", "from . import settings"),
            ("worker/slots.py", "def f():\n    from ..cli.commands import main"),
            ("worker/slots.py", "import user_agent_sdk.errors"),
            ("worker/keeping/journal.py", "import sqlite3"),
            ("sandbox/engine.py", "from urllib import request"),
            ("sandbox/engine.py", "from urllib.request import urlopen"),
            ("worker/slots.py", "import asyncio"),
            ("conductor/transport.py", "if True:\n    import ssl"),
            ("watching/status.py", "def f():\n    import http.server"),
            ("worker/keeping/custody.py", "from ..slots import Services"),
            ("worker/keeping/held.py", "from ..running.execute import execute"),
            ("worker/polling/gate.py", "from .. import runner"),
            ("worker/polling/gate.py", "from ..keeping.held import Held"),
            ("worker/running/execute.py", "from ..polling.backoff import Backoff"),
            ("worker/running/execute.py", "def f():\n    from ..keeping import journal"),
        ):
            path = PACKAGE / module
            found = [wrong_door(module_name(path), each) for each in imports(ast.parse(line), path)]
            self.assertTrue(any(found), line)

    def test_importing_the_package_loads_none_of_what_is_heavy(self) -> None:
        heavy = ["ssl", "sqlite3", "http.server", "asyncio", "http.client", "argparse", "email"]
        code = "import sys, user_agent_sdk; user_agent_sdk.user_agent; user_agent_sdk.NonRetryableException\n"
        code += f"print([name for name in {heavy} if name in sys.modules])"
        done = subprocess.run([sys.executable, "-B", "-c", code], cwd=ROOT, capture_output=True, text=True)
        self.assertEqual((done.stdout, done.stderr), ("[]\n", ""))

    def test_a_worker_without_a_history_loads_no_sqlite(self) -> None:
        code = "import sys, user_agent_sdk.cli.run\nprint([name for name in sys.modules if 'sqlite3' in name"
        code += " or name.startswith(('user_agent_sdk.storage', 'user_agent_sdk.history'))])"
        done = subprocess.run([sys.executable, "-B", "-c", code], cwd=ROOT, capture_output=True, text=True)
        self.assertEqual((done.stdout, done.stderr), ("[]\n", ""))

    def test_a_worker_loads_none_of_what_only_some_scripts_use(self) -> None:
        """Each cost every start one to three milliseconds."""
        rare = ["asyncio", "concurrent.futures", "decimal", "http.server", "secrets", "uuid"]
        rare += ["dataclasses"] if sys.version_info < (3, 14) else []  # from where logging itself loads it
        code = "import sys\nbefore = {*sys.modules}  # a .pth of this Python may load some\n"
        code += "import user_agent_sdk.cli.run, user_agent_sdk.cli.invoke, user_agent_sdk.worker.running.capture\n"
        code += f"print([name for name in {rare} if name in sys.modules.keys() - before])"
        done = subprocess.run([sys.executable, "-B", "-c", code], cwd=ROOT, capture_output=True, text=True)
        self.assertEqual((done.stdout, done.stderr), ("[]\n", ""))

    def test_invoke_loads_nothing_of_a_network(self) -> None:
        """The worker's way to a platform costs as much as a fifth of a start."""
        unused = ["base64", "email", "hashlib", "http", "shutil", "ssl", "urllib.request"]
        unused += [f"user_agent_sdk.{name}" for name in ("worker.connect", "conductor.transport", "cli.run")]
        code = "import sys\nbefore = {*sys.modules}\nimport user_agent_sdk.cli.commands as c\n"
        code += "c.main(['invoke', 'examples/sum_agent.py'])\n"
        code += f"print([name for name in {unused} if name in sys.modules.keys() - before])"
        done = subprocess.run([sys.executable, "-B", "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True)
        self.assertEqual(done.stdout.splitlines()[1:], ["[]"])

    def test_annotations_are_never_evaluated(self) -> None:
        """`X | None` is no expression of Python 3.9. The ways in must import nothing before the path is clean."""
        for name, path in sources():
            if name in ("__init__", "__main__", "earlier"):
                self.assertNotIn("from __future__", path.read_text("utf-8").replace('"from __future__"', ""), path)
                continue
            tree = parsed(path)
            kinds = (ast.AnnAssign, ast.arg, ast.FunctionDef, ast.AsyncFunctionDef)
            nodes = [node for node in ast.walk(tree) if isinstance(node, kinds)]
            typed = any(getattr(node, "annotation", None) or getattr(node, "returns", None) for node in nodes)
            future = "from __future__ import annotations" in path.read_text("utf-8")
            self.assertTrue(future or not typed, path)

    def test_nobody_asks_for_package_metadata(self) -> None:
        for _, path in sources():
            for found in imports(parsed(path), path):
                for banned in ("importlib.metadata", "importlib.resources", "pkg_resources"):
                    self.assertFalse(is_in(found.name, banned), f"{path}:{found.line}")


class SizeTest(unittest.TestCase):
    def test_a_file_and_a_function_can_be_read_in_one_go(self) -> None:
        for _, path in sources():
            text = path.read_text("utf-8")
            self.assertLessEqual(len(text.splitlines()), FILE_LINES, path)
            for node in ast.walk(parsed(path)):
                if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                    length = (node.end_lineno or 0) - node.lineno + 1
                    self.assertLessEqual(length, FUNCTION_LINES, f"{path}:{node.lineno} {node.name}")


def sleeps(tree: ast.Module) -> list[int]:
    """The lines that sleep, whatever `time` and `sleep` are called there; asyncio's sleep is no wait of a thread."""
    clocks = {"time"}
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            clocks |= {alias.asname or alias.name for alias in node.names if alias.name == "time"}
        elif isinstance(node, ast.ImportFrom) and node.module == "time":
            found += [node.lineno for alias in node.names if alias.name == "sleep"]
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr == "sleep" and isinstance(node.value, ast.Name):
            found += [node.lineno] if node.value.id in clocks else []
    return found


class HabitsTest(unittest.TestCase):
    def test_nothing_sleeps(self) -> None:
        """A sleep in a test is a guess; a sleep in the worker can't be interrupted."""
        for path in [*PACKAGE.rglob("*.py"), *(ROOT / "tests").rglob("*.py")]:
            if b"sleep" in path.read_bytes():
                self.assertEqual(sleeps(parsed(path)), [], path)

    def test_a_sleep_is_noticed(self) -> None:
        for line in ("import time\ntime.sleep(1)", "from time import sleep as s", "import time as t\nx = t.sleep"):
            self.assertTrue(sleeps(ast.parse(line)), line)
        self.assertEqual(sleeps(ast.parse("import asyncio\nawait_ = asyncio.sleep(0)")), [])

    def test_no_file_names_a_registrys_host_or_a_path_of_one_machine(self) -> None:
        ignored = {".git", "__pycache__", ".mypy_cache", ".ruff_cache", "build", "dist", ".venv", ".useragent"}
        text_files = {".py", ".md", ".html", ".toml", ".json", ".txt", ".cfg", ".yml", ".yaml", ".sh", ".service", ""}
        read = 0
        folders = ("user_agent_sdk", "tests", "examples", ".ci", ".github")  # not what somebody made beside them
        for path in [*ROOT.glob("*"), *(path for name in folders for path in sorted((ROOT / name).rglob("*")))]:
            if path.suffix in text_files and path.is_file() and not ignored & {*path.relative_to(ROOT).parts}:
                read += 1
                found = PRIVATE.search(path.read_text("utf-8", "replace"))
                self.assertIsNone(found, f"{path}: {found}")
        self.assertGreater(read, 50)

    def test_each_file_names_its_licence(self) -> None:
        """A file that was copied alone, and a scanner of licences, have nothing else to go by."""
        for path in [*PACKAGE.rglob("*.py"), *(ROOT / "tests").rglob("*.py")]:
            if path.parent.name != "scripts":  # which stand for a user's own
                self.assertTrue(path.read_bytes().startswith(b"# SPDX-License-Identifier: Apache-2.0"), path)

    def test_such_a_place_is_noticed(self) -> None:
        for text in ("https://py" + "pi.org/simple", "/ro" + "ot/.pyenv", "open('/wo" + "rk/x')", "/ho" + "me/ann/x"):
            self.assertIsNotNone(PRIVATE.search(text), text)
        for text in ("$(pyenv root)/versions", "homework/x", "~/.cache", "network/"):
            self.assertIsNone(PRIVATE.search(text), text)


if __name__ == "__main__":
    unittest.main()

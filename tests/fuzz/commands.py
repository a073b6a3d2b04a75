# SPDX-License-Identifier: Apache-2.0
"""What people run: the history's commands on mutated files, mutated command lines, mutated scripts.

Nothing here starts a worker, connects or listens, or runs code that is not on the list below.
"""

from __future__ import annotations

import ast
import contextlib
import io
import json
import logging
import os
import re
import shutil
import sqlite3
import ssl
import sys
import warnings
from collections.abc import Iterator, Sequence
from random import Random
from typing import Any
from unittest import mock

from user_agent_sdk import loader
from user_agent_sdk.agents import REGISTRY
from user_agent_sdk.cli import commands, dev, history
from user_agent_sdk.conductor import connection
from user_agent_sdk.conductor.wire import LogLine, Task, TaskResult
from user_agent_sdk.errors import CODES, AgentError, ConfigError, UserAgentError
from user_agent_sdk.history.recorder import Recorder
from user_agent_sdk.sandbox import server
from user_agent_sdk.worker.runner import Runner

from . import files, mutate
from .core import Target, Wrong

_COLOR = re.compile("\x1b\\[\\d+m")
EXIT_CODES = {exit_code for exit_code, _ in CODES.values()} | {0}


class Terminal(io.StringIO):
    """What a command prints; now and then a terminal."""

    is_terminal = False
    encoding = "utf-8"

    def isatty(self) -> bool:
        return self.is_terminal


class _Commands(Target):
    """Targets that run a command line in this process, in a folder of their own."""

    def __enter__(self) -> _Commands:
        super().__enter__()
        self.callback(os.chdir, os.getcwd())
        os.chdir(self.folder)
        clean = {k: v for k, v in os.environ.items() if not k.upper().startswith(("USERAGENT_", "CONDUCTOR_"))}
        self.enter_context(mock.patch.dict(os.environ, clean, clear=True))
        self.enter_context(_python_as_it_is())
        root = logging.getLogger()
        self.callback(root.handlers.__setitem__, slice(None), list(root.handlers))
        self.callback(root.setLevel, root.level)
        return self

    def command(self, words: Sequence[str], is_terminal: bool = False) -> tuple[int, str, str]:
        out, err = Terminal(), Terminal()
        out.is_terminal = err.is_terminal = is_terminal
        given = io.TextIOWrapper(io.BytesIO(b"{}"))
        REGISTRY.clear()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), mock.patch.object(sys, "stdin", given):
            code = commands.main(words)
        said = err.getvalue()
        if code not in EXIT_CODES or "error[internal]" in said or "this is a bug" in said or "Traceback (" in said:
            raise Wrong(f"exit code {code}: {said}")
        for text in (out.getvalue(), said):
            text.encode("utf-8")
            ours = _COLOR.sub("", text) if is_terminal or "always" in words else text
            if "\x1b" in ours:
                raise Wrong(f"an escape sequence in {text!r}")
        return code, out.getvalue(), said


@contextlib.contextmanager
def _python_as_it_is() -> Iterator[None]:
    """Scripts are imported: afterwards none of it is left."""
    path, meta, modules, bytecode = list(sys.path), list(sys.meta_path), set(sys.modules), sys.dont_write_bytecode
    sys.dont_write_bytecode = True  # a script of the same size within a second would look the same
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the scripts: "is" with a literal
            yield
    finally:
        sys.path[:], sys.meta_path[:], sys.dont_write_bytecode = path, meta, bytecode
        for name in [name for name in sys.modules if name not in modules and name.startswith(("agent", "_agent"))]:
            del sys.modules[name]
        REGISTRY.clear()


class HistoryFiles(_Commands):
    """The history's commands print what they can of a damaged file, or say in one line that they can't."""

    name = "history"
    FORMS = (
        ["history"], ["history"], ["history", "--json"], ["history", "--jsonl", "-n", "0"], ["history", "-e", "-"],
        ["history", "--html", "report.html"], ["history", "--since", "2001-01-01"], ["history", "--status", "error"],
        ["hd", "last"], ["hd", "1", "--json"], ["hd", "2"], ["history-prune", "--older-than", "30d", "--dry-run"],
    )  # fmt: skip
    _ODD: tuple[Any, ...] = (
        None, 0, -1, 2**63 - 1, 1e308, -1.5, "", "x" * 500, b"\xff\xfe\x00", b"\xc3", "\x1b[31m\r\n\t",
        "2026-11-22T25:00",
        "9999-12-31T23:59:59.999999", "0001-01-01T00:00:00", "2026-11-22T10:00:00Z", "2026-11-22", "[" * 999,
        "{}", "[1]",
        "9" * 5000, '{"a": NaN}', '[{"created_ms": 1e400, "log": null}]', '[{"created_ms": -1, "log": [1]}, 7]', "=1+1",
        '"\\ud800"', "\u202e", "株式会社",
    )  # fmt: skip

    def __enter__(self) -> HistoryFiles:
        super().__enter__()
        self.path = self.folder / "execution_history.db"
        recorder = Recorder(self.path, ())
        recorder.start()
        for number in range(4):
            given = {"__task_id__": "platform-1", "__deployed_workflow_id__": "deployed-1", "num": number}
            task = Task({"taskId": f"task-{number}", "workflowInstanceId": "flow", "inputData": given})
            failed = {"status": "FAILED", "reason_for_incompletion": "no such invoice"} if number % 2 else {}
            result = TaskResult(f"task-{number}", "flow", output_data={"sum": number}, **failed)  # type: ignore[arg-type]
            result.logs = [LogLine("one line", 1763776800000)]
            recorder.record("reader", "worker-1", task, result, 1763776800.0, 1763776801.5)
        recorder.close()
        db = sqlite3.connect(str(self.path), isolation_level=None)
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        db.execute("PRAGMA journal_mode=DELETE").fetchall()
        db.close()
        self.sample = self.path.read_bytes()
        return self

    def make(self, rng: Random) -> tuple[bytes, list[str], bool]:
        kind = rng.randrange(10)
        others = [b"PK\x03\x04", b"<html>"]
        data = self._with_odd_values(rng) if kind < 6 else files.damaged(rng, self.sample, others)
        return data, rng.choice(self.FORMS), rng.random() < 0.3

    def _with_odd_values(self, rng: Random) -> bytes:
        self._remove()
        self.path.write_bytes(self.sample)
        db = sqlite3.connect(str(self.path), isolation_level=None)
        for pragma in ("journal_mode=OFF", "synchronous=OFF", "ignore_check_constraints=ON"):
            db.execute(f"PRAGMA {pragma}").fetchall()
        for _ in range(rng.choice((1, 1, 3))):
            table = rng.choice(("execution_history", "execution_history", "execution_facts"))
            names = [row[1] for row in db.execute(f"PRAGMA table_info({table})")]
            value = rng.choice(self._ODD)
            cast = "CAST(? AS TEXT)" if isinstance(value, bytes) and rng.random() < 0.7 else "?"
            step = rng.choice((1, 2))
            attempt(db, f"UPDATE {table} SET {rng.choice(names)} = {cast} WHERE rowid % ? = 0", (value, step))
        if rng.random() < 0.1:
            change = ("DROP TABLE execution_facts", "DELETE FROM execution_history",
                      "ALTER TABLE execution_facts ADD x", "DROP TABLE execution_history",
                      "ALTER TABLE execution_history RENAME COLUMN status TO s",
                      "ALTER TABLE execution_facts RENAME COLUMN logs TO s")  # fmt: skip
            attempt(db, rng.choice(change))
        db.close()
        return self.path.read_bytes()

    def _remove(self) -> None:
        for name in ("execution_history.db", "execution_history.db-wal", "execution_history.db-shm"):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name)

    def run(self, case: tuple[bytes, list[str], bool]) -> None:
        data, words, is_terminal = case
        self._remove()
        self.path.write_bytes(data)
        code, out, _ = self.command(words, is_terminal)
        if code not in (0, 1):
            raise Wrong(f"exit code {code} for a history file")
        if code == 0 and "--json" in words:
            json.loads(out)
        if code == 0 and "--jsonl" in words:
            for line in out.splitlines():
                json.loads(line)


AGENT = """\
from __future__ import annotations
import json
from dataclasses import dataclass
from user_agent_sdk import user_agent, register_user_agent, NonRetryableException

LIMIT = 10

@dataclass
class Answer:
    total: int = 0

@user_agent(agent_id="reader", poll_interval=500, workers=2)
def reader(input_data, logger):
    if input_data is None:
        raise NonRetryableException("no input")
    return Answer(total=len(input_data))

async def other(task, count: int = 3, *, name="x"):
    return {"name": name, "count": count}

register_user_agent(other, agent_id="other", timeout_s=2.5)
"""
SCRIPTS = (
    AGENT,
    "from user_agent_sdk import user_agent\n\n@user_agent\ndef work(input_data): return input_data\n",
    "# -*- coding: latin-1 -*-\nfrom user_agent_sdk import user_agent\n\n@user_agent()\ndef work(é=1): return 'é'\n",
    'import user_agent_sdk\n\n@user_agent_sdk.user_agent("a", domain="d")\nasync def work(*, x): return None\n',
)


class CommandLines(_Commands):
    """Whatever is typed ends in an answer or in an error of the table, and never in a bug's.

    A worker, a sandbox and a connection are where this target ends: behind them waits the world.
    """

    name = "commands"
    SAMPLES = (
        "run agent.py -w4 --poll-interval 200 --drain-timeout 5 --conductor http://h:8080/api",
        "run -p agent.py -c credentials.json -r -db x.db --redact a --redact b --max-tasks 3 --journal j",
        "dev agent.py --watch lib --domain d", "dev agent.py --sandbox -rd",
        'invoke agent.py -i {"num1":2} -t 3 --json', "invoke agent.py -i - -a reader", "invoke agent.py --replay last",
        "sandbox agent.py --port 0 --credentials c.json", "sandbox --json",
        "submit -i {} -a reader --url http://127.0.0.1:9 --wait 0", "init new --force", "init",
        "check agent.py --offline --json", "check -c credentials.json", "history -n5 -a x -u y --since 2h --jsonl",
        "history -n=5 -db=x.db --status error -e out.csv", "history --html out.html", "history --follow",
        "hd last --json", "history-detail 3 -db x", "history-prune --older-than 30d --dry-run",
        "journal show task-1 --journal j", "journal list --json", "version --json", "--version", "-h", "run -h",
        "run agent.py --status-port 9000 --log-format json -l DEBUG --color always -q --no-debug",
        "run agent.py --task-timeout 3 --worker-id me --journal-sync full --no-journal",
    )  # fmt: skip

    def __enter__(self) -> CommandLines:
        super().__enter__()
        credentials = {**files.CredentialsFiles.SAMPLES[1], "caFile": None}
        self.given = {"agent.py": AGENT, "credentials.json": json.dumps(credentials)}
        self.words = sorted({word for sample in self.SAMPLES for word in sample.split()})
        for what, name, stand_in in (
            (Runner, "run", lambda self: 0),
            (dev.Session, "run", lambda self: self._prepared() and 0),
            (history, "_follow", lambda *_: 0),
            (server, "Sandbox", _no_port),
            (server, "Inside", _no_port),
            (connection, "_connect", files.refused),
            (ssl, "create_default_context", lambda **_: ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)),
        ):
            self.enter_context(mock.patch.object(what, name, stand_in))
        return self

    def make(self, rng: Random) -> list[str]:
        while True:
            words = rng.choice(self.SAMPLES).split()
            for _ in range(rng.choice((0, 1, 1, 2, 3))):
                self._change(rng, words)
            if all(_stays_here(word) for word in words):
                return words

    def _change(self, rng: Random, words: list[str]) -> None:
        place = rng.randrange(len(words) + 1)
        kind = rng.randrange(6)
        if kind == 0 or place == len(words):
            words.insert(place, rng.choice((rng.choice(self.words), rng.choice(mutate.ODD_TEXTS))))
        elif kind == 1:
            del words[place]
        elif kind == 2:
            words[place] = rng.choice(self.words)
        elif kind == 3:
            words.insert(place, rng.choice(words))
        else:
            words[place] = mutate.text(rng, words[place])

    def run(self, case: list[str]) -> None:
        for path in self.folder.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        for name, text in self.given.items():
            (self.folder / name).write_text(text, "utf-8")
        # -d asks for the traceback that everybody else must not see
        debug = any(word == "--debug" or re.match("-[a-z]*d", word) for word in case)
        without = mock.patch("user_agent_sdk.cli.terminal.traceback", **{"format_exception.return_value": ""})
        with without if debug else contextlib.nullcontext():
            self.command(case)


def _no_port(*_: object, **__: object) -> Any:
    raise UserAgentError("there is no port for a sandbox here", code="io")


def _stays_here(word: str) -> bool:
    """No path out of the folder, no address but loopback's, nothing that an operating system would refuse."""
    try:
        os.fsencode(word)
    except UnicodeEncodeError:
        return False
    return not _REFUSED.search(word) and ("/" not in word or bool(_ADDRESS.match(word)))


_REFUSED = re.compile(r"[\0~\\]|\.\.")
_ADDRESS = re.compile(r"[^/]*[a-z]://[^/]")  # as a path it is one below the folder

# The only names that a mutated script may use; one that uses another is not run.
_NAMES = {
    "json", "dataclass", "dataclasses", "user_agent", "register_user_agent", "user_agent_sdk", "LIMIT",
    "NonRetryableException", "Answer", "total", "reader", "other", "work", "input_data", "logger", "task",
    "count", "name", "len", "x",
    "int", "annotations", "__future__", "é", "agent_id", "poll_interval", "workers", "timeout_s", "domain", "None",
}  # fmt: skip
_MODULES = {"__future__", "json", "dataclasses", "user_agent_sdk"}
_NODES = (
    ast.Module, ast.Import, ast.ImportFrom, ast.alias, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef,
    ast.arguments, ast.arg, ast.Name, ast.Attribute, ast.Constant, ast.Call, ast.keyword, ast.Assign, ast.AnnAssign,
    ast.Return, ast.If,
    ast.Raise, ast.Compare, ast.Is, ast.Expr, ast.Dict, ast.List, ast.Tuple, ast.UnaryOp, ast.USub, ast.Pass, ast.Load,
    ast.Store,
)  # fmt: skip


def is_harmless(script: bytes) -> bool:
    """Whether nothing but the names and forms of the samples is in it; what is no Python runs nothing."""
    try:
        tree = ast.parse(script)
    except (SyntaxError, ValueError, LookupError):
        return True
    except (RecursionError, MemoryError):
        return False
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module not in _MODULES or node.level):
            return False
        if isinstance(node, ast.Import) and not _MODULES.issuperset(alias.name for alias in node.names):
            return False
        used = [getattr(node, field, None) for field in ("id", "attr", "arg", "name", "asname", "module")]
        if not isinstance(node, _NODES) or any(name is not None and name not in _NAMES for name in used):
            return False
    return True


class AgentFiles(Target):
    """A script is loaded, or fails with an AgentError; what it began is then forgotten."""

    name = "agents"

    def __enter__(self) -> AgentFiles:
        super().__enter__()
        self.enter_context(_python_as_it_is())
        self.path = self.folder / "agent_fuzzed.py"
        return self

    def make(self, rng: Random) -> bytes:
        script = rng.choice(SCRIPTS)
        encoding = "latin-1" if "latin-1" in script else "utf-8"
        while True:
            if rng.random() < 0.6:
                lines = script.splitlines(keepends=True)
                for _ in range(rng.choice((1, 1, 2))):
                    self._change(rng, lines)
                case = "".join(lines).encode(encoding, "surrogatepass" if encoding == "utf-8" else "replace")
            else:
                case = mutate.raw(rng, script.encode(encoding), [other.encode() for other in SCRIPTS])
            if is_harmless(case):
                return case

    def _change(self, rng: Random, lines: list[str]) -> None:
        place = rng.randrange(len(lines))
        kind = rng.randrange(8)
        if kind == 0:
            del lines[place]
            lines.append("\n")
        elif kind == 1:
            lines.insert(place, rng.choice(lines))
        elif kind == 2:
            lines[place] = rng.choice((" ", "\t", "    ")) + lines[place]
        elif kind == 3:
            lines[place] = mutate.text(rng, lines[place])
        elif kind == 4:
            odd = rng.choice(("-1", "0", "None", "''", "[]", "{}", "1e999", "LIMIT", "len", "b''", "reader", "[" * 90))
            old = rng.choice(("500", "2", '"reader"', "2.5", '"other"', "3", '"a"', "None", "0"))
            lines[:] = "".join(lines).replace(old, odd).splitlines(keepends=True)
        elif kind == 5:
            old, new = rng.choice((
                ("def ", "async def "), ("async ", ""), ("@user_agent()", "@user_agent"),
                ("(input_data", "(*input_data"),
                ("(task", "(**task"), ("name=", "task="), ("return", "raise"), ("reader", "other"), ("Answer", "LIMIT"),
            ))  # fmt: skip
            lines[:] = "".join(lines).replace(old, new).splitlines(keepends=True)
        elif kind == 6:
            coding = rng.choice(("utf-7", "no-such", "rot13", "utf-16", "cp1252"))
            lines[0] = rng.choice((f"# coding: {coding}\n", "\ufeff"))
        else:
            lines.insert(place, "x = " + "[" * rng.choice((5, 90, 250)) + "\n")

    def run(self, case: bytes) -> None:
        self.path.write_bytes(case)
        REGISTRY.clear()
        try:
            found = loader.identify(loader.load(self.path), "default")
        except (AgentError, ConfigError) as error:
            if error.exit_code not in (3, 6) or not error.message:
                raise Wrong(f"exit code {error.exit_code}: {error.message!r}") from error
            if "user_agent_sdk/loader.py" in error.message:
                raise Wrong(f"our own lines are in {error.message}") from error
            return
        if not found or not all(agent.agent_id for agent in found):
            raise Wrong(f"loaded as {found}")


def attempt(db: sqlite3.Connection, statement: str, values: Sequence[Any] = ()) -> None:
    with contextlib.suppress(sqlite3.Error):
        db.execute(statement, values)

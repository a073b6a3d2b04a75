# SPDX-License-Identifier: Apache-2.0
"""``useragent dev AGENT``: as ``run``, but each save loads the agent afresh.

All in one process: the old worker drains in its thread while a new one starts with the new code. Files
are watched by their times alone, so a clean install has all that it takes.
"""

from __future__ import annotations

import importlib
import logging
import os
import queue
import sys
import time
from argparse import Namespace
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from copy import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import loader
from ..agents import REGISTRY
from ..conductor.wire import LONG_POLL_MAX_MS
from ..errors import EXIT_INTERRUPTED, EXIT_OK, EXIT_UNDELIVERED, UserAgentError
from ..logs import counted
from ..settings import Settings
from ..worker import signals
from ..worker.runner import Runner
from ..worker.running import hooks
from ..worker.running.context import AGENT_LOG
from . import embedded, options, run, terminal
from .options import Parser
from .watch import Watch

if TYPE_CHECKING:
    from ..sandbox.server import Sandbox

logger = logging.getLogger(__name__)

# A stop waits so long for a poll that the server holds: a poll that is cut off would still take a task.
STOP_S = LONG_POLL_MAX_MS / 1000 + 1.0
SANDBOX_STOP_S = 1.0  # an embedded sandbox: its tasks end with this process
ENDED_S = 10.0


def configure(parser: Parser) -> None:
    parser.show_examples("agent.py --sandbox", "agent.py -c credentials.json --watch ../lib")
    parser.in_order = ("agent", "config_file", "workers", "log_level", "debug")
    options.add_agent(parser)
    group = parser.titled("development")
    group.add_argument("--watch", action="append", metavar="DIR", default=[], help="load afresh for changes there too")
    group.add_argument("--sandbox", action="store_true", help="on an embedded platform: no account needed")


def main(args: Namespace) -> int:
    with ExitStack() as stack:
        sandbox = None
        if args.sandbox:
            from ..sandbox import page, server

            try:
                sandbox = stack.enter_context(server.Sandbox(embedded.SANDBOX_PORT))
            except UserAgentError:  # somebody has the port
                sandbox = stack.enter_context(server.Sandbox())
            page.install(sandbox, (), (), {})
            stack.enter_context(page.Listener(sandbox.engine, AGENT_LOG))
        session = Session(args, options.script_of(args), sandbox)
        stack.callback(setattr, sys, "dont_write_bytecode", sys.dont_write_bytecode)
        sys.dont_write_bytecode = True  # two saves within a second would look the same to a .pyc file
        return session.run()


class Session:
    """Loads, watches, loads again, until told to stop. Owned by the main thread."""

    def __init__(self, args: Namespace, script: Path, sandbox: Sandbox | None) -> None:
        self._args, self._script, self._sandbox = args, script, sandbox
        self._folder = Path.cwd()
        self._numbers: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._watch = Watch([Path(os.path.realpath(script)).parent, *map(Path, args.watch)])
        self._on_execution: Any = None
        self._worker: embedded.Background | None = None
        self._retired: list[embedded.Background] = []  # draining
        self._is_first, self._is_loading = True, False
        self._announced: Sequence[object] = ()

    def run(self) -> int:
        """Raises what is wrong from the start, but for the agent's code: that can be mended."""
        settings = self._settings = self._prepared()
        # Interrupt the loading of a script; if it swallows KeyboardInterrupt, the number in the queue still ends us.
        recorded = options.recording(settings)
        with signals.into(self._numbers, breaks=lambda: self._is_loading), recorded as self._on_execution:
            try:
                self._load()
                with terminal.waiting(settings, self._waits):
                    while names := self._await_change():
                        self.reload(names)
            except KeyboardInterrupt:
                with suppress(queue.Empty):
                    self._numbers.get_nowait()
            except BaseException:
                self._close()
                raise
            code = self._close()
        return run.end(code, [worker.runner for worker in self._retired])

    def reload(self, names: Sequence[str]) -> None:
        """Replace the worker by one with the code as it is now; ``names`` are the files that changed."""
        began = time.monotonic()
        self._is_first = False
        self._retire()
        self._watch.forget_modules()
        if self._load():
            found = [_short(name, self._folder) for name in names]
            more = f" and {len(found) - 3} more" if len(found) > 3 else ""
            own = [_short(self._script.resolve(), self._folder)]
            why = "" if found == own else f": {', '.join(found[:3])}{more} changed"
            took_s = time.monotonic() - began
            logger.info("Reloaded %s (%.1f s)%s", self._script, took_s, why, extra={"action": "reload"})

    def _load(self) -> bool:
        """Load the agent and start its worker. An error of the script is shown, and the next save is awaited."""
        for registered in (REGISTRY, hooks.STARTS, hooks.STOPS):
            registered.clear()
        importlib.invalidate_caches()
        with suppress(OSError):
            os.chdir(self._folder)  # which the script may have left
        try:
            if not self._is_first:
                self._settings = self._prepared()
            settings = self._settings
            self._is_loading = True
            try:
                agents = loader.load(self._script)
            finally:
                self._is_loading = False
            submits = []
            if self._sandbox is None:
                agents = loader.identify(agents, settings.agent_id)
            else:
                agents = embedded.named(agents, settings)
                settings = settings.on_sandbox(self._sandbox.credentials(""))
                submits = embedded.show_page(self._sandbox, agents, self._script)
            runner = Runner(settings, agents, on_execution=self._on_execution, watch=run.watch(settings))
        except UserAgentError as error:
            if self._is_first and error.code == "agent-missing":
                raise
            self._show(error)
            return False
        announced = [settings.service_url, *((agent.name, settings.resolve(agent)) for agent in agents)]
        if announced != self._announced:
            if self._sandbox is not None and not self._announced:
                terminal.note(f"sandbox and page at {self._sandbox.origin}; give it a task from another terminal:")
                for command in submits:
                    terminal.note(f"  {command}")
            self._announced = announced
            run.announce(settings, agents)
        self._worker = embedded.Background("dev-worker", runner)
        self._worker.start()
        return True

    def _prepared(self) -> Settings:
        settings = options.prepare(copy(self._args), self._script, target=self._sandbox is None)
        folders = [os.environ.get("CREDENTIALS_DIRECTORY"), ".", self._script.parent]
        files = [settings.config_file, settings.ca_file, settings.client_cert, settings.client_key]
        files += [Path(folder) / "credentials.json" for folder in folders if folder]
        self._watch.add(file for file in files if file and self._sandbox is None)
        return settings

    def _show(self, error: UserAgentError | None) -> None:
        if error is not None:
            terminal.fail(error, [], [self._args])
        terminal.note(f"{self._script}: waiting for the next save")

    def _await_change(self) -> list[str]:
        """The files that changed, or none when the session is over."""
        while self._goes_on():
            try:
                self._numbers.get(timeout=self._watch.pause_s)
                break
            except queue.Empty:
                if names := self._watch.changed():
                    return names
        return []

    def _goes_on(self) -> bool:
        """False when the worker has ended by itself, as after --max-tasks; but not for a function that is stuck."""
        worker = self._worker
        if worker is None or worker.is_alive():
            return True
        error = worker.error
        if error is None and not worker.runner.has_stragglers:
            return False
        self._worker = None
        if error is None:
            self._retired.append(worker)
        elif not isinstance(error, UserAgentError) or (self._is_first and error.code != "agent-start"):
            raise error
        self._show(error)
        return True

    def _retire(self) -> None:
        worker, self._worker = self._worker, None
        self._retired = [old for old in self._retired if old.is_alive() or old.runner.has_stragglers]
        if worker is not None:
            worker.runner.stop()
            worker.runner.watch.close()  # the next worker wants the status port
            self._retired.append(worker)

    def _waits(self) -> str | None:
        if running := sum(worker.runner.running for worker in self._retired if worker.is_alive()):
            return f"the old version still runs {counted(running, 'task')}"
        worker = self._worker
        return worker.runner.watch.sentence(worker.runner) if worker and worker.is_alive() else None

    def _close(self) -> int:
        """End every worker within a few seconds; the exit code."""
        self._retire()
        for worker in self._retired:
            worker.runner.stop(SANDBOX_STOP_S if self._sandbox else STOP_S)
        hooks_s = max((worker.runner.hooks.stop_s for worker in self._retired), default=0.0)
        deadline = time.monotonic() + ENDED_S + hooks_s
        while (left := [worker for worker in self._retired if worker.is_alive()]) and time.monotonic() < deadline:
            left[0].join(0.05)
            if signals.is_second(self._numbers):
                os._exit(EXIT_INTERRUPTED)
        logger.info("Stopped", extra={"action": "stopped"})
        codes = [EXIT_UNDELIVERED if worker.code is None else worker.code for worker in self._retired]
        return EXIT_OK if self._sandbox else max(codes, default=EXIT_OK)


def _short(path: str | Path, folder: Path) -> str:
    with suppress(ValueError):  # on Windows: on another drive than the folder
        return os.path.relpath(path, folder)
    return str(path)

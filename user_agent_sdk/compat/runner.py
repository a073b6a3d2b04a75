# SPDX-License-Identifier: Apache-2.0
"""Workers and command lines started from Python, as 0.2.0 had them: on the same worker that ``run`` starts."""

from __future__ import annotations

import logging
import os
import shlex
import socket
import sys
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import loader, logs, settings
from ..agents import REGISTRY, Agent
from ..cli.commands import fill_streams, main
from ..cli.options import recording
from ..cli.run import announce, end, watch
from ..cli.terminal import fail
from ..conductor.wire import Task
from ..credentials import DEFAULT_BASE_URL, derived
from ..errors import UserAgentError
from ..worker.runner import Runner
from ..worker.running.execute import execute
from .models import TaskExecLog, TaskResult

_PACKAGE = __name__.rpartition(".compat.")[0]


class RunnerConfig:
    """``places``: the rest in the order of 0.3.0, or of 0.2.0: service_url, auth_url, agent_id, debug."""

    def __init__(self, client_id: str, client_secret: str, *places: Any, base_url: str | None = None,
                 agent_id: str | None = None, debug: bool = False, service_url: str | None = None,
                 auth_url: str | None = None) -> None:  # fmt: skip
        if not client_id or not client_secret:
            raise ValueError("Client ID and Client Secret must be provided.")
        self.client_id, self.client_secret, self.agent_id, self.debug = client_id, client_secret, agent_id, debug
        self.base_url, self.service_url, self.auth_url = base_url, service_url, auth_url
        is_older = len(places) > 1 and "://" in (places[1] or "")
        names = ("agent_id", "debug", "service_url", "auth_url")
        vars(self).update(zip((*names[2:], *names[:2]) if is_older else ("base_url", *names), places))
        if not (self.base_url or self.service_url or self.auth_url):
            self.base_url = DEFAULT_BASE_URL
        self.base_url = self.base_url and self.base_url.rstrip("/")
        with suppress(ValueError):  # which the settings say better
            if not (self.service_url and self.auth_url):
                made = derived(self.base_url or DEFAULT_BASE_URL)
                self.service_url, self.auth_url = self.service_url or made[0], self.auth_url or made[1]


@dataclass(eq=False)
class UserAgentRunner:
    """``config``, or a credentials file, found as for ``run`` when none is named. ``abort_signal`` makes it drain."""

    config: RunnerConfig | None = None
    config_file: str | None = None
    debug: bool | None = None
    workers: int | None = None
    record_logs: bool = False
    abort_signal: threading.Event | None = None

    def __post_init__(self) -> None:
        self.abort_signal = self.abort_signal or threading.Event()
        self._found: dict[str, Any] = {}  # the config as it was found: what a script changes in it is a RunnerConfig's
        own = None
        with suppress(UserAgentError):  # said by run(): a script makes its runner when it is loaded, by check or a test
            own = self._settings() if self.config is None else None
        if own is not None and own.client_id and own.client_secret:  # None for a Conductor
            places = own.service_url, own.auth_url, own.agent_id
            self.config = RunnerConfig(own.client_id, own.client_secret, *places)
            self._found.update(vars(self.config))

    def run(self) -> None:
        """Run the registered agents until Ctrl+C, SIGTERM or ``abort_signal``, and drain.

        Raises what is wrong with the agents or the configuration, and SystemExit when not all was delivered.
        """
        chosen = self._settings()
        agents = loader.identify(list(REGISTRY), chosen.agent_id)
        own = logging.getLogger(_PACKAGE).level if chosen.sources["log_level"] == "default" else logging.NOTSET
        logs.setup(own or chosen.log_level, chosen.log_format, chosen.secrets, sys.stderr)
        logs.settle()
        announce(chosen, agents)
        is_main = threading.current_thread() is threading.main_thread()
        with recording(chosen) as on_execution:
            runner = Runner(chosen, agents, on_execution=on_execution, watch=watch(chosen), owns_process=is_main)
            threading.Thread(target=self._stop, args=(runner,), name="abort-signal", daemon=True).start()
            code = runner.run()
        if end(code, [runner]):
            raise SystemExit(code)

    def _stop(self, runner: Runner) -> None:
        pause = threading.Event()
        while not (self.abort_signal and self.abort_signal.is_set()):  # a script's own need have nothing else
            pause.wait(0.3)
        runner.stop()

    def _settings(self) -> settings.Settings:
        config, environ = self.config, dict(os.environ)
        flags = {"config_file": self.config_file, "workers": None if self.workers is None else str(self.workers)}
        flags.update(record="true" if self.record_logs else None, debug="true" if self.debug else None)
        if config is None or (self._found and vars(config) == self._found):
            return settings.load(flags, environ=environ)
        environ.pop("CONDUCTOR_SERVER_URL", None)
        names = ("client_id", "client_secret", "base_url", "service_url", "auth_url", "agent_id")
        given = {name: str(getattr(config, name)) for name in names if getattr(config, name, None)}
        environ.update({f"USERAGENT_{name.upper()}": text for name, text in given.items()})
        chosen = settings.load(flags, environ=environ)
        return chosen._replace(sources={**chosen.sources, **dict.fromkeys(given, "RunnerConfig")})


@dataclass(eq=False)
class AgentWorker:
    """Runs one function for tasks that somebody else has polled."""

    task_def_name: str
    execute_function: Callable[..., Any]
    poll_interval: float = 1000
    domain: str | None = None
    worker_id: str | None = None
    index: int = 0
    record_logs: bool = False

    def __post_init__(self) -> None:
        self.task_definition_name = self.task_def_name

    def get_identity(self) -> str:
        return self.worker_id or socket.gethostname()

    def execute(self, task: Task) -> TaskResult:
        agent = Agent(self.execute_function, self.task_definition_name)
        done = vars(execute(agent, task, self.get_identity(), stopping=threading.Event()))
        done["logs"] = [TaskExecLog(line.log, task.task_id, line.created_ms) for line in done["logs"]]
        return TaskResult(**{name: done[name] for name in TaskResult.__dataclass_fields__ if name in done})


def app(tokens: str | Iterable[str] | None = None, **options: Any) -> None:
    """Run a command line (default: the process's) and end the process with its exit code (SystemExit)."""
    sys.exit(main(shlex.split(tokens) if isinstance(tokens, str) else None if tokens is None else [*tokens]))


def run_command(agent_spec: str, config_file: str | None = None, debug: bool = False,
                abort_signal: threading.Event | None = None, workers: int | None = None,
                record_logs: bool = False) -> None:  # fmt: skip
    """Load an agent's script and run it until Ctrl+C, SIGTERM or ``abort_signal``; SystemExit when that fails."""
    fill_streams()
    try:
        REGISTRY[:] = loader.load(Path(agent_spec))  # the calling script itself has registered its agents already
        UserAgentRunner(None, config_file, debug, workers, record_logs, abort_signal).run()
    except UserAgentError as error:
        sys.exit(fail(error, []))

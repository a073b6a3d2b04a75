# SPDX-License-Identifier: Apache-2.0
"""``useragent invoke AGENT``: one task, by the real worker, on a platform of its own in this process."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import time
from argparse import Namespace
from collections.abc import Sequence
from typing import Any, cast

from .. import loader
from ..agents import Agent
from ..conductor.client import Client
from ..conductor.paths import AKABOT
from ..errors import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_OK, UsageError, UserAgentError
from ..logs import counted
from ..sandbox import server
from ..sandbox.tasks import Execution
from ..settings import Settings
from ..values import number, parsed
from ..worker.runner import Runner
from . import embedded, options, terminal
from .options import Parser

RETRIES = 2  # the platform's default: three tries in all
STOP_S = 5.0  # for a worker whose only task has ended


def configure(parser: Parser) -> None:
    parser.show_examples("agent.py -i input.json", "agent.py --replay 17")
    options.add_agent(parser)
    group = parser.titled("task")
    group.add_argument("-i", "--input", metavar="INPUT", help="a file, - for stdin, or JSON (default: {})")
    group.add_argument("--replay", metavar="ID", help="the input of a recorded execution: its number, or last")
    group.add_argument("-t", "--timeout", metavar="S", default="60", help="longest wait for the end (default: 60)")
    more = "also status, logs, reason, attempts and duration (s)"
    parser.titled("output").add_argument("--json", action="store_true", help=more)


def main(args: Namespace) -> int:
    script = options.script_of(args)
    timeout_s = parsed(number(0.001, 10**6, "seconds"), args.timeout, "--timeout", UsageError)
    settings = options.prepare(args, script, target=False)
    if args.replay is None:
        given, ran = embedded.read_input("{}" if args.input is None else args.input), None
    elif args.input is None:
        given, ran = _recorded(settings, args.replay)
    else:
        raise UsageError("--input and --replay exclude each other")
    if not settings.debug and settings.sources["log_level"] == "default":
        # The worker's own lines say nothing about the task, unless something is wrong.
        package = __name__.rpartition(".cli.")[0]
        logging.getLogger(package).setLevel(logging.WARNING)
        logging.getLogger(f"{package}.agent").setLevel(settings.log_level)
    started = time.monotonic()
    with contextlib.redirect_stdout(sys.stderr):  # a print() of the agent's is not the answer
        agent = pick(loader.load(script), settings, ran)
        try:
            execution = _run_once(settings, agent, given, timeout_s)
        except KeyboardInterrupt:
            os._exit(EXIT_INTERRUPTED)  # a slot's function may still run, and Python would wait for its thread
    return _answer(args, agent, execution, time.monotonic() - started)


def _recorded(settings: Settings, text: str) -> tuple[dict[str, Any], str | None]:
    """The input of a recorded execution, and the id of the agent that ran it. Raises UserAgentError."""
    from ..history.store import History, parse
    from .history_detail import found

    with History(settings.db_path, settings.names_db) as history:
        record = found(history, text)
    given, altered = parse(record.input_data), (record.altered or "").split()
    if not isinstance(given, dict) or "input-cut" in altered:
        what = "too large to be kept whole" if isinstance(given, dict) else "not kept as a JSON object"
        raise UsageError(f"execution {record.id} can't be run again: its input was {what}")
    if "input-blanked" in altered:
        terminal.note(f"execution {record.id} was recorded with --redact: its input holds *** where something was")
    return given, record.user_agent_id


def pick(agents: Sequence[Agent], settings: Settings, ran: str | None) -> Agent:
    """The agent to run, with an id: of several agents the one that -a names, else the one with the id ``ran``.

    Raises UsageError when it is not clear which."""
    wanted = settings.agent_id if settings.sources["agent_id"].startswith("-") else ran
    if len(agents) > 1:
        found = [agent for agent in agents if wanted is not None and wanted in (agent.agent_id, agent.name)]
        if len(found) != 1:
            names = ", ".join(f"{agent.name} ({agent.agent_id})" if agent.agent_id else agent.name for agent in agents)
            what = f"no agent here is called {wanted!r}" if wanted else f"the script has {len(agents)} agents"
            raise UsageError(what, hints=[f"choose one with -a: {names}"])
        agents = found
    return embedded.named(agents, settings)[0]


def _run_once(settings: Settings, agent: Agent, given: dict[str, Any], timeout_s: float) -> Execution:
    """The execution when it has ended, or still RUNNING after ``timeout_s``."""
    agent_id, sandbox = str(agent.agent_id), server.Inside()
    client = Client(cast(Any, sandbox), AKABOT, "/api", None)
    settings = settings._replace(journal_dir=None, status_port=None, max_tasks=None)
    with options.recording(settings) as on_execution:
        execution_id = sandbox.submit(agent_id, given, domain=settings.resolve(agent).domain, retries=RETRIES)
        runner = Runner(settings, [agent], on_execution=on_execution, client=client)
        worker = embedded.Background("invoke-worker", runner)
        worker.start()
        deadline = time.monotonic() + timeout_s
        execution = sandbox.wait(execution_id, 0)
        until = time.strftime("%H:%M:%S", time.localtime(time.time() + timeout_s))
        with terminal.waiting(settings, lambda: f"{agent.name} still runs; it is waited for until {until} (see -t)"):
            while execution.status == "RUNNING" and worker.is_alive() and time.monotonic() < deadline:
                # In pieces: Windows does not interrupt a lock wait for Ctrl+C.
                execution = sandbox.wait(execution_id, min(0.5, deadline - time.monotonic()))
        if worker.error:
            raise worker.error
        if execution.status == "RUNNING" and not worker.is_alive():  # all slots are stuck: nobody takes the next try
            execution = sandbox.wait(execution_id, 0)
            tried = [attempt for attempt in execution.attempts if attempt.reason]
            if tried and execution.status == "RUNNING":
                execution.status, execution.reason, execution.attempts = "FAILED", tried[-1].reason, tried
                return execution
        if execution.status != "RUNNING":
            runner.stop()
            sandbox.engine.close()  # no poll need be waited for
            worker.join(STOP_S + runner.hooks.stop_s)
        return execution


def _answer(args: Namespace, agent: Agent, execution: Execution, duration_s: float) -> int:
    is_completed = execution.status == "COMPLETED"
    if args.json:
        logs = [line.log for attempt in execution.attempts for line in attempt.logs]
        told = {"status": execution.status, "output": execution.output, "logs": logs, "reason": execution.reason}
        terminal.write_json({**told, "attempts": len(execution.attempts), "duration": round(duration_s, 3)})
    elif is_completed:
        terminal.write_json(execution.output)
    if is_completed:
        return EXIT_OK
    if execution.status != "RUNNING":
        what = f"{agent.name} failed after {counted(len(execution.attempts), 'attempt')}: {execution.reason}"
        raise UserAgentError(what, code="task-failed")
    what = f"{agent.name} had not ended after {args.timeout} s"
    error = UserAgentError(what, code="task-failed", hints=["-t S waits longer"])
    terminal.fail(error, ["--json"] if args.json else [], [args])
    os._exit(EXIT_FAILED)  # a slot's function still runs, and Python would wait for its thread

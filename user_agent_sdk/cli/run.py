"""``useragent run AGENT``, and ``user_agent_sdk.run()`` in a script."""

from __future__ import annotations

import logging
import os
import sys
import time
from argparse import Namespace
from collections.abc import Sequence

from .._version import __version__
from ..agents import Agent
from ..errors import UsageError
from ..logs import counted
from ..settings import Settings
from . import app, options, waiting
from .options import Parser

logger = logging.getLogger(__name__)


def configure(parser: Parser) -> None:
    options.add_agent(parser)


def main(args: Namespace) -> int:
    script = options.script_of(args)
    settings = options.prepare(args, script)
    from .. import loader
    from ..history.recorder import recording
    from ..worker.runner import Runner  # before the agent's folder is on sys.path: an email.py there is not ours

    agents = loader.identify(loader.load(script), settings.agent_id)
    announce(settings, agents)
    with recording(settings.record, settings.db_path, settings.redact) as on_execution:
        runner = Runner(settings, agents, on_execution=on_execution, owns_process=True)
        with waiting.shown(settings, lambda: runner.waits().sentence(time.monotonic(), time.time())):
            code = runner.run()
    if runner.has_stragglers:  # Python would wait for the thread of a function that never ends
        logging.shutdown()
        os._exit(code)
    return code


def run_calling_script(argv: Sequence[str] | None) -> int:
    script = getattr(sys.modules["__main__"], "__file__", None)
    if script is None:
        raise UsageError("user_agent_sdk.run() was called outside a script")
    return app.main(["run", *(sys.argv[1:] if argv is None else argv), "-p", script])


def announce(settings: Settings, agents: Sequence[Agent]) -> None:
    """Say in the log what starts, against which platform, and who said so."""
    source = settings.sources["service_url"]
    said_by = "the built-in default" if source == "default" else source
    target = f"for {settings.platform} at {settings.service_url} (from {said_by})"
    if source == "embedded platform":  # whose address was just shown
        target = f"on the {source}"
    logger.info("user-agent-sdk %s %s", __version__, target, extra={"action": "start"})
    for agent in agents:
        resolved = settings.resolve(agent)
        logger.info(
            "agent %s, %s%s",
            agent.name,
            counted(resolved.workers, "worker"),
            f", domain {resolved.domain}" if resolved.domain else "",
            extra={"action": "start_agent", "agent_id": resolved.agent_id},
        )

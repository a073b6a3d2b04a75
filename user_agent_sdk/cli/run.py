# SPDX-License-Identifier: Apache-2.0
"""``useragent run AGENT``; and what other commands do to run agents.

What loads an agent imports all that it needs at its top: the script's folder is then not yet on sys.path, and an
email.py there is not ours.
"""

from __future__ import annotations

import logging
import os
from argparse import Namespace
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from .. import earlier, loader
from .._version import __version__, digest
from ..agents import Agent
from ..logs import counted
from ..settings import Settings
from ..worker import connect  # noqa: F401 - all that a Runner loads for a platform
from ..worker.keeping.journal_file import folder_of
from ..worker.runner import Runner
from ..worker.watched import Watch
from . import options, terminal
from .options import Parser

logger = logging.getLogger(__name__)


def configure(parser: Parser) -> None:
    parser.show_examples("agent.py -w 4 -r", "agent.py --conductor http://host:8080/api -a my_task_type")
    parser.in_order = ("agent", "config_file", "workers", "record", "log_level", "debug")
    options.add_agent(parser)
    parser.set_defaults(more=[])  # all scripts but the first; the agents of all run in one process


def main(args: Namespace) -> int:
    script = options.script_of(args)
    settings = options.prepare(args, script)
    agents = [agent for path in (script, *map(Path, args.more)) for agent in loader.load(path)]
    return work(settings, loader.identify(agents, settings.agent_id))


def work(settings: Settings, agents: Sequence[Agent]) -> int:
    """Run the agents until told to stop; the exit code."""
    announce(settings, agents)
    warn_of_others(settings)
    with options.recording(settings) as on_execution:
        runner = Runner(settings, agents, on_execution=on_execution, watch=watch(settings), owns_process=True)
        if settings.platform == "conductor":
            try:
                from .definitions import register
            except ModuleNotFoundError:
                if settings.register:
                    text = "This copy was made without --register: it is a core copy"
                    logger.warning(text, extra={"action": "register"})
            else:
                register(runner, settings, agents)
        elif settings.register:
            logger.warning("--register is for Conductor: akaBot defines its tasks itself", extra={"action": "register"})
        with terminal.waiting(settings, lambda: runner.watch.sentence(runner)):
            code = runner.run()
    return end(code, [runner])


def watch(settings: Settings) -> Watch:
    """What a Runner takes as ``watch``: it counts where somebody can ask. That of a copy without ``watching/`` says so
    when it is to answer."""
    if settings.status_port is not None:
        with suppress(ModuleNotFoundError):
            from ..watching.status import Status

            return Status()
    return Watch()


def announce(settings: Settings, agents: Sequence[Agent]) -> None:
    """Say in the log what starts, against which platform, and who said so."""
    source = settings.sources["service_url"]
    said_by = "the built-in default" if source == "default" else source
    target = f"for {settings.platform} at {settings.service_url} (from {said_by})"
    if source == "embedded platform":  # whose address was just shown
        target = f"on the {source}"
    if logger.isEnabledFor(logging.INFO):  # the digest reads all files of this copy
        logger.info("user-agent-sdk %s (%s) %s", __version__, digest(), target, extra={"action": "start"})
    for agent in agents:
        own = settings.resolve(agent)
        what = counted(own.workers, "worker") + (f", domain {own.domain}" if own.domain else "")
        logger.info("agent %s, %s", agent.name, what, extra={"action": "start_agent", "agent_id": own.agent_id})


def warn_of_others(settings: Settings) -> None:
    """Say once that the journal holds results that this worker won't deliver: somebody changed the platform's address
    or the credentials, and they would wait for ever."""
    if settings.journal_dir is None:
        return
    from ..worker.keeping.leftovers import leftovers  # needs nothing from outside that is not there already

    own = folder_of(settings.journal_dir, settings.platform, settings.service_url, settings.client_id or "")
    found = leftovers(settings.journal_dir, but=own).rows
    count = sum(left.entry.is_pending and not left.is_in_use for left in found)
    if count:
        text = "%s or started tasks of another platform or client wait in %s, and this worker does not deliver them:"
        text += " start one with those credentials, or look at them with useragent journal"
        logger.warning(text, counted(count, "result"), settings.journal_dir, extra={"action": "results_stranded"})


def end(code: int, runners: Iterable[Runner]) -> int:
    """``code``; the process ends here where Python would wait for the thread of a function that never ends."""
    if any(runner.has_stragglers for runner in runners):
        logging.shutdown()
        os._exit(code)
    return code


def __getattr__(name: str) -> object:  # names that earlier releases had in this module
    return earlier.attribute(__name__, name)

# SPDX-License-Identifier: Apache-2.0
"""A worker for akaBot 2.0 and Conductor workflows: decorate a function, run the file.

    from user_agent_sdk import user_agent

    @user_agent()
    def sum_agent(input_data, logger):
        return input_data["num1"] + input_data["num2"]

``useragent run agent.py`` runs it; so does ``user_agent_sdk.run()`` at the end of the file, under
``if __name__ == "__main__":``.
"""

from . import earlier
from ._version import __version__

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from .agents import register_user_agent, user_agent
    from .conductor.wire import Task, TaskResult, TaskStatus
    from .errors import NonRetryableException, UserAgentError
    from .worker.running.context import current_task

earlier.install()

_HOMES = {
    "user_agent": ".agents",
    "register_user_agent": ".agents",
    "current_task": ".worker.running.context",
    "Task": ".conductor.wire",
    "TaskResult": ".conductor.wire",
    "TaskStatus": ".conductor.wire",
    "NonRetryableException": ".errors",
    "UserAgentError": ".errors",
}

__all__ = [
    "NonRetryableException",
    "Task",
    "TaskResult",
    "TaskStatus",
    "UserAgentError",
    "__version__",
    "current_task",
    "register_user_agent",
    "run",
    "user_agent",
]


def __getattr__(name: str) -> object:
    # On first use: `useragent --version` then imports next to nothing, and a script called json.py
    # in the current folder can't take the place of the standard library's under `python -m`.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = globals()[name] = getattr(import_module(_HOMES[name], __name__), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def run(argv: "Sequence[str] | None" = None) -> None:
    """Run the agents that the calling script has registered, as ``useragent run SCRIPT`` would.

    ``argv``: the command's options (default: those that the script was started with). Returns when
    the worker was stopped and everything is delivered; otherwise ends the process with the command's
    exit code (SystemExit).
    """
    import sys

    from .cli import main
    from .errors import UsageError

    script = getattr(sys.modules["__main__"], "__file__", None)
    if script is None:
        raise UsageError("user_agent_sdk.run() was called outside a script")
    exit_code = main(["run", *(sys.argv[1:] if argv is None else argv), "-p", script])
    if exit_code:
        raise SystemExit(exit_code)

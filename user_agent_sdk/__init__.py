# SPDX-License-Identifier: Apache-2.0
"""A worker for akaBot 2.0 and Conductor workflows: decorate a function, run the file.

    from user_agent_sdk import user_agent

    @user_agent()
    def sum_agent(input_data, logger):
        return input_data["num1"] + input_data["num2"]

``useragent run agent.py`` runs it; so does ``user_agent_sdk.run()`` at the end of the file, under
``if __name__ == "__main__":``.
"""

import sys

if sys.version_info < (3, 9):  # noqa: UP036 - the syntax here is one that such a Python can parse: no annotations
    message = "user_agent_sdk needs Python 3.9 or newer; this is Python {}, {}"
    sys.exit(message.format(sys.version.split()[0], sys.executable))

from . import earlier
from ._version import __version__ as __version__

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence  # noqa: F401 - of a type comment

    from .agents import register_user_agent, user_agent
    from .conductor.wire import Task as Task
    from .conductor.wire import TaskResult as TaskResult
    from .conductor.wire import TaskStatus as TaskStatus
    from .errors import NonRetryableException as NonRetryableException
    from .errors import UserAgentError as UserAgentError
    from .worker.running.context import current_task as current_task
    from .worker.running.hooks import on_start as on_start
    from .worker.running.hooks import on_stop as on_stop

earlier.install()

_HOMES = dict.fromkeys(("user_agent", "register_user_agent"), ".agents")
_HOMES.update(dict.fromkeys(("Task", "TaskResult", "TaskStatus"), ".conductor.wire"))
_HOMES.update(dict.fromkeys(("NonRetryableException", "UserAgentError"), ".errors"))
_HOMES.update(dict.fromkeys(("on_start", "on_stop"), ".worker.running.hooks"), current_task=".worker.running.context")

__all__ = ["register_user_agent", "user_agent"]  # as in 0.3.0: `import *` takes no other name of a script's away


def __getattr__(name):
    # type: (str) -> object
    # On first use: `useragent --version` then imports next to nothing, and under `python -m` no json.py here is taken.
    if name not in _HOMES:
        return earlier.attribute(__name__, name)
    from importlib import import_module

    value = globals()[name] = getattr(import_module(_HOMES[name], __name__), name)
    return value


def __dir__():
    # type: () -> list[str]
    return sorted(set(globals()).union(_HOMES))


def run(argv=None):
    # type: (Sequence[str] | None) -> None
    """Run the agents that the calling script has registered, as ``useragent run SCRIPT`` would.

    ``argv``: the command's options (default: those that the script was started with). Returns when the worker was
    stopped and everything is delivered; otherwise ends the process with the command's exit code (SystemExit)."""
    from .cli import main
    from .errors import UsageError

    script = getattr(sys.modules["__main__"], "__file__", None)
    if getattr(sys, "frozen", False):  # by PyInstaller, say: there is no script, and credentials lie beside the program
        script = sys.executable
    if script is None:
        raise UsageError("user_agent_sdk.run() was called outside a script")
    words = sys.argv[1:] if argv is None else list(argv)
    exit_code = main(["run"] + words + ["-p", script])  # noqa: RUF005 - Python 2 parses this
    if exit_code:
        raise SystemExit(exit_code)

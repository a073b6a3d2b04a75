# SPDX-License-Identifier: Apache-2.0
"""Import paths of 0.2.0 and 0.3.0. Nothing else in the package needs this folder: a copy may leave it out.

``PATHS`` says what leads where: an old module, its names, and the module that has each of them today. A name is
looked up when it is asked for.
"""

from __future__ import annotations

import logging
import sys
from importlib import import_module
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

log = logging.getLogger(__name__)

_PACKAGE = __name__.rpartition(".")[0]

PATHS: dict[str, dict[str, str]] = {
    "decorators": {
        "user_agent": "agents",
        "register_user_agent": "agents",
        "user_agent_registry": "compat.registry",
        "clear_user_agent_registry": "compat.registry",
    },
    "user_agent_runner": {"UserAgentRunner": "compat.runner", "RunnerConfig": "compat.runner"},
    "agent_worker": {"AgentWorker": "compat.runner"},
    "credentials": {"Credentials": "compat.configuration"},
    "cli": {"app": "compat.commands"},
    "cli.cli": {"app": "compat.commands"},
    "cli.run": {"run_command": "compat.commands"},
    "utils.exception": {"NonRetryableException": "errors"},
    "utils.logger": {
        "get_logger": "compat.logger",
        "configure_logging": "compat.logger",
        "LogLevelType": "compat.logger",
    },
    "utils.agent_log_handler": {"AgentLogHandler": "compat.logger"},
    "utils.execution_history": {"ExecutionHistory": "compat.history", "execution_history": "compat.history"},
    "utils.url_generator": {
        "generate_service_url": "compat.configuration",
        "generate_auth_url": "compat.configuration",
    },
}
# Of the package ``conductor``, which those releases brought along: served where no such package can be imported.
CONDUCTOR: dict[str, dict[str, str]] = {
    "conductor.client.http.models": {
        "Task": "conductor.wire",
        "TaskResult": "compat.models",
        "TaskExecLog": "compat.models",
        "TaskResultStatus": "compat.models",
    },
    "conductor.client.http.models.task": {"Task": "conductor.wire"},
    "conductor.client.http.models.task_result": {"TaskResult": "compat.models"},
    "conductor.client.http.models.task_exec_log": {"TaskExecLog": "compat.models"},
    "conductor.client.http.models.task_result_status": {"TaskResultStatus": "compat.models"},
    "conductor.client.worker.worker_interface": {"WorkerInterface": "compat.runner"},
    "conductor.client.configuration.settings.authentication_settings": {
        "AuthenticationSettings": "compat.configuration",
    },
}
ABSENT = {
    "chrome_bridge": "the browser bridge of 0.3.0 is not part of this package",
    "cua_ui": "the browser bridge of 0.3.0 is not part of this package",
}
_ALL = {**{f"{_PACKAGE}.{path}": names for path, names in PATHS.items()}, **CONDUCTOR}


class _Old(ModuleType):
    """An old module: an empty one, whose names are those of the table."""

    def __getattr__(self, name: str) -> Any:
        if name == "__path__":  # read by the import system of every module that it imports from
            raise AttributeError(name)
        return attribute(self.__name__, name)


class _Loader:
    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _Old(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        module.__all__ = [*_ALL.get(module.__name__, ())]  # type: ignore[attr-defined]


def find_spec(name: str) -> ModuleSpec | None:
    """How to import an old module; None for what never was one, and for ``conductor…`` beside another such package.
    Raises ModuleNotFoundError for one that this package leaves out on purpose."""
    root, _, rest = name.partition(".")
    if root != "conductor" and rest in ABSENT:
        raise ModuleNotFoundError(f"{name}: {ABSENT[rest]}", name=name)
    is_package = any(path.startswith(name + ".") for path in _ALL)
    if not is_package and name not in _ALL:
        return None
    if root == "conductor":
        if rest and not isinstance(sys.modules.get(root), _Old):
            return None
        log.debug("%s is served by this SDK: no package conductor is installed", name, extra={"action": "old_import"})
    return ModuleSpec(name, _Loader(), is_package=is_package)  # type: ignore[arg-type]


def attribute(module: str, name: str) -> Any:
    """What ``name`` in an old or a present module leads to. Raises AttributeError."""
    target = _ALL.get(module, {}).get(name)
    if target is None:
        raise AttributeError(f"module {module!r} has no attribute {name!r}")
    return getattr(import_module(f"{_PACKAGE}.{target}"), name)

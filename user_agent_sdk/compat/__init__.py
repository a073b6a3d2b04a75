# SPDX-License-Identifier: Apache-2.0
"""Import paths of 0.2.0 and 0.3.0. Nothing else in the package needs this folder: a copy may leave it out.

``PATHS`` says what leads where: an old module, and the modules of today that have its names. A name is looked up when
it is asked for.
"""

from __future__ import annotations

import logging
import sys
from functools import partial
from importlib import import_module
from importlib.machinery import ModuleSpec
from types import CodeType, ModuleType
from typing import Any

log = logging.getLogger(__name__)

_PACKAGE = __name__.rpartition(".")[0]

_MODEL_NAMES = ("TaskResult", "TaskExecLog", "TaskResultStatus")
_ADDRESSES = ("generate_service_url", "generate_auth_url")
_Table = dict[str, dict[str, tuple[str, ...]]]
PATHS: _Table = {
    "decorators": {
        "agents": ("user_agent", "register_user_agent"),
        "compat.registry": ("user_agent_registry", "clear_user_agent_registry"),
    },
    "user_agent_runner": {
        "compat.runner": ("UserAgentRunner", "RunnerConfig", "AgentWorker"),
        "compat.registry": ("user_agent_registry",),
        "credentials": ("DEFAULT_BASE_URL",),
        "compat.models": ("SERVICE_URL", "AUTH_URL", *_ADDRESSES),
        "compat.logger": ("get_logger", "logger"),
    },
    "agent_worker": {
        "compat.runner": ("AgentWorker",),
        "conductor.wire": ("Task",),
        "errors": ("NonRetryableException",),
        "compat.models": _MODEL_NAMES,
        "compat.history": ("execution_history",),
        "compat.logger": ("AgentLogHandler", "get_logger", "logger"),
    },
    "credentials": {"compat.models": ("Credentials", "generate_auth_url")},
    "cli": {"compat.runner": ("app",)},
    "cli.cli": {
        "compat.runner": ("app",),
        "compat.logger": ("LogLevelType", "configure_logging", "get_logger", "logger"),
    },
    "cli.run": {"compat.runner": ("run_command",), "compat.logger": ("get_logger",)},
    "utils.exception": {"errors": ("NonRetryableException",)},
    "utils.logger": {"compat.logger": ("get_logger", "configure_logging", "LogLevelType")},
    "utils.agent_log_handler": {"compat.logger": ("AgentLogHandler",)},
    "utils.execution_history": {"compat.history": ("ExecutionHistory", "execution_history")},
    "utils.url_generator": {"compat.models": _ADDRESSES},
}
_MODELS = "conductor.client.http.models"
# Of the package ``conductor``, which those releases brought along: served where no such package can be imported.
CONDUCTOR: _Table = {
    _MODELS: {"conductor.wire": ("Task",), "compat.models": _MODEL_NAMES},
    f"{_MODELS}.task": {"conductor.wire": ("Task",), "compat.models": ("TaskResult", "TaskResultStatus")},
    f"{_MODELS}.task_result": {"compat.models": _MODEL_NAMES},
    f"{_MODELS}.task_exec_log": {"compat.models": ("TaskExecLog",)},
    f"{_MODELS}.task_result_status": {"compat.models": _MODEL_NAMES},
}
ABSENT = ("chrome_bridge", "cua_ui")
_ALL = {  # for each module its names, and the module of today that has each
    path: {name: home for home, names in homes.items() for name in names}
    for path, homes in {**{f"{_PACKAGE}.{path}": homes for path, homes in PATHS.items()}, **CONDUCTOR}.items()
}


def _program() -> None:
    """Its code is run as a module's, which this function's globals are not."""
    from importlib import import_module
    from sys import exit

    package = str(__package__).rpartition(".")[0]
    import_module(f"{package}.__main__")  # takes the current folder off the path
    exit(import_module(f"{package}.cli").program())


class _Loader:
    def get_code(self, name: str) -> CodeType:
        """What ``python -m`` runs: of ``cli.cli`` the command line, which 0.2.0 had in no other way."""
        return (_program if name == f"{_PACKAGE}.cli.cli" else lambda: None).__code__

    def create_module(self, spec: ModuleSpec) -> None:
        """None: an empty module, as usual."""

    def exec_module(self, module: ModuleType) -> None:
        vars(module).update(__all__=[*_ALL.get(module.__name__, ())], __getattr__=partial(attribute, module.__name__))


def find_spec(name: str) -> ModuleSpec | None:
    """How to import an old module; None for what never was one, and for ``conductor…`` beside another such package.
    Raises ModuleNotFoundError for one that this package leaves out on purpose."""
    root, _, rest = name.partition(".")
    if root != "conductor" and rest in ABSENT:
        raise ModuleNotFoundError(f"{name}: the browser bridge of 0.3.0 is not part of this package", name=name)
    is_package = any(path.startswith(name + ".") for path in _ALL)
    if not is_package and name not in _ALL:
        return None
    if root == "conductor":
        if rest and getattr(sys.modules.get(root), "__file__", None):  # not of a folder of that name beside the script
            return None
        log.debug("%s is served by this SDK: no package conductor is installed", name, extra={"action": "old_import"})
    return ModuleSpec(name, _Loader(), origin=__file__, is_package=is_package)  # type: ignore[arg-type]


def attribute(module: str, name: str) -> Any:
    """What ``name`` in an old or a present module leads to. Raises AttributeError."""
    target = _ALL.get(module, {}).get(name)
    if target is None and any(f"{path}.".startswith(f"{module}.{name}.") for path in _ALL):
        return import_module(f"{module}.{name}")
    if target is None:
        raise AttributeError(f"module {module!r} has no attribute {name!r}")
    return getattr(import_module(f"{_PACKAGE}.{target}"), name)

# SPDX-License-Identifier: Apache-2.0
"""The way to the names and import paths of earlier releases, all of which are in the room ``compat``. A copy without
that room lacks those names, and nothing else. The package imports this first of all, so nothing is imported here that
a file in the current folder could stand in for."""

import sys

TYPE_CHECKING = False  # as in errors
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType

_PACKAGE = __name__.rpartition(".")[0]
ROOM = _PACKAGE + ".compat"
_NAMES = {  # of modules that are still there; in the first two, modules, which nobody need have imported
    "": ("agent_worker", "decorators", "user_agent_runner", "utils"),
    "utils": ("agent_log_handler", "exception", "execution_history", "logger", "url_generator"),
    "credentials": ("Credentials", "generate_auth_url"),
    "cli": ("app", "cli"),
    "cli.run": ("run_command", "get_logger"),
}


class _Finder:
    """Asked last, for a module that nothing else has."""

    def find_spec(
        self, name: str, path: "Sequence[str] | None", target: "ModuleType | None" = None
    ) -> "ModuleSpec | None":
        is_old = name.startswith(_PACKAGE + ".") or name.partition(".")[0] == "conductor"
        if not is_old or name.startswith(ROOM):
            return None
        compat = _room()
        return compat.find_spec(name) if compat else None


def install() -> None:
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.append(_Finder())


def attribute(module: str, name: str) -> object:
    """What ``name`` was in a module of today's package. Raises AttributeError."""
    compat = _room() if name in _NAMES.get(module[len(_PACKAGE) + 1 :], ()) else None
    if compat is None:
        raise AttributeError(f"module {module!r} has no attribute {name!r}")
    return compat.attribute(module, name)


def recording() -> "tuple[str | None, Callable[..., object] | None]":
    """Where a script told 0.2.0's ``execution_history`` to write, and what to call instead: None where it did not."""
    old = getattr(sys.modules.get(ROOM + ".history"), "execution_history", None)
    if old is None:
        return None, None
    return old.db_path if old.db_path != type(old)().db_path else None, vars(old).get("record")


def _room() -> "ModuleType | None":
    from importlib import import_module

    try:
        return import_module(ROOM)
    except ModuleNotFoundError as error:
        if error.name != ROOM:
            raise
        return None

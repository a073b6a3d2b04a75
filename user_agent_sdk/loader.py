# SPDX-License-Identifier: Apache-2.0
"""Import an agent script by its path, and find the agents in it. The script sees what a plain ``python script.py``
would give it: its folder on ``sys.path``, right after the standard library (last if it is called like another module),
and a module in ``sys.modules`` that carries its name. ``user_agent_sdk`` is always this running copy, whatever its
folder is called, so there is one registry and one NonRetryableException."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import os
import re
import sys
import traceback
from collections.abc import Iterable, Sequence
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, cast

from . import logs
from .agents import REGISTRY, Agent
from .errors import AgentError, ConfigError, is_hidden, nearest_file

if TYPE_CHECKING:  # for the type checker alone: importing it loads importlib.resources
    from importlib.abc import Loader

PUBLIC_NAME = "user_agent_sdk"  # the package name that scripts import
_PACKAGE = __name__.rpartition(".")[0]  # the package name of this copy
_PYTHON = f'"{sys.executable}"' if " " in sys.executable else sys.executable  # for a command that is pasted
_OWN_CODE = (str(Path(__file__).parent) + os.sep, "<frozen ")


def load(path: Path) -> list[Agent]:
    """Run the script at ``path`` and return the agents that it registered, in order. Its ``if __name__ == "__main__"``
    part does not run. Raises AgentError: agent-missing, agent-load (the message ends with the script's own traceback),
    no-agent; and what the decorator raises."""
    is_frozen = getattr(sys, "frozen", False) and str(path) == sys.executable
    path = path if is_frozen else _script(path)
    main_script = getattr(sys.modules.get("__main__"), "__file__", None)
    if is_frozen or (main_script and Path(main_script).resolve() == path):
        found = list(REGISTRY)  # `python script.py` runs this very script, which called user_agent_sdk.run()
    else:
        alias_package()
        found = _run(path)
    logs.settle()
    if not found:
        hint = "put @user_agent() before the function that does the work"
        for name, module in sys.modules.copy().items():
            other = getattr(module, "REGISTRY", None) if name.endswith(".agents") else None
            if other and other is not REGISTRY and type(other[0]) is getattr(module, "Agent", None):
                hint = f"it uses another copy of the SDK: start that one, {_PYTHON} -m {name[:-7]}"
        raise AgentError(f"{path} defines no agent", code="no-agent", hints=[hint])
    return found


def identify(agents: Iterable[Agent], default_id: str | None) -> list[Agent]:
    """The same agents, each with an id: its own, else ``default_id``. Raises AgentError (no-agent) for one without, and
    for one id that two functions claim in the same domain."""
    by_id: dict[tuple[str, str | None], Agent] = {}
    for agent in agents:
        agent_id = agent.agent_id or default_id
        if agent_id is None:
            hints = ["set agentId in credentials.json, give -a ID, or write @user_agent(agent_id=...)"]
            raise AgentError(f"the agent {agent.where} has no id", code="no-agent", hints=hints)
        if not {"/", "\\"}.isdisjoint(agent_id):
            why = "no server takes a task type with a slash or a backslash"
            raise AgentError(f"{agent_id!r}, the id of {agent.where}, can't be polled for: {why}", code="no-agent")
        twin = by_id.get((agent_id, agent.domain))
        if twin is not None and twin.code != agent.code:  # else one agent twice: a helper has imported the script
            what = f"two agents have the id {agent_id!r}: {twin.where} and {agent.where}"
            raise AgentError(what, code="no-agent", hints=["give each its own: @user_agent(agent_id=...)"])
        by_id[agent_id, agent.domain] = agent.changed(agent_id=agent_id)
    return list(by_id.values())


def alias_package() -> None:
    """Let ``import user_agent_sdk`` find this copy when its folder is called something else."""
    if _PACKAGE != PUBLIC_NAME and not any(isinstance(finder, _Alias) for finder in sys.meta_path):
        for name in [name for name in sys.modules if _is_public(name)]:
            del sys.modules[name]  # another copy of the SDK: agents in its registry would not run
        sys.meta_path.insert(0, _Alias())


def _is_public(name: str) -> bool:
    return name == PUBLIC_NAME or name.startswith(PUBLIC_NAME + ".")


def prepare_child() -> None:
    """In a spawned child: find this copy as ``user_agent_sdk``, and as ``vendor.kit`` if that is how the parent found
    it from its folder; and scripts under the names that they have here."""
    alias_package()
    sys.meta_path.append(_Scripts())
    folder = Path(__file__).parent
    start = Path(getattr(sys.modules.get("multiprocessing.process"), "ORIGINAL_DIR", None) or folder)
    parts = folder.relative_to(start).parts if start in folder.parents else ()
    if ".".join(parts) not in ("", _PACKAGE):
        for end in range(1, len(parts)):
            spec = ModuleSpec(".".join(parts[:end]), None, is_package=True)
            spec.submodule_search_locations = [str(start.joinpath(*parts[:end]))]
            sys.modules.setdefault(spec.name, importlib.util.module_from_spec(spec))
        sys.meta_path.insert(0, _Alias(".".join(parts)))


class _Scripts:
    """Finds a script by the name that ``_run`` gave to it. The last folder on the path comes first: see there."""

    def find_spec(self, name: str, path: object, target: ModuleType | None = None) -> ModuleSpec | None:
        for folder in reversed(sys.path) if path is None else ():
            for script in Path(folder).glob("*.py"):
                if name in _names(script):
                    return importlib.util.spec_from_file_location(name, script)
        return None


def _names(script: Path) -> tuple[str, str]:
    """The name of the script's module, and the name to use where another module has that one."""
    name = (inspect.getmodulename(script) or script.stem).replace(".", "_")
    return name, f"_agent_{name}"


class _Alias:
    """Answers for another name of this package, and for all in it, with the modules of this package."""

    def __init__(self, name: str = PUBLIC_NAME) -> None:
        self._name = name

    def _own(self, name: str) -> str:
        return _PACKAGE + name[len(self._name) :]

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        is_ours = (name + ".").startswith(self._name + ".") and importlib.util.find_spec(self._own(name))
        return ModuleSpec(name, cast("Loader", self)) if is_ours else None

    def create_module(self, spec: ModuleSpec) -> None:
        """None: an empty module, as usual."""

    def exec_module(self, module: ModuleType) -> None:
        own = importlib.import_module(self._own(module.__name__))
        sys.modules[module.__name__] = own  # import returns the entry of sys.modules


def _script(path: Path) -> Path:
    if os.path.isdir(path):  # not Path.is_dir, which raises for a name that is too long
        scripts = ", ".join(sorted(found.name for found in path.glob("*.py"))[:8])
        hints = [f"name the script: {scripts}"] if scripts else []
        raise AgentError(f"{path} is a folder", code="agent-missing", hints=hints)
    module = Path(*str(path).split(".")).with_suffix(".py")
    if not os.path.exists(path) and os.path.exists(module):  # package.module, in the current folder
        path = module
    if not os.path.exists(path) and not is_hidden(path):
        raise AgentError(f"there is no file {path}", code="agent-missing", hints=nearest_file(path, ".py"))
    path = path.resolve()  # on Windows with the capitals that the name has on the disk
    if not inspect.getmodulename(path):  # of source, or compiled
        raise AgentError(f"{path} is not a Python script (.py)", code="agent-missing")
    return path


def _run(path: Path) -> list[Agent]:
    try:
        source = path.read_bytes()
    except OSError as error:
        raise AgentError(f"{path} can't be read: {error.strerror or error}") from None
    name, second_name = _names(path)
    others = [entry for entry in sys.path if Path(os.path.realpath(entry or ".")) != path.parent]
    namesake = getattr(sys.modules.get(name), "__file__", "") if name in sys.modules else str(path)
    if namesake == str(path) and name not in sys.builtin_module_names and not PathFinder.find_spec(name, others):
        first = [entry for entry in others if _is_standard(entry)]  # others import the library's statistics.py
        sys.path[:] = [*first, str(path.parent), *[entry for entry in others if entry not in first]]
    else:  # a script called like another module (json.py, test.py) must not be imported in its place
        sys.path[:] = [*others, str(path.parent)]
        name = second_name
    name = _in_package(path, source) or name
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None  # the suffix is a module's, so there is a loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # before the script runs: dataclasses and pickle look up a class's module by name
    already = len(REGISTRY)
    try:
        spec.loader.exec_module(module)
    except BaseException as error:
        del sys.modules[name], REGISTRY[already:]
        if isinstance(error, (AgentError, ConfigError, KeyboardInterrupt)):
            raise
        raise _load_error(path, error) from error
    return REGISTRY[already:]


def _is_standard(entry: str) -> bool:
    """Whether that entry of sys.path has the standard library."""
    library = os.path.dirname(os.__file__)
    is_inside = os.path.join(entry, "").startswith(os.path.join(library, ""))
    is_zip = entry.endswith(".zip") and os.path.basename(entry).startswith("python")
    is_windows = entry == os.path.join(sys.base_prefix, "DLLs")  # where its extension modules are
    return is_zip or is_windows or (is_inside and not {"site-packages", "dist-packages"} & {*Path(entry).parts})


def _in_package(path: Path, source: bytes) -> str:
    """The full name of a script that imports from a package around it, which is put on the path; "" for any other."""
    full_name, name, folder = "", path.stem, path.parent
    while folder.name and os.path.isfile(folder / "__init__.py"):  # a root is its own parent
        name, package, folder = f"{folder.name}.{name}", re.escape(folder.name.encode()), folder.parent
        if re.search(rb"^\s*(from\s+\.|(from|import)\s+%b\b)" % package, source, re.MULTILINE):
            full_name, root = name, str(folder)
    if full_name:
        sys.path.append(root)
    return full_name


def _load_error(path: Path, error: BaseException) -> AgentError:
    """What went wrong, then the script's own part of the traceback, and a hint where there is one."""
    frames = error.__traceback__
    while frames is not None and frames.tb_frame.f_code.co_filename.startswith(_OWN_CODE):
        frames = frames.tb_next
    try:
        shown = traceback.TracebackException(type(error), error, frames)
    except Exception:  # 3.9 can't quote bytes that are no UTF-8; 3.11 and 3.12 ask it for __notes__, which may raise
        return AgentError(f"{path.name} raised {type(error).__name__} while it was loaded: {error}")
    if isinstance(error, SyntaxError):
        lines = list(shown.format_exception_only())
        what = f"{error.filename or path}:{error.lineno}: {lines[-1].strip()}"
        return AgentError("\n".join([what, *"".join(lines[1:-1]).splitlines()]))
    hints = []
    if isinstance(error, ModuleNotFoundError) and error.name:
        hints = [f"is {error.name!r} installed for this Python? {_PYTHON} -m pip install ..."]
        if _is_public(error.name):
            hints = ["this version of the SDK has no such module"]
        elif error.name.partition(".")[0] == "conductor":  # on the package index this name belongs to another project
            hints = [f"{error.name} is Conductor's own client: {_PYTHON} -m pip install conductor-python"]
    elif "attempted relative import" in str(shown):  # not in str(error), which may raise
        hints = ["a script is no package: write `import helper`, not `from . import helper`"]
    elif isinstance(error, SystemExit):
        hints = ['put what ends the program under: if __name__ == "__main__":']
    what = f"{path.name} raised {type(error).__name__} while it was loaded"
    return AgentError("\n".join([what, *"".join(shown.format()).splitlines()]), hints=hints)

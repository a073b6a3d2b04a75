"""``@user_agent``, the registry, and how a task's input reaches a function's parameters.

A function's signature is read once, when it is registered; annotations are never evaluated.
"""

from __future__ import annotations

import functools
import inspect
import math
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar, overload

from .errors import AgentError, ConfigError, NonRetryableException

PLATFORM_NAMES = frozenset({"input_data", "logger", "task", "platform_task_id", "platform_agent_id"})

F = TypeVar("F", bound=Callable[..., Any])

_SIGNATURE_OPTIONS: dict[str, Any] = {}
if sys.version_info >= (3, 14):  # there, reading a signature evaluates its annotations unless told otherwise
    import annotationlib

    _SIGNATURE_OPTIONS["annotation_format"] = annotationlib.Format.STRING


class Parameter(NamedTuple):
    """One parameter that a task fills. ``default`` is ``inspect.Parameter.empty`` for a required one."""

    name: str
    default: Any
    positional: bool


@dataclass(frozen=True, eq=False)
class Agent:
    """A registered function and its options; an option is None when the decorator did not set it."""

    func: Callable[..., Any]
    name: str
    location: str  # "file.py:12", or "" where the source is not known
    agent_id: str | None
    worker_id: str | None
    domain: str | None
    poll_interval_ms: float | None
    workers: int | None
    timeout_s: float | None
    is_async: bool
    parameters: tuple[Parameter, ...]
    takes_rest: bool  # it has **kwargs
    preset: frozenset[str]  # what a functools.partial has filled; a task can't change it

    def bind(self, platform: object, given: Mapping[str, Any]) -> tuple[list[Any], dict[str, Any]]:
        """The arguments for one call: ``platform``'s attributes of the five documented names first, then ``given``, the
        task's input, by name; ``**kwargs`` receives what is left of the input.

        Raises NonRetryableException when the input lacks a required parameter: a retry would lack it too.
        """
        args: list[Any] = []
        kwargs: dict[str, Any] = {}
        for name, default, positional in self.parameters:
            if name in PLATFORM_NAMES:
                value = getattr(platform, name)
            elif name in given:
                value = given[name]
            elif default is inspect.Parameter.empty:
                raise NonRetryableException(_missing(self.name, name, given))
            elif positional:
                value = default
            else:
                continue
            if positional:
                args.append(value)
            else:
                kwargs[name] = value
        if self.takes_rest:
            taken = self.preset.union(parameter.name for parameter in self.parameters)
            kwargs.update((name, value) for name, value in given.items() if name not in taken)
        return args, kwargs


REGISTRY: list[Agent] = []  # in the order of registration; clear() before a reload


@overload
def user_agent(agent_id: F) -> F: ...


@overload
def user_agent(
    agent_id: str | None = None,
    worker_id: str | None = None,
    domain: str | None = None,
    poll_interval: float | None = None,
    workers: int | None = None,
    timeout_s: float | None = None,
) -> Callable[[F], F]: ...


def user_agent(
    agent_id: Any = None,
    worker_id: str | None = None,
    domain: str | None = None,
    poll_interval: float | None = None,
    workers: int | None = None,
    timeout_s: float | None = None,
) -> Any:
    """Make a function an agent: ``@user_agent``, or ``@user_agent(workers=4)``.

    The function stays what it was and can be called as before. It may take any of ``input_data``
    (dict), ``logger``, ``task``, ``platform_task_id``, ``platform_agent_id``; any other parameter is
    taken from ``input_data`` by name.

    ``agent_id``: whose tasks it takes (default: the credentials'). ``worker_id``: the name it polls
    under (default: the host's). ``domain``: the task domain. ``poll_interval``: the longest pause
    between two polls while idle, in milliseconds (default 1000). ``workers``: tasks at a time
    (default 1). ``timeout_s``: a task that runs longer fails (default: no limit).
    A flag and the environment win over what is set here.

    Raises AgentError (``agent-signature``) for a function that no task can call, ConfigError for an
    option that makes no sense.
    """
    if callable(agent_id) or isinstance(agent_id, staticmethod):
        register_user_agent(agent_id)
        return agent_id

    def decorate(func: F) -> F:
        register_user_agent(func, agent_id, worker_id, domain, poll_interval, workers, timeout_s)
        return func

    return decorate


def register_user_agent(
    func: Callable[..., Any],
    agent_id: str | None = None,
    worker_id: str | None = None,
    domain: str | None = None,
    poll_interval: float | None = None,
    workers: int | None = None,
    timeout_s: float | None = None,
) -> None:
    """Do what ``@user_agent(…)`` does, for a callable that you can't or won't decorate.

    The same options and errors. Bound methods, ``functools.partial`` and callable objects will do.
    """
    REGISTRY.append(make_agent(func, agent_id, worker_id, domain, poll_interval, workers, timeout_s))


def make_agent(
    func: Callable[..., Any],
    agent_id: str | None = None,
    worker_id: str | None = None,
    domain: str | None = None,
    poll_interval: float | None = None,
    workers: int | None = None,
    timeout_s: float | None = None,
) -> Agent:
    """The agent of a callable, unregistered. Options and errors as in :func:`user_agent`."""
    target = func.__func__ if isinstance(func, staticmethod) else func  # a staticmethod is callable from 3.10 on
    name, location = _describe(target)
    where = f"{name} ({location})" if location else name
    for option, text in (("agent_id", agent_id), ("worker_id", worker_id), ("domain", domain)):
        if text is not None and (not isinstance(text, str) or not text.strip()):
            raise _bad_option(where, option, text, "text that is not empty")
    if workers is not None and (isinstance(workers, bool) or not isinstance(workers, int) or workers < 1):
        raise _bad_option(where, "workers", workers, "a whole number of at least 1")
    if poll_interval is not None and not _is_number(poll_interval, least=0.0):
        raise _bad_option(where, "poll_interval", poll_interval, "milliseconds, 0 or more")
    if timeout_s is not None and not (_is_number(timeout_s, least=0.0) and timeout_s):
        raise _bad_option(where, "timeout_s", timeout_s, "seconds, more than 0")
    preset = frozenset(target.keywords) if isinstance(target, functools.partial) else frozenset()
    parameters, takes_rest = _parameters(target, preset, where)
    return Agent(
        target, name, location, agent_id, worker_id, domain, poll_interval, workers, timeout_s,
        _is(inspect.iscoroutinefunction, target), parameters, takes_rest, preset,
    )  # fmt: skip


def _parameters(func: Callable[..., Any], preset: frozenset[str], where: str) -> tuple[tuple[Parameter, ...], bool]:
    if not callable(func):
        raise _unusable(where, "it can't be called", "decorate a function (a class method can't be an agent)")
    if _is(inspect.isgeneratorfunction, func) or _is(inspect.isasyncgenfunction, func):
        raise _unusable(where, "it is a generator function (it has a yield)", "return one value, for example a list")
    own, full = _signatures(func, where)
    kinds = [parameter.kind for parameter in own]
    by_position = inspect.Parameter.VAR_POSITIONAL in kinds and inspect.Parameter.VAR_KEYWORD not in kinds
    if full and full[0].name in ("self", "cls") and "." in where.partition(" (")[0]:
        raise _unusable(where, f"a task has no {full[0].name!r}", "register a bound method: register_user_agent(x.run)")
    found = []
    for parameter in full:
        if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
            hint = "name the parameters; if a decorator wraps the function, let it use functools.wraps"
            raise _unusable(where, f"*{parameter.name} can't be filled from a task", hint)
        if parameter.kind is inspect.Parameter.VAR_KEYWORD or parameter.name in preset:
            continue
        positional = parameter.kind is inspect.Parameter.POSITIONAL_ONLY or (
            by_position and parameter.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
        )
        found.append(Parameter(parameter.name, parameter.default, positional))
    return tuple(found), any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in full)


def _signatures(func: Callable[..., Any], where: str) -> tuple[list[inspect.Parameter], list[inspect.Parameter]]:
    """The parameters that ``func`` itself takes, and those that it stands for: a decorator's
    ``(*args, **kwargs)`` stands for what it wraps, but one that names its parameters means them."""
    try:
        own = list(inspect.signature(func, follow_wrapped=False, **_SIGNATURE_OPTIONS).parameters.values())
        variable = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
        if not any(parameter.kind in variable for parameter in own):
            return own, own
        return own, list(inspect.signature(func, **_SIGNATURE_OPTIONS).parameters.values())
    except (TypeError, ValueError) as error:
        raise _unusable(where, f"its parameters can't be read ({error})", "wrap it in a plain function") from None


def _is(kind: Callable[[Any], bool], func: Any) -> bool:
    """Whether a function, or the ``__call__`` of a callable object, is of a kind such as "coroutine function"."""
    func = _without_presets(func)
    return kind(func) or kind(_dunder_call(func))


def _dunder_call(func: Any) -> Any:
    return getattr(type(func), "__call__", None)  # noqa: B004 - for what is in it, not whether it is there


def _without_presets(func: Any) -> Any:
    while isinstance(func, functools.partial):
        func = func.func
    return func


def _describe(func: Any) -> tuple[str, str]:
    """A callable's name, and ``file:line`` of its code if that is known."""
    func = _without_presets(func)
    name = getattr(func, "__qualname__", None) or type(func).__qualname__
    source = inspect.unwrap(func) if callable(func) else func
    code = getattr(source, "__code__", None) or getattr(_dunder_call(source), "__code__", None)
    return name.rpartition("<locals>.")[2], f"{code.co_filename}:{code.co_firstlineno}" if code else ""


def _is_number(value: object, least: float) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value) and value >= least


def _bad_option(where: str, option: str, value: object, wanted: str) -> ConfigError:
    return ConfigError(f"{option}={value!r} of {where} can't be used", hints=[f"{option} is {wanted}"])


def _unusable(where: str, why: str, hint: str) -> AgentError:
    return AgentError(f"{where} can't be an agent: {why}", code="agent-signature", hints=[hint])


def _missing(agent: str, name: str, given: Mapping[str, Any]) -> str:
    there = ", ".join(sorted(map(str, given))[:10]) or "nothing"
    return f"the task's input has no {name!r}, which {agent} needs (it has: {there}{', …' if len(given) > 10 else ''})"

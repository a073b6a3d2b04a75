# SPDX-License-Identifier: Apache-2.0
"""``@user_agent``, the registry, and how a task's input reaches a function's parameters. A function's signature is read
when it is registered, not for each task; annotations are never evaluated."""

from __future__ import annotations

import functools
import inspect
import logging
import math
import sys
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from inspect import Parameter
from typing import Any, TypeVar, overload

from .errors import AgentError, ConfigError, NonRetryableException

PLATFORM_NAMES = frozenset({"input_data", "logger", "task", "platform_task_id", "platform_agent_id"})

F = TypeVar("F", bound=Callable[..., Any])

log = logging.getLogger(__name__)

_SIGNATURE_OPTIONS: dict[str, Any] = {}
if sys.version_info >= (3, 14):  # there, reading a signature evaluates its annotations unless told otherwise
    import annotationlib

    _SIGNATURE_OPTIONS["annotation_format"] = annotationlib.Format.STRING


class Agent:  # a dataclass costs each start 1 ms
    """A function and its options: those of :func:`user_agent`, None for one not set. Raises as that does."""

    def __init__(
        self, func: Callable[..., Any], agent_id: str | None = None, worker_id: str | None = None,
        domain: str | None = None, poll_interval_ms: float | None = None, workers: int | None = None,
        timeout_s: float | None = None, retries: int | None = None, response_timeout_s: float | None = None,
        loop: str | None = None,
    ) -> None:  # fmt: skip
        self.agent_id, self.worker_id, self.domain, self.workers = agent_id, worker_id, domain, workers
        self.poll_interval_ms, self.timeout_s, self.response_timeout_s = poll_interval_ms, timeout_s, response_timeout_s
        self.retries, self.loop = retries, loop
        # A static method's function: only from 3.10 on can the method itself be called.
        self.func: Callable[..., Any] = func.__func__ if isinstance(func, staticmethod) else func
        inner: Any = self.func
        preset: set[str] = set()  # names of a partial's keyword arguments, which no task can change
        while isinstance(inner, functools.partial):
            preset.update(inner.keywords)
            inner = inner.func
        name: str = getattr(inner, "__qualname__", None) or type(inner).__qualname__
        self.name = self.where = name.rpartition("<locals>.")[2]
        if not callable(inner):
            raise self._unusable("it can't be called", "decorate a function (a class method can't be an agent)")
        written = inspect.unwrap(inner)
        # The function that somebody wrote: of an object that can be called it is the class's own.
        self.source: Any = written if hasattr(written, "__code__") else getattr(type(written), "__call__")  # noqa: B004,B009
        code = getattr(self.source, "__code__", None)
        self.code = code or written  # equal for two imports of the same script
        if code:
            self.where = f"{self.name} ({code.co_filename}:{code.co_firstlineno})"
        self._settle_options()
        for is_kind in (inspect.isgeneratorfunction, inspect.isasyncgenfunction):
            if is_kind(inner) or is_kind(type(inner).__call__):
                why = "it is a generator function (it has a yield)"
                raise self._unusable(why, "return one value, for example a list")
        self._read_parameters(inner, preset)
        self.plan: Mapping[str, Any] | None = None  # how annotations convert the input; made in worker/running

    def changed(self, **options: Any) -> Agent:
        """The same agent with other options, named as this class names them. Raises as the class does."""
        return Agent(**{**{name: getattr(self, name) for name in OPTIONS}, **options})

    def _settle_options(self) -> None:
        self.worker_id = str(self.worker_id) if self.worker_id else None  # of a UUID, a process's number
        self.domain = self.domain or None
        if isinstance(self.workers, int) and (self.workers < 1 or self.workers is True):
            log.warning("%s has workers=%s: one is meant", self.where, self.workers, extra={"action": "one_worker"})
            self.workers = 1
        if is_number(self.poll_interval_ms, least=-math.inf) and self.poll_interval_ms < 0:  # type: ignore[operator]
            usual = "%s has poll_interval=%s: the default is meant"
            log.warning(usual, self.where, self.poll_interval_ms, extra={"action": "default_interval"})
            self.poll_interval_ms = None
        for option, text in (("agent_id", self.agent_id), ("worker_id", self.worker_id), ("domain", self.domain)):
            if text is not None and (not isinstance(text, str) or not text.strip()):
                raise self._bad_option(option, text, "text that is not empty")
        if self.workers is not None and not is_number(self.workers, int):
            raise self._bad_option("workers", self.workers, "a whole number of at least 1")
        if self.poll_interval_ms is not None and not is_number(self.poll_interval_ms):
            raise self._bad_option("poll_interval", self.poll_interval_ms, "milliseconds, 0 or more")
        for option, limit_s in (("timeout_s", self.timeout_s), ("response_timeout_s", self.response_timeout_s)):
            if limit_s is not None and not (is_number(limit_s) and limit_s):
                raise self._bad_option(option, limit_s, "seconds, more than 0")
        if self.retries is not None and not is_number(self.retries, int):
            raise self._bad_option("retries", self.retries, "a whole number, 0 or more")
        if self.loop not in (None, "own", "shared"):
            raise self._bad_option("loop", self.loop, "'own' (one for each worker thread) or 'shared' (one for all)")

    def _read_parameters(self, inner: Callable[..., Any], preset: set[str]) -> None:
        """Set ``parameters``, which a task fills, by name unless they are positional-only; and ``taken``, the names
        that ``**kwargs`` does not get, or None when it gets nothing. A decorator's ``(*args, **kwargs)`` stands for
        what it wraps, but one that names its parameters means them; of a wrapper that does not say what it wraps,
        ``*args`` stays empty. ``fills``: such a decorator may add what the input lacks."""
        wraps_c = not hasattr(inner, "__code__") and hasattr(inner, "__wrapped__")  # functools.lru_cache and its like
        found = self._signature(self.func, follow_wrapped=wraps_c)
        variable = {each.kind for each in found} & {Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD}
        if variable:
            found = self._signature(self.func)
        if found and found[0].name in ("self", "cls") and "." in self.name:
            hint = "register a bound method: register_user_agent(x.run)"
            raise self._unusable(f"a task has no {found[0].name!r}", hint)
        self.fills = bool(variable) and hasattr(inner, "__wrapped__")
        self.parameters: list[Parameter] = []
        kinds = {each.kind for each in found}
        for each in found:
            if each.kind not in (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD) and each.name not in preset:
                is_positional = variable == {Parameter.VAR_POSITIONAL} and each.kind is Parameter.POSITIONAL_OR_KEYWORD
                self.parameters.append(each.replace(kind=Parameter.POSITIONAL_ONLY) if is_positional else each)
        self.taken: set[str] | None = None
        # One with *args or a platform's name passes its **kwargs on to a function that does not know the input's keys.
        is_own = Parameter.VAR_POSITIONAL not in kinds and PLATFORM_NAMES.isdisjoint(each.name for each in found)
        if Parameter.VAR_KEYWORD in kinds and is_own:
            known = self._signature(inner)  # including the arguments that a partial fills by position
            self.taken = preset.union(own.name for own in known if own.kind is not Parameter.VAR_KEYWORD)

    def _signature(self, func: Callable[..., Any], follow_wrapped: bool = True) -> list[Parameter]:
        try:
            signature = inspect.signature(func, follow_wrapped=follow_wrapped, **_SIGNATURE_OPTIONS)
        except (TypeError, ValueError) as error:
            raise self._unusable(f"its parameters can't be read ({error})", "wrap it in a plain function") from None
        return list(signature.parameters.values())

    def _bad_option(self, option: str, value: object, wanted: str) -> ConfigError:
        return ConfigError(f"{option}={value!r} of {self.where} can't be used", hints=[f"{option} is {wanted}"])

    def _unusable(self, why: str, hint: str) -> AgentError:
        return AgentError(f"{self.where} can't be an agent: {why}", code="agent-signature", hints=[hint])

    def bind(
        self, platform: object, given: Mapping[str, Any], ours: AbstractSet[str] = PLATFORM_NAMES
    ) -> tuple[list[Any], dict[str, Any]]:
        """The arguments for one call: ``platform``'s attributes of the five documented names, or of those in ``ours``,
        first, then ``given``, the task's input, by name; ``**kwargs`` receives what is left of the input, unless the
        function takes one of the five names or ``*args``. Raises NonRetryableException when the input lacks a required
        parameter: a retry would lack it too."""
        args: list[Any] = []
        kwargs: dict[str, Any] = {}
        for parameter in self.parameters:
            name = parameter.name
            is_given = name in given or name in ours
            value = getattr(platform, name) if name in ours else given.get(name, parameter.default)
            if value is Parameter.empty and self.fills and parameter.kind is not Parameter.POSITIONAL_ONLY:
                continue
            if value is Parameter.empty:
                there = ", ".join(sorted(map(str, given))[:10]) or "nothing"
                more = ", …" if len(given) > 10 else ""
                what = f"the task's input has no {name!r}, which {self.name} needs (it has: {there}{more})"
                raise NonRetryableException(what)
            if parameter.kind is Parameter.POSITIONAL_ONLY:
                args.append(value)
            elif is_given:  # leave a default to the function: a decorator may fill in a better value
                kwargs[name] = value
        if self.taken is not None:
            kwargs.update((name, value) for name, value in given.items() if name not in self.taken)
        return args, kwargs

    def is_lack(self, error: BaseException) -> bool:
        """Whether a decorator that ``fills`` did not add what the input lacks: a retry would lack it too."""
        said = str(error.args[0]) if self.fills and type(error) is TypeError and error.args else ""
        name, missing, _ = said.partition("() missing ")
        return bool(missing) and name.rpartition(".")[2] == self.name.rpartition(".")[2]


OPTIONS = tuple(inspect.signature(Agent).parameters)
REGISTRY: list[Agent] = []  # in the order of registration; clear() before a reload


@overload
def user_agent(agent_id: F) -> F: ...


@overload
def user_agent(
    agent_id: str | None = None, worker_id: str | None = None, domain: str | None = None,
    poll_interval: float | None = None, workers: int | None = None, timeout_s: float | None = None,
    retries: int | None = None, response_timeout_s: float | None = None, loop: str | None = None,
) -> Callable[[F], F]: ...  # fmt: skip


def user_agent(
    agent_id: Any = None, worker_id: str | None = None, domain: str | None = None,
    poll_interval: float | None = None, workers: int | None = None, timeout_s: float | None = None,
    retries: int | None = None, response_timeout_s: float | None = None, loop: str | None = None,
) -> Any:  # fmt: skip
    """Make a function an agent: ``@user_agent``, or ``@user_agent(workers=4)``.

    The function stays what it was and can be called as before. It may take any of ``input_data`` (dict), ``logger``,
    ``task``, ``platform_task_id``, ``platform_agent_id``; any other parameter is taken from ``input_data`` by name.

    ``agent_id``: whose tasks it takes (default: the credentials'). ``worker_id``: the name it polls under (default: the
    host's). ``domain``: the task domain. ``poll_interval``: the longest pause between two polls while idle, in
    milliseconds (default 1000; 200 on Conductor). ``workers``: tasks at a time (default 1). ``timeout_s``: a task that
    runs longer fails (default: no limit). ``retries`` and ``response_timeout_s`` (seconds): what ``run --register``
    tells a Conductor server that does not know the task type. ``loop``: ``"shared"`` runs all tasks of async agents on
    one event loop (default ``"own"``: one for each worker thread). A flag and the environment win over what is set
    here, but for ``timeout_s``: what an agent needs is its own.

    Raises AgentError (``agent-signature``) for a function that no task can call, ConfigError for a senseless option."""
    if callable(agent_id) or isinstance(agent_id, staticmethod):
        return register_user_agent(agent_id)
    options = (agent_id, worker_id, domain, poll_interval, workers, timeout_s, retries, response_timeout_s, loop)
    return lambda func: register_user_agent(func, *options)


def register_user_agent(
    func: F, agent_id: str | None = None, worker_id: str | None = None, domain: str | None = None,
    poll_interval: float | None = None, workers: int | None = None, timeout_s: float | None = None,
    retries: int | None = None, response_timeout_s: float | None = None, loop: str | None = None,
) -> F:  # fmt: skip
    """Do what ``@user_agent(…)`` does, for a callable that you can't or won't decorate, and return it. The same options
    and errors. Bound methods, ``functools.partial`` and callable objects will do."""
    options = (agent_id, worker_id, domain, poll_interval, workers, timeout_s, retries, response_timeout_s, loop)
    REGISTRY.append(Agent(func, *options))
    return func


def is_number(value: object, kind: Any = (int, float), least: float = 0) -> bool:
    """Whether ``value`` is a finite number of that kind, ``least`` or more."""
    return isinstance(value, kind) and not isinstance(value, bool) and least <= value <= sys.float_info.max

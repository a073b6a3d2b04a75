# SPDX-License-Identifier: Apache-2.0
"""From a task's input, which is JSON, to what a function's annotations ask for.

int, float, bool, Decimal, str              also from text that says one (``"5"``); str from a whole number
date, datetime, time, UUID, Path            from text
Enum                                        from a value, or from a name
list, tuple, set, dict, their typing kin    element by element, a dict's keys too
Optional, Union, ``X | None``               exact types first, then the first that fits; None where absent, unless a
                                            decorator may supply it
dataclass, TypedDict                        from an object, field by field; a model of pydantic as it wishes
Task                                        the task itself

Any other annotation, and one that can't be resolved, leaves its value as it came; so does null for a parameter of a
simple kind, since scripts annotate those without Optional. The plan is made once for each function.
"""

from __future__ import annotations

import ast
import collections.abc
import inspect
import sys
import typing
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Union

from ...agents import PLATFORM_NAMES, Agent
from ...conductor.wire import Task
from ...errors import NonRetryableException
from .scalars import Convert, Misfit, scalar_of, shown

Plan = Mapping[str, Convert]  # by a parameter's name; empty for most functions

_ABSENT = object()
_SETS: dict[Any, Any] = {set: set, collections.abc.MutableSet: set}
_SETS.update({frozenset: frozenset, collections.abc.Set: frozenset})


def plan(agent: Agent) -> Plan:
    """The conversions that the agent's parameters need."""
    ours = PLATFORM_NAMES - {"input_data"}
    parameters = {parameter.name: parameter for parameter in agent.parameters if parameter.name not in ours}
    kinds, found = _Kinds(), dict[str, Convert]()
    for name, hint in _hints(agent.source, list(parameters)).items():
        convert = kinds.converter(hint)
        if hint is Task:
            found[name] = _to_task
        elif convert is not None and (name != "input_data" or _is_object(hint)):
            has_default = agent.fills or parameters[name].default is not inspect.Parameter.empty
            found[name] = partial(_to_parameter, convert, has_default, type(None) in _choices(hint), _is_object(hint))
    return found


def converted(wanted: Plan, task: Task) -> dict[str, Any]:
    """A copy of the task's input with its parts as ``wanted`` has them; under ``input_data`` all of it, if wanted.
    Raises NonRetryableException, which names the place."""
    result = dict(task.input_data)
    for name, convert in wanted.items():
        value = task if convert is _to_task else task.input_data if name == "input_data" else result.get(name, _ABSENT)
        try:
            value = _at(f".{name}", convert, value)
        except Misfit as misfit:
            steps = misfit.steps[:-1] if name == "input_data" else misfit.steps
            raise NonRetryableException(f"${''.join(reversed(steps))}: {misfit}") from None
        except RecursionError:
            raise NonRetryableException(f"$.{name}: it is nested too deep") from None
        if value is not _ABSENT:
            result[name] = value
    return result


def _to_task(task: Task) -> Task:
    return task


def _to_parameter(convert: Convert, has_default: bool, takes_none: bool, is_object: bool, value: Any) -> Any:
    if value is _ABSENT:
        return None if takes_none and not has_default else _ABSENT
    return None if value is None and (takes_none or not is_object) else convert(value)


def _is_object(hint: Any) -> bool:
    """Whether a value of this kind, or of each kind that it may be, is made of an object's fields."""
    kinds = [kind for kind in _choices(hint) if kind is not type(None)]
    if kinds:
        return all(map(_is_object, kinds))
    signs = ("__dataclass_fields__", "model_validate", "__required_keys__")
    return isinstance(hint, type) and any(hasattr(hint, sign) for sign in signs)


def _choices(hint: Any) -> tuple[Any, ...]:
    """What a Union is made of; nothing of anything else."""
    is_union = typing.get_origin(hint) is Union or type(hint).__name__ == "UnionType"
    return typing.get_args(hint) if is_union else ()


def _hints(source: Any, names: list[str]) -> dict[str, Any]:
    """The annotations of ``names`` that can be resolved, each by itself: one that can't must not cost the others."""
    raw: Mapping[str, Any] = {}
    if sys.version_info >= (3, 14):  # where they are evaluated when they are asked for, one and all
        import annotationlib

        raw = annotationlib.get_annotations(source, format=annotationlib.Format.FORWARDREF)
    elif not isinstance(source, type) or "__annotations__" in vars(source):  # else Python 3.9 gives those of its base
        raw = getattr(source, "__annotations__", raw)
    module = sys.modules.get(str(getattr(source, "__module__", None)))  # of a class, which has no __globals__
    scope = getattr(source, "__globals__", None) or getattr(module, "__dict__", {})
    found = {}
    for name in names:
        with suppress(Exception):  # none, local, under TYPE_CHECKING, misspelt
            found[name] = _resolved(raw[name], scope)
    return found


def _resolved(hint: Any, scope: Mapping[str, Any]) -> Any:
    def holder() -> None: ...

    if isinstance(hint, typing.ForwardRef) and sys.version_info < (3, 10):  # of a TypedDict, which has no texts
        scope = getattr(sys.modules.get(str(getattr(hint, "__forward_module__", None))), "__dict__", scope)
        hint = hint.__forward_arg__
    if isinstance(hint, str) and sys.version_info < (3, 11):
        hint = ast.unparse(_Newer().visit(ast.parse(hint, mode="eval")))
        scope = {**scope, "_Union": Union}
    holder.__annotations__ = {"hint": hint}
    found = typing.get_type_hints(holder, dict(scope), {})["hint"]  # {}: not what it found for another script
    if type(found).__name__ == "InitVar":
        return _resolved(found.type, scope)
    return found if sys.version_info >= (3, 11) else _complete(found, scope)


def _complete(hint: Any, scope: Mapping[str, Any]) -> Any:
    """With the names that stand in quotes in ``list["Line"]``, which Python itself resolves from 3.11 on."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        return hint
    whole = tuple(_resolved(arg, scope) if isinstance(arg, str) else _complete(arg, scope) for arg in args)
    return hint if whole == args else (Union if _choices(hint) else origin)[whole]


class _Newer(ast.NodeTransformer):
    """``X | Y`` as Python 3.9 can read it, and ``InitVar[X]`` as 3.10 can."""

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        self.generic_visit(node)
        if not isinstance(node.op, ast.BitOr):
            return node
        return ast.Subscript(ast.Name("_Union"), ast.Tuple([node.left, node.right]))

    def visit_Subscript(self, node: ast.Subscript) -> ast.AST:
        self.generic_visit(node)
        return node.slice if ast.unparse(node.value).endswith("InitVar") else node


class _Kinds:
    """Makes converters, each once: a dataclass may hold others of its own kind."""

    def __init__(self) -> None:
        self._made: dict[Any, Convert] = {}

    def converter(self, kind: Any) -> Convert | None:
        """None when the values stay as they come."""
        if choices := _choices(kind):
            converters = [self.converter(choice) for choice in choices if choice is not type(None)]
            return None if None in converters else partial(_to_union, choices, converters)  # None: one takes anything
        args, kind = typing.get_args(kind), typing.get_origin(kind) or kind
        if not isinstance(kind, type) or type(kind).__hash__ is None:  # a list, which scripts write for one; no key
            return None
        if scalar_of(kind):
            return scalar_of(kind)
        if hasattr(kind, "model_validate"):
            return partial(_to_model, kind)
        if _is_object(kind):
            return self._made.get(kind) or self._object(kind)
        with suppress(TypeError):  # a Protocol that nothing can be asked for
            return self._container(kind, args)
        return None

    def _container(self, kind: type, args: tuple[Any, ...]) -> Convert | None:
        if issubclass(dict, kind) and issubclass(kind, collections.abc.Mapping):
            name, item = args if len(args) == 2 else (str, None)  # dict[str], which Python lets pass
            is_text = isinstance(name, type) and scalar_of(name)  # may come as a key
            key = self.converter(name) if is_text and name is not str else None
            return partial(_to_mapping, key, self.converter(item))
        if kind is tuple and len(args) > 1 and args[1:] != (...,):  # tuple[float] is often written for any length
            if any(str(typing.get_origin(arg)).endswith("Unpack") for arg in args):
                return partial(_to_array, None, tuple, ())  # of any length
            return partial(_to_array, None, tuple, [self.converter(arg) for arg in args])
        item = self.converter(args[0]) if args else None
        if kind in _SETS:
            return partial(_to_array, partial(_to_hashable, item), _SETS[kind], ())
        is_array = kind is tuple or (issubclass(list, kind) and issubclass(kind, collections.abc.Iterable))
        return partial(_to_array, item, tuple if kind is tuple else list, ()) if is_array else None

    def _object(self, kind: Any) -> Convert:
        is_dict, fields = hasattr(kind, "__required_keys__"), dict[str, tuple[Any, bool]]()
        convert = self._made[kind] = partial(_to_object, kind, is_dict, fields)
        if is_dict:
            needed = {name: name in kind.__required_keys__ for name in kind.__required_keys__ | kind.__optional_keys__}
        else:
            known = kind.__dataclass_fields__.values()  # InitVars too, which fields() leaves out
            own = [field for field in known if field.init and field._field_type.name != "_FIELD_CLASSVAR"]
            needed = {one.name: one.default is one.default_factory for one in own}  # both: MISSING
        hints: dict[str, Any] = {}
        for base in reversed(kind.__mro__):
            hints.update(_hints(base, list(needed)))
        for name, is_needed in needed.items():
            fields[name] = (self.converter(hints.get(name)), is_needed)
        return convert


def _at(step: str, convert: Convert, value: Any) -> Any:
    try:
        return convert(value)
    except Misfit as misfit:
        misfit.steps.append(step)
        raise


def _to_union(kinds: Sequence[Any], converters: Sequence[Any], value: Any) -> Any:
    if type(value) in kinds:
        return value
    said: list[Misfit] = []
    for convert in converters:
        try:
            return convert(value)
        except Misfit as misfit:
            said.append(misfit)
    names = ", ".join(getattr(kind, "__name__", None) or str(kind) for kind in kinds if kind is not type(None))
    raise said[0] if len(said) == 1 else Misfit(f"{shown(value)} is none of {names}")


def _to_object(kind: Any, is_dict: bool, fields: Mapping[str, tuple[Convert | None, bool]], value: Any) -> Any:
    """``fields``: by a field's name, what converts it and whether it is needed."""
    if not isinstance(value, dict):
        raise Misfit(f"{shown(value)} is not an object, as {kind.__name__} needs")
    result = dict(value) if is_dict else {}
    for name, (convert, is_needed) in fields.items():
        if name in value:
            result[name] = _at(f".{name}", convert, value[name]) if convert else value[name]
        elif is_needed:
            raise Misfit(f"there is no {name!r}, which {kind.__name__} needs")
    try:
        return result if is_dict else kind(**result)
    except (TypeError, ValueError) as error:  # of its __post_init__
        raise Misfit(str(error)) from None


def _to_array(item: Convert | None, make: Any, places: Sequence[Convert | None], value: Any) -> Any:
    """``places``: of a tuple, what converts each of its elements, instead of ``item``."""
    if not isinstance(value, list) or (places and len(value) != len(places)):
        raise Misfit(f"{shown(value)} is not an array{f' of {len(places)}' if places else ''}")
    if item is None and not places:
        return make(value)
    pairs = enumerate(zip(places or [item] * len(value), value))
    return make([_at(f"[{at}]", convert, each) if convert else each for at, (convert, each) in pairs])


def _to_hashable(convert: Convert | None, value: Any) -> Any:
    value = convert(value) if convert else value
    try:
        hash(value)
    except TypeError:
        raise Misfit(f"{shown(value)} is not hashable") from None
    return value


def _to_mapping(key: Convert | None, item: Convert | None, value: Any) -> Any:
    if not isinstance(value, dict):
        raise Misfit(f"{shown(value)} is not an object")
    if key is None and item is None:
        return value
    result = {}
    for text, each in value.items():
        name = _at(f".{text}", key, text) if key else text
        if name in result:
            raise Misfit(f"two of its keys are {shown(name)}")
        result[name] = _at(f".{text}", item, each) if item else each
    return result


def _to_model(kind: Any, value: Any) -> Any:
    try:
        return kind.model_validate(value)
    except ValueError as error:  # pydantic's own is one, too
        raise Misfit(" ".join(str(error).split())) from None

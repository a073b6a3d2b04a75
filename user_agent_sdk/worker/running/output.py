# SPDX-License-Identifier: Apache-2.0
"""From what a function returns to a JSON object that the platform takes as it is.

=====================================  ==========================================================
dict, Mapping                          object; keys become text as ``json`` does it, also UUID, date, Enum keys
dataclass, pydantic model              object of its fields
list, tuple, named tuple, deque, range array
set, frozenset                         array, sorted (by ``repr`` if the elements can't be compared)
datetime, date, time                   ISO 8601 text
timedelta                              seconds, a number
Decimal                                text, exact (``"10.50"``): a JSON number would be read as a binary float
UUID, Path                             text
Enum                                   its value
bytes, bytearray, memoryview           base64 text
=====================================  ==========================================================

The platform changes or drops in silence what breaks its limits, so they are checked here.
"""

from __future__ import annotations

import base64
import dataclasses
import datetime
import enum
import json
import math
from collections import abc
from decimal import Decimal
from pathlib import PurePath
from typing import Any, NamedTuple
from uuid import UUID

from ...conductor.wire import encode
from ...errors import OutputError

MAX_BYTES = 10 * 1024 * 1024  # more: the server says 200, fails the task and drops the output
MAX_DEPTH = 900  # the server refuses 1000; Python 3.9's own json stops at about 970 inside a thread
MAX_INT = 10**1000 - 1  # the server refuses more digits


class _Place(NamedTuple):
    """Where a value is: its container's place, its key there, and the container itself."""

    outer: _Place | None
    key: str | int
    container: object

    def __str__(self) -> str:
        steps, place = [], self
        while place.outer is not None:
            steps.append(f"[{place.key}]" if isinstance(place.key, int) else _member(place.key))
            place = place.outer
        text = "$" + "".join(reversed(steps))
        return text if len(text) <= 200 else f"{text[:120]}…{text[-60:]}"


def to_output(value: Any) -> tuple[dict[str, Any], bytes]:
    """The output for a returned value, objects as they are, anything else as ``{"result": value}``; and its JSON,
    which has to be made to know its size.

    The output is made of dict, list, str, int, float, bool and None only; a dict that already is comes
    back itself. Raises OutputError, naming the place, for what can't be sent.
    """
    fields = value if type(value) is dict else _fields(value)
    output = {"result": value} if fields is None else fields
    try:
        if type(output) is not dict or not _is_plain(output):
            output = _convert(output)
        encoded = encode(output)
    except (ValueError, RecursionError) as error:
        _convert(output)  # NaN, a lone surrogate: the slow way knows where
        raise OutputError(f"the output can't be sent as JSON: {error}") from None
    if len(encoded) > MAX_BYTES:
        raise OutputError(f"the output has {len(encoded):,} bytes as JSON; the platform takes {MAX_BYTES:,}")
    return output, encoded


def _fields(value: Any) -> Any:
    """What makes ``value`` a JSON object: itself if it is a Mapping, its fields if it has some, or None."""
    if isinstance(value, abc.Mapping):
        return value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if callable(getattr(type(value), "model_dump", None)):
        return value.model_dump()
    return None


def _is_plain(output: Any) -> bool:
    """Whether it is made of JSON's own types, in sizes that the platform takes. Level by level: no recursion.

    json.dumps alone would not do: it takes two keys that become the same text, and any depth.
    """
    level, least_bytes = [output], 0  # counted here, since json.dumps would first build it all in memory
    for _ in range(MAX_DEPTH):
        deeper: list[Any] = []
        for box in level:
            least_bytes += 2 * len(box)
            if least_bytes > MAX_BYTES:
                return False
            if type(box) is dict:
                for key in box:
                    if type(key) is not str:
                        return False
                box = box.values()
            for item in box:
                kind = type(item)
                if kind is dict or kind is list:
                    deeper.append(item)
                elif kind is int:
                    if not -MAX_INT <= item <= MAX_INT:
                        return False
                elif kind is str:
                    least_bytes += len(item)
                elif kind is not float and kind is not bool and item is not None:
                    return False
        if not deeper:
            return True
        level = deeper
    return False


class _Level(NamedTuple):
    """A container that is being converted: what is left of the source, and where the rest goes."""

    items: abc.Iterator[tuple[Any, Any]]
    target: Any  # dict or list
    place: _Place


def _convert(output: Any) -> Any:
    """A copy made of JSON's own types. Iterative: the depth of a value is not the depth of our stack."""
    place = _Place(None, "", output)
    root = _open(output, place)
    levels, least_bytes = [root], 0
    while levels:
        items, target, place = levels[-1]
        for key, item in items:
            if isinstance(target, dict):
                key = _key(key, place)
                if key in target:
                    raise OutputError(f"{place}: two keys become the same text, {key!r}")
            here = _Place(place, key, item)
            item = _scalar(item, here)
            least_bytes += 2 + (len(item) if isinstance(item, str) else 0)
            if least_bytes > MAX_BYTES:
                raise OutputError(f"{here}: the output grows over {MAX_BYTES:,} bytes of JSON, the platform's limit")
            inner = None if item is None or type(item) in (str, int, float, bool) else _open(item, here)
            if inner is not None:
                if len(levels) >= MAX_DEPTH:
                    raise OutputError(_too_deep([*(level.place for level in levels), here]))
                levels.append(inner)
                item = inner.target
            if isinstance(target, dict):
                target[key] = item
            else:
                target.append(item)
            if inner is not None:
                break
        else:
            levels.pop()
    return root.target


def _open(value: Any, place: _Place) -> _Level:
    fields = _fields(value)
    if fields is not None:
        return _Level(iter(fields.items()), {}, place)
    if isinstance(value, (set, frozenset)):
        try:
            value = sorted(value)
        except TypeError:
            value = sorted(value, key=repr)
    elif not isinstance(value, (list, tuple, abc.Sequence, abc.MappingView)):
        raise OutputError(f"{place}: a value of type {_type(value)} can't be sent as JSON")
    return _Level(enumerate(value), [], place)


def _scalar(value: Any, place: _Place) -> Any:
    """``value`` as str, int, float, bool or None if it is one value; otherwise as it came."""
    while isinstance(value, enum.Enum):
        value = value.value
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        if not -MAX_INT <= value <= MAX_INT:
            raise OutputError(f"{place}: a whole number of more than 1000 digits")
        return int(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise OutputError(f"{place}: {float(value)} is not a JSON number")
        return float(value)
    if isinstance(value, Decimal):
        if not value.is_finite():
            raise OutputError(f"{place}: Decimal {value} is not a JSON number")
        return format(value, "f") if -100 < value.adjusted() < 100 else str(value)
    if isinstance(value, (datetime.date, datetime.time)):
        return value.isoformat()
    if isinstance(value, datetime.timedelta):
        return value.total_seconds()
    if isinstance(value, (bytes, bytearray, memoryview)):
        return base64.b64encode(value).decode("ascii")
    if isinstance(value, (UUID, PurePath)):
        value = str(value)
    if isinstance(value, str):
        if not value.isascii():
            _check_text(value, place)
        return str.__str__(value)
    return value


def _key(key: Any, place: _Place) -> str:
    if type(key) is str and key.isascii():  # as most are: no need to look further
        return key
    while isinstance(key, enum.Enum):
        key = key.value
    if key is None or isinstance(key, bool):
        return json.dumps(key)
    if not isinstance(key, (str, int, float, UUID, Decimal, PurePath, datetime.date, datetime.time)):
        raise OutputError(f"{place}: a key of type {_type(key)} can't be sent as JSON")
    return str(_scalar(key, place))


def _check_text(text: str, place: _Place) -> None:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        bad = ascii(text[error.start])
        raise OutputError(f"{place}: half of a surrogate pair ({bad}) at character {error.start}") from None


def _too_deep(chain: list[_Place]) -> str:
    """Too deep, or without an end: then some container of the chain, the outermost first, is inside itself."""
    seen: dict[int, _Place] = {}
    for here in chain:
        outer = seen.setdefault(id(here.container), here)
        if outer is not here:
            return f"{here}: a circular reference, back to {outer}"
    return f"{chain[-1]}: nested more than {MAX_DEPTH} deep"


def _member(key: str) -> str:
    return f".{key}" if key.isidentifier() else f"[{json.dumps(key)}]"


def _type(value: object) -> str:
    kind = type(value)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"

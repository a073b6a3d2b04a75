# SPDX-License-Identifier: Apache-2.0
"""What a single JSON value, mostly text or a number, becomes for an annotation."""

from __future__ import annotations

import datetime
import enum
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import PurePath
from typing import Any

from ...values import moment

Convert = Callable[[Any], Any]


class Misfit(Exception):
    """A value that does not fit; ``steps`` lead to it, the last first."""

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.steps: list[str] = []


def _to_enum(kind: Any, value: Any) -> Any:
    try:
        return kind(value)
    except Exception:  # a _missing_ may raise whatever it likes
        named = {**{str(each.value): each for each in kind}, **kind.__members__}
        if isinstance(value, str) and value in named:
            return named[value]
        known = ", ".join(repr(each.value) for each in list(kind)[:10])
        raise Misfit(f"{shown(value)} is none of {known}") from None


def _to_scalar(what: str, types: Any, make: Convert, value: Any) -> Any:
    with suppress(ValueError, ArithmeticError):
        if isinstance(value, types) and not isinstance(value, bool):
            return make(value)
    raise Misfit(f"{shown(value)} is not {what}")


def _whole(value: Any) -> int:
    if isinstance(value, float) and not value.is_integer():
        raise ValueError
    return int(value)


def _boolean(value: Any) -> bool:
    known = {"true": True, "false": False, "yes": True, "no": False, "1": True, "0": False}
    found = known.get(str(value).strip().lower())  # True and False among them
    if found is None:
        raise Misfit(f"{shown(value)} is not true or false")
    return found


_NUMBER = (int, float, str)
_SCALARS: dict[Any, Convert] = {
    bool: _boolean,
    int: partial(_to_scalar, "a whole number", _NUMBER, _whole),
    float: partial(_to_scalar, "a number", _NUMBER, float),
    str: partial(_to_scalar, "text", (str, int), str),
    datetime.datetime: partial(_to_scalar, "a date with a time, such as 2026-01-31T08:00:00", str, moment),
    datetime.date: partial(_to_scalar, "a date, such as 2026-01-31", str, lambda value: moment(value).date()),
    datetime.time: partial(_to_scalar, "a time, such as 08:00:00", str,
                           lambda value: moment(f"2000-01-01T{value.strip().lstrip('Tt')}").timetz()),
}
# By name, since a script that annotates with these has loaded their modules, and most scripts don't.
_LOADED: dict[str, Callable[[Any], Convert]] = {
    "decimal.Decimal": lambda kind: partial(_to_scalar, "a decimal number", _NUMBER, lambda value: kind(str(value))),
    "uuid.UUID": lambda kind: partial(_to_scalar, "a UUID", str, kind),
}


def scalar_of(kind: Any) -> Convert | None:
    """What makes a ``kind`` of a single value; None for a kind of another sort."""
    if issubclass(kind, enum.Enum):
        return partial(_to_enum, kind)
    if issubclass(kind, PurePath):
        return partial(_to_scalar, "a path", str, kind)
    make = _LOADED.get(f"{kind.__module__}.{kind.__qualname__}")
    return make(kind) if make else _SCALARS.get(kind)


def shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:60]}… ({type(value).__name__})"

# SPDX-License-Identifier: Apache-2.0
"""From what a function returns to a JSON object that the platform takes as it is.

dict, Mapping                          object; keys become text as ``json`` does it, also UUID, date, Enum keys
dataclass, attrs, msgspec              object of its fields
pydantic and any ``model_dump``        the model's own JSON form, whatever that is
list, tuple, set, any other sequence   array; a set's is sorted (by ``repr`` if the elements can't be compared)
array of numpy, column of pandas, …    array (any ``tolist`` beside a ``dtype``); a table of rows: array of objects
one value, such as a date              what ``_scalar`` says
anything else                          object of its attributes that are not None, else its text, as in 0.2.0

Other packages' types are known by their shape: nothing is imported for them. The platform changes or drops in
silence what breaks its limits, so they are checked here; each message ends with what to do.
"""

from __future__ import annotations

import binascii
import datetime
import enum
import json
import math
import re
import sys
from collections import UserString, abc
from contextlib import suppress
from pathlib import PurePath
from typing import Any, NamedTuple

from ...conductor.wire import Task, encode
from ...errors import OutputError
from .context import CURRENT

MAX_BYTES = 10 * 1024 * 1024  # more: the server says 200, fails the task and drops the output
MAX_DEPTH = 900  # the server refuses 1000; Python 3.9's own json stops at about 970 inside a thread
MAX_INT = 10**1000 - 1  # the server refuses more digits

_SIMPLE = (str, int, float, bool)
_OF_JSON = (dict, list, type(None), *_SIMPLE)
_DONE = (*_SIMPLE, abc.Mapping, set, frozenset, tuple, abc.Sequence, abc.MappingView)
_MAX_STEPS = 10  # from a model to its root, and so on
_STORE = "store it, and return where"


class _Place(NamedTuple):
    """Where a value is: its container's place, its key there, and the container itself."""

    outer: _Place | None
    key: str | int
    container: object

    def __str__(self) -> str:
        steps, place = [], self
        while place.outer is not None:
            is_name = isinstance(place.key, str) and place.key.isidentifier()
            steps.append(f".{place.key}" if is_name else f"[{json.dumps(place.key)}]")
            place = place.outer
        text = "$" + "".join(reversed(steps))
        return text if len(text) <= 200 else f"{text[:120]}…{text[-60:]}"


def is_result(value: object) -> bool:
    """Whether a returned value is a TaskResult, of whatever package: by its attributes. A task has an input too."""
    kind = type(value)
    if kind.__module__ == "builtins":
        return False
    own = getattr(value, "__dict__", ())
    names = ("status", "output_data", "reason_for_incompletion", "input_data")
    return [name in own or hasattr(kind, name) for name in names] == [True, True, True, False]


def to_output(value: Any) -> tuple[dict[str, Any], bytes]:
    """The output for a returned value, objects as they are, anything else as ``{"result": value}``; and its JSON, which
    has to be made to know its size. The output is made of dict, list, str, int, float, bool and None only; a dict that
    already is comes back itself. Raises OutputError, naming the place, for what can't be sent."""
    if type(value) not in _OF_JSON:
        value = _settled(value, _Place(_Place(None, "", value), "result", value))
    output = value if isinstance(value, abc.Mapping) else {"result": value}
    try:
        if type(output) is not dict or not _is_plain(output):
            output = _convert(output)
        try:
            encoded = encode(output)
        except UnicodeEncodeError as error:
            output = _whole(error)
            encoded = encode(output)
    except (ValueError, RecursionError) as error:
        try:
            _convert(output)  # NaN: the slow way knows where
        except OutputError as found:
            raise found from None
        raise OutputError(f"the output can't be sent as JSON: {error}; return only what the next step needs") from None
    if len(encoded) > MAX_BYTES:
        raise OutputError(f"the output has {len(encoded):,} bytes as JSON, the platform takes {MAX_BYTES:,}; {_STORE}")
    return output, encoded


def _parts(value: Any) -> Any:
    """A model's JSON form, an object's fields as a Mapping, the lists and numbers of an array, a column, a table or a
    number of numpy, pandas and their like; what is none of these comes back as it is."""
    kind = type(value)
    if isinstance(value, abc.Mapping) or kind.__module__ == "builtins":
        return value
    if isinstance(value, Task):
        return value.wire
    if hasattr(kind, "__dataclass_fields__"):  # so whoever made it has loaded dataclasses
        return {field.name: getattr(value, field.name) for field in sys.modules["dataclasses"].fields(value)}
    if callable(getattr(kind, "model_dump", None)):
        try:
            return value.model_dump(mode="json")
        except Exception:  # another package's method of that name takes no mode; bytes that are no UTF-8
            return value.model_dump()
    if hasattr(kind, "__fields__") and callable(getattr(kind, "json", None)):  # pydantic 1
        return json.loads(value.json())
    names = getattr(kind, "__struct_fields__", None) or [at.name for at in getattr(kind, "__attrs_attrs__", ())]
    if names:
        return {name: getattr(value, name) for name in names}
    if hasattr(kind, "iterrows"):
        return value.to_dict("records")
    if not hasattr(kind, "dtype") or not callable(getattr(kind, "tolist", None)):
        return value
    unit = re.search(r"64\[(?=\d*[npfa]s\])", str(value.dtype))
    if unit and kind.__module__.startswith("numpy"):  # whose own list would be of whole numbers
        value = value.astype(str(value.dtype)[: unit.end()].lstrip("<>=|") + "us]")
    return value.tolist()


def _unknown(value: Any) -> Any:
    """An object of no kind that is known: its attributes that are not None, else its text. A function, a class, an
    exception, and what keeps a secret (``get_secret_value``), is its text; so is what keeps all to itself, and has a
    text of its own (pydantic's HttpUrl)."""
    kind, own = type(value), getattr(value, "__dict__", None)
    is_text = kind.__module__ == "builtins" or hasattr(kind, "get_secret_value")
    if own and getattr(kind, "__str__", None) is not object.__str__:
        is_text = is_text or all(str(name).startswith("_") for name in own)
    if own is not None and not is_text and not isinstance(value, (type, BaseException)):
        return {name: item for name, item in own.items() if item is not None}
    try:
        return str(value)
    except Exception:
        return f"<{_type(value)}>"


def _is_plain(output: Any) -> bool:
    """Whether ``output`` is made of JSON's own types, in sizes that the platform takes. Level by level: no recursion.
    json.dumps alone would not do: it takes two keys that become the same text, and any depth."""
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
                    raise OutputError(f"{place}: two keys become the same text, {key!r}; make them differ")
            here = _Place(place, key, item)
            item = _settled(item, here)
            least_bytes += 2 + (len(item) if isinstance(item, str) else 0)
            if least_bytes > MAX_BYTES:
                raise OutputError(f"{here}: the output grows over {MAX_BYTES:,} bytes, the platform's limit; {_STORE}")
            inner = None if item is None or type(item) in _SIMPLE else _open(item, here)
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


def _settled(value: Any, place: _Place) -> Any:
    """``value`` as str, int, float, bool or None, or as a container: a Mapping, a set, a sequence or a view."""
    for _ in range(_MAX_STEPS):
        value = _scalar(value, place)
        if value is None or isinstance(value, _DONE):
            return value
        before = value
        with suppress(Exception):  # a model that can't be dumped still has attributes
            value = _parts(value)
        if value is before:
            value = _unknown(value)
    return str(value)


def _open(value: Any, place: _Place) -> _Level:
    if isinstance(value, abc.Mapping):
        return _Level(iter(value.items()), {}, place)
    if isinstance(value, (set, frozenset)):
        try:
            value = sorted(value)
        except TypeError:
            value = sorted(value, key=repr)
    return _Level(enumerate(value), [], place)


def _scalar(value: Any, place: _Place) -> Any:
    """``value`` as str, int, float, bool or None if it is one value; otherwise as it came."""
    while isinstance(value, enum.Enum):
        value = value.value
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        if not -MAX_INT <= value <= MAX_INT:
            raise OutputError(f"{place}: a whole number of more than 1000 digits; return its text")
        return int(value)
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise OutputError(f"{place}: {float(value)} is not a JSON number; return None instead")
        return float(value)
    if _is_a(value, "decimal", "Decimal"):
        if not value.is_finite():
            raise OutputError(f"{place}: Decimal {value} is not a JSON number; return None instead")
        # Exact text: a JSON number would be read as a binary float.
        return format(value, "f") if -100 < value.adjusted() < 100 else str(value)
    if type(value).__name__ in ("NaTType", "NAType"):  # of pandas; the first calls itself a datetime
        return None
    if isinstance(value, (datetime.date, datetime.time)):
        return value.isoformat()
    if isinstance(value, datetime.timedelta):
        return value.total_seconds()
    if isinstance(value, (bytes, bytearray, memoryview)):
        return binascii.b2a_base64(value, newline=False).decode("ascii")
    return str(value) if isinstance(value, (PurePath, UserString)) or _is_a(value, "uuid", "UUID") else value


def _is_a(value: Any, module: str, name: str) -> bool:
    """Whether ``value`` is of a class of the standard library that not every script loads."""
    return any(base.__name__ == name and base.__module__ == module for base in type(value).__mro__)


def _key(key: Any, place: _Place) -> str:
    if type(key) is str and key.isascii():  # as most are: no need to look further
        return key
    plain = key if isinstance(key, (tuple, bytes)) else _settled(key, place)
    if plain is None or isinstance(plain, bool):
        return json.dumps(plain)
    if type(plain) not in _SIMPLE:
        raise OutputError(f"{place}: a key of type {_type(key)} can't be sent as JSON; make it text")
    return str(plain)


def _whole(error: UnicodeEncodeError) -> Any:
    """The output whose JSON could not be UTF-8: surrogate pairs are joined, half of one becomes "?", as in 0.2.0."""
    whole = error.object.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")
    current, half = CURRENT.get(None), re.search(r"[\ud800-\udfff]", whole)
    if half and current is not None:
        text = "The output has half of a surrogate pair, which is sent as '?': at the end of %s"
        current.logger.warning(text, ascii(whole[max(half.start() - 40, 0) : half.end()]))
    return json.loads(whole.encode("utf-8", "replace"))


def _too_deep(chain: list[_Place]) -> str:
    """Too deep, or without an end: then some container of the chain, the outermost first, is inside itself."""
    seen: dict[int, _Place] = {}
    for here in chain:
        outer = seen.setdefault(id(here.container), here)
        if outer is not here:
            return f"{here}: a circular reference, back to {outer}; return only the fields that the next step needs"
    return f"{chain[-1]}: nested more than {MAX_DEPTH} deep; return it flat, or as text"


def _type(value: object) -> str:
    kind = type(value)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"

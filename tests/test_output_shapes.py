# SPDX-License-Identifier: Apache-2.0
"""Objects of other packages, known by their shape; and that nothing but a JSON object comes out of any value."""

from __future__ import annotations

import collections
import datetime
import fractions
import ipaddress
import json
import math
import random
import types
import unittest
from decimal import Decimal
from typing import Any

from tests.test_output import Colour, Item, Pair, Size, nested
from user_agent_sdk.conductor.wire import LogLine, Task, TaskResult, encode
from user_agent_sdk.errors import OutputError
from user_agent_sdk.worker.running import output
from user_agent_sdk.worker.running.output import is_result


def result_of(value: Any) -> Any:
    return output.to_output([value])[0]["result"][0]


class Plain:
    def __init__(self, **attributes: Any) -> None:
        self.__dict__.update(attributes)


class Slotted:
    __slots__ = ("x",)

    def __str__(self) -> str:
        return "slotted"


class Unspeakable:
    __slots__ = ()

    def __str__(self) -> str:
        raise RuntimeError


class Root:
    """pydantic's RootModel: what it dumps is no object."""

    def __init__(self, root: Any) -> None:
        self.root = root

    def model_dump(self, mode: str = "python") -> Any:
        return self.root


class Broken(Root):
    def model_dump(self, mode: str = "python") -> Any:
        raise RuntimeError("no")


class Secret(Plain):
    def get_secret_value(self) -> str:
        return str(self.hidden)

    def __str__(self) -> str:
        return "**********"


class V1(Plain):
    """pydantic 1: its JSON knows what its dict does not, such as addresses and secrets."""

    __fields__ = ("secret",)

    def json(self) -> str:
        return '{"secret": "**********"}'


class Attrs(Plain):
    __attrs_attrs__ = (types.SimpleNamespace(name="a"), types.SimpleNamespace(name="b"))


class Struct(Slotted):
    __slots__ = ()
    __struct_fields__ = ("x",)


class Array:
    """A number or an array of numpy: a dtype, and tolist."""

    def __init__(self, values: Any, dtype: str = "int64") -> None:
        self.values, self.kept = values, dtype

    @property
    def dtype(self) -> str:
        return self.kept

    def astype(self, dtype: str) -> Array:
        return Array(self.values, dtype)

    def tolist(self) -> Any:
        return self.values if self.kept != "datetime64[us]" else [datetime.datetime(2026, 1, 2), None]


Array.__module__ = "numpy"


class Table:
    def iterrows(self) -> None: ...

    def to_dict(self, form: str) -> Any:
        return [{"form": form}]


class NaTType(datetime.datetime):
    """pandas' NaT calls itself a datetime, and its isoformat is "NaT"."""


class OtherResult:
    """A TaskResult as other packages have it: nothing but attributes behind properties."""

    def __init__(self, status: Any, output_data: Any = None) -> None:
        self._status, self.output_data, self.reason_for_incompletion = status, output_data, None

    @property
    def status(self) -> Any:
        return self._status


class Shapes(unittest.TestCase):
    def test_an_object_that_nobody_knows_is_its_attributes_else_its_text(self) -> None:
        for value, expected in (
            (Plain(a=1, b=None, c=Plain(d=Decimal("1.0"))), {"a": 1, "c": {"d": "1.0"}}),
            (types.SimpleNamespace(x=[Plain()]), {"x": [{}]}),
            (fractions.Fraction(1, 3), "1/3"),
            (ipaddress.IPv4Address("10.0.0.1"), "10.0.0.1"),
            (1 + 2j, "(1+2j)"),
            (datetime.timezone.utc, "UTC"),
            (Slotted(), "slotted"),
            (Unspeakable(), f"<{__name__}.Unspeakable>"),
            (ValueError("boom"), "boom"),
            (Plain, str(Plain)),
            (print, str(print)),
        ):
            with self.subTest(repr(expected)):
                self.assertEqual(result_of(value), expected)
        self.assertEqual(output.to_output(Plain(a=1, b=None))[0], {"a": 1})

    def test_an_objects_own_circle_is_named(self) -> None:
        parent = Plain(name="p")
        parent.child = Plain(parent=parent)  # type: ignore[attr-defined]
        with self.assertRaisesRegex(OutputError, r"a circular reference, back to \$\.child; return only"):
            output.to_output(parent)

    def test_a_model_is_its_own_json_form_whatever_that_is(self) -> None:
        self.assertEqual(output.to_output(Root([1]))[0], {"result": [1]})
        self.assertEqual(output.to_output(Root({"a": Root(Root(2))}))[0], {"a": 2})
        self.assertEqual(output.to_output(V1(secret="s"))[0], {"secret": "**********"})
        self.assertEqual(result_of(Attrs(a=1, b=None)), {"a": 1, "b": None})
        struct = Struct()
        struct.x = 7
        self.assertEqual(result_of(struct), {"x": 7})

    def test_a_model_that_can_not_be_dumped_still_has_attributes(self) -> None:
        self.assertEqual(output.to_output(Broken(3))[0], {"root": 3})

    def test_a_secret_is_never_shown_by_way_of_its_attributes(self) -> None:
        self.assertEqual(result_of(Secret(hidden="canary")), "**********")

    def test_what_keeps_all_to_itself_is_its_text(self) -> None:
        """pydantic's HttpUrl came out as an object with a "_url"."""
        kind = type("HttpUrl", (), {"__str__": lambda self: str(self._url), "__module__": "pydantic.networks"})
        url, silent = kind(), type("Silent", (), {})()
        url._url, silent._x = "https://example.com/", 1
        self.assertEqual(result_of(url), "https://example.com/")
        self.assertEqual(result_of(silent), {"_x": 1})

    def test_arrays_numbers_and_tables_are_what_they_hold(self) -> None:
        self.assertEqual(result_of(Array(3)), 3)
        self.assertEqual(result_of(Array([[1, 2], [3, 4]])), [[1, 2], [3, 4]])
        self.assertEqual(output.to_output(Array([1]))[0], {"result": [1]})
        self.assertEqual(output.to_output(Table())[0], {"result": [{"form": "records"}]})
        self.assertEqual(result_of({Array(3): "x"}), {"3": "x"})

    def test_times_of_numpy_are_times_and_not_whole_numbers(self) -> None:
        self.assertEqual(result_of(Array([1767312000000000000], "datetime64[ns]")), ["2026-01-02T00:00:00", None])

    def test_a_time_that_is_none_is_null(self) -> None:
        self.assertIsNone(result_of(NaTType(2026, 1, 2)))

    def test_a_result_is_known_by_its_attributes_and_a_task_is_none(self) -> None:
        self.assertTrue(is_result(OtherResult("FAILED")))
        self.assertTrue(is_result(TaskResult()))
        for value in ({"status": 1}, Task({"taskId": "t"}), Plain(status="x"), None, Item("a", Decimal(1))):
            self.assertFalse(is_result(value), value)
        task = Plain(status="", output_data={}, reason_for_incompletion="", input_data={})
        self.assertFalse(is_result(task))

    def test_a_returned_task_is_what_the_platform_sent(self) -> None:
        self.assertEqual(output.to_output(Task({"taskId": "t", "seq": 1}))[0], {"taskId": "t", "seq": 1})


LEAVES: list[Any] = [
    None, True, 0, -1, 10**30, 10**1000, 1.5, math.nan, math.inf, "", "ü", "\ud800", b"\xff", Decimal("1.50"),
    Decimal("NaN"), datetime.datetime(2026, 1, 2), datetime.timedelta(1), Colour.RED, Size.BIG, Pair(1, 2), range(2),
    object(), print, Plain, Plain(a=None, b=1), Slotted(), Unspeakable(), Root([1]), Root(None), Broken(1), Array([1]),
    Array(None), Table(), NaTType(2026, 1, 1), Secret(hidden=1), Attrs(a=1, b=2), fractions.Fraction(1, 2), 1j,
    LogLine("a", 1), Task({}), nested(500), types.MappingProxyType({1: 2}), (x for x in "ab"), {1: 2}.items(),
]  # fmt: skip
KEYS: list[Any] = ["a", "b", 1, "1", 1.5, None, True, "true", (1,), b"a", Colour.RED, Decimal(1), Array(1), Plain]


def generated(dice: random.Random, depth: int) -> Any:
    if depth == 0 or dice.random() < 0.3:
        return dice.choice(LEAVES)
    inner = [generated(dice, depth - 1) for _ in range(dice.randrange(4))]
    keys = [dice.choice(KEYS) for _ in inner]
    made: list[Any] = [
        inner, tuple(inner), collections.deque(inner), dict(zip(keys, inner)), Root(inner), Array(inner),
        types.MappingProxyType(dict(zip(keys, inner))), Plain(**{str(key): item for key, item in zip(keys, inner)}),
        Item("x", Decimal(1), inner), Attrs(a=inner, b=inner),
    ]  # fmt: skip
    return dice.choice(made)


class AnyValue(unittest.TestCase):
    def test_whatever_is_returned_the_output_is_a_json_object_or_a_fault_with_advice(self) -> None:
        dice, sent, refused = random.Random(20261129), 0, 0
        for number in range(2000):
            value = generated(dice, 1 + number % 5)
            try:
                made, encoded = output.to_output(value)
            except OutputError as error:
                self.assertRegex(str(error), r"^\$.*; ", repr(value))
                refused += 1
                continue
            sent += 1
            self.assertIs(type(made), dict, repr(value))
            self.assertEqual(encoded, encode(made))
            self.assertEqual(json.loads(encoded, parse_constant=self.fail), made)
        self.assertGreater(min(sent, refused), 250)


if __name__ == "__main__":
    unittest.main()

# SPDX-License-Identifier: Apache-2.0
"""What a function may return, what becomes of it, and how the place of what can't be sent is named."""

from __future__ import annotations

import collections
import dataclasses
import datetime
import enum
import json
import types
import unittest
import uuid
from decimal import Decimal
from pathlib import PurePosixPath
from typing import Any, NamedTuple

from user_agent_sdk.conductor.wire import encode
from user_agent_sdk.errors import OutputError
from user_agent_sdk.worker.running import output
from user_agent_sdk.worker.running.output import MAX_BYTES, MAX_DEPTH


class Colour(enum.Enum):
    RED = "red"


class Size(enum.IntEnum):
    BIG = 3


class Word(str, enum.Enum):
    YES = "yes"


class Pair(NamedTuple):
    x: int
    y: int


@dataclasses.dataclass
class Item:
    name: str
    price: Decimal
    parts: list[Any] = dataclasses.field(default_factory=list)


class Text(str):
    pass


class Keyed:
    """A key that is neither text nor a number: its attributes are an object."""


def to_output(value: Any) -> dict[str, Any]:
    """The output, whose JSON is what any other encoder of the wire makes of it."""
    fields, encoded = output.to_output(value)
    if encoded != encode(fields):
        raise AssertionError(encoded[:200])
    return fields


def nested(depth: int) -> dict[str, Any]:
    """Dicts inside each other, ``depth`` of them."""
    value: dict[str, Any] = {}
    for _ in range(depth - 1):
        value = {"a": value}
    return value


class Shapes(unittest.TestCase):
    def test_a_dict_is_the_output_itself(self) -> None:
        value = {"a": [1, 2.5, None, True, {"b": "ü"}]}
        self.assertIs(to_output(value), value)

    def test_anything_else_becomes_the_result(self) -> None:
        for value in (5, "text", None, False, [1], 1.5):
            self.assertEqual(to_output(value), {"result": value})

    def test_dataclasses_and_mappings_are_objects_at_the_top_and_below(self) -> None:
        item = Item("bolt", Decimal("10.50"), [Item("nut", Decimal(2))])
        expected = {"name": "bolt", "price": "10.50", "parts": [{"name": "nut", "price": "2", "parts": []}]}
        self.assertEqual(to_output(item), expected)
        self.assertEqual(to_output([item]), {"result": [expected]})
        self.assertEqual(to_output(types.MappingProxyType({"a": (1,)})), {"a": [1]})
        self.assertEqual(to_output(collections.OrderedDict(b=1, a=2)), {"b": 1, "a": 2})

    def test_a_pydantic_like_model_is_the_object_that_it_dumps(self) -> None:
        class Model:
            def model_dump(self) -> dict[str, Any]:
                return {"day": datetime.date(2026, 1, 2)}

        self.assertEqual(to_output(Model()), {"day": "2026-01-02"})

    def test_a_dataclass_itself_is_not_an_instance_of_it(self) -> None:
        self.assertEqual(to_output(Item), {"result": str(Item)})

    def test_what_people_really_return_becomes_json(self) -> None:
        utc = datetime.timezone.utc
        cases: list[tuple[Any, Any]] = [
            (datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=utc), "2026-01-02T03:04:05+00:00"),
            (datetime.date(2026, 1, 2), "2026-01-02"),
            (datetime.time(3, 4), "03:04:00"),
            (datetime.timedelta(minutes=1, milliseconds=500), 60.5),
            (Decimal("10.00"), "10.00"),
            (Decimal("1E+2"), "100"),
            (Decimal("1E+5000"), "1E+5000"),
            (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
            (PurePosixPath("/a/b"), "/a/b"),
            (collections.UserString("day"), "day"),  # a sequence of its own kind: it was nested without an end
            (Colour.RED, "red"),
            (Size.BIG, 3),
            (Word.YES, "yes"),
            (Text("sub"), "sub"),
            (b"\x00\xff", "AP8="),
            (bytearray(b"a"), "YQ=="),
            (memoryview(b"a"), "YQ=="),
            ({3, 1, 2}, [1, 2, 3]),
            (frozenset({"b", "a"}), ["a", "b"]),
            ({1, "a"}, ["a", 1]),
            (Pair(1, 2), [1, 2]),
            (range(3), [0, 1, 2]),
            (collections.deque([1]), [1]),
            ({"k": 1}.values(), [1]),
        ]
        for value, expected in cases:
            with self.subTest(repr(value)):
                output = to_output({"value": value})
                self.assertEqual(output, {"value": expected})
                self.assertEqual(json.loads(encode(output)), output)
                self.assertIs(type(output["value"]), type(expected))

    def test_keys_become_text_as_json_does_it(self) -> None:
        day, ident = datetime.date(2026, 1, 2), uuid.UUID(int=1)
        keys: dict[Any, int] = {1: 0, 2.5: 0, None: 0, day: 0, ident: 0, Colour.RED: 0, Size.BIG: 0}
        expected = {"1", "2.5", "null", "2026-01-02", str(ident), "red", "3"}
        self.assertEqual(set(to_output(keys)), expected)
        self.assertEqual(to_output({False: 1, Text("t"): 2}), {"false": 1, "t": 2})

    def test_a_value_used_in_two_places_is_no_circle(self) -> None:
        shared = (1,)
        self.assertEqual(to_output({"a": shared, "b": [shared, shared]}), {"a": [1], "b": [[1], [1]]})


class Refusals(unittest.TestCase):
    def refused(self, value: Any) -> str:
        with self.assertRaises(OutputError) as caught:
            to_output(value)
        return str(caught.exception)

    def test_nan_and_infinity_are_named_with_their_place(self) -> None:
        items: list[Any] = [{"price": 1.0}, {}, {}, {"price": float("nan")}]
        self.assertIn("$.items[3].price: nan", self.refused({"items": items}))
        self.assertIn("$.result: inf", self.refused(float("inf")))
        self.assertIn("$.result: Decimal NaN", self.refused(Decimal("NaN")))
        self.assertIn("$: nan", self.refused({float("nan"): 1}))

    def test_a_key_that_has_no_text_is_named_with_its_type(self) -> None:
        self.assertIn("$['a b']: a key of type tuple".replace("'", '"'), self.refused({"a b": {(1, 2): 3}}))
        self.assertIn("a key of type bytes", self.refused({b"a": 3}))
        self.assertIn(f"a key of type {__name__}.Keyed", self.refused({Keyed(): 3}))

    def test_the_first_fault_is_the_one_that_is_named(self) -> None:
        self.assertIn("$.a.b", self.refused({"a": {"b": 10**1000}, "c": float("nan")}))

    def test_each_says_what_to_do(self) -> None:
        ring: list[Any] = []
        ring.append(ring)
        faults: list[Any] = [
            float("nan"), Decimal("NaN"), 10**1000, ring, nested(1000), {(1,): 2}, {1: 1, "1": 1},
            "x" * MAX_BYTES, ["x" * 9_999_999] * 2,
        ]  # fmt: skip
        for fault in faults:
            self.assertRegex(self.refused({"a": fault}), r"; .*(return|make|store|text)")

    def test_keys_that_become_the_same_text_are_refused(self) -> None:
        # json.dumps writes both, and the platform keeps one of them without a word
        self.assertIn("$.a: two keys become the same text, '1'", self.refused({"a": {1: "x", "1": "y"}}))
        self.assertIn("'null'", self.refused({None: 1, "null": 2}))

    def test_circular_references_are_named_both_ends(self) -> None:
        loop: dict[str, Any] = {"a": {}}
        loop["a"]["back"] = loop
        self.assertIn("$.a.back: a circular reference, back to $", self.refused(loop))
        ring: list[Any] = [1]
        ring.append(ring)
        self.assertIn("$.x[1]: a circular reference, back to $.x", self.refused({"x": ring}))
        item = Item("self", Decimal(1))
        item.parts.append(item)
        self.assertIn("a circular reference", self.refused(item))

    def test_depth_is_checked_without_recursion(self) -> None:
        deepest = to_output(nested(MAX_DEPTH))
        self.assertEqual(json.loads(encode(deepest)), deepest)
        for depth in (MAX_DEPTH + 1, 1001, 100_000):
            message = self.refused(nested(depth))
            self.assertIn(f"nested more than {MAX_DEPTH} deep", message)
            self.assertLess(len(message), 300)
        self.assertIn("nested more than", self.refused({"t": (nested(MAX_DEPTH),)}))

    def test_half_a_surrogate_pair_is_sent_as_a_question_mark(self) -> None:
        """A name of a file that is no UTF-8 failed the task for good, and what the function had done was lost."""
        self.assertEqual(to_output({"a": ["ü-\ud800"], "b": 1.5}), {"a": ["ü-?"], "b": 1.5})
        self.assertEqual(to_output({"\udfff": (1,)}), {"?": [1]})
        self.assertEqual(to_output(b"\xfc.pdf".decode("utf-8", "surrogateescape")), {"result": "?.pdf"})
        self.assertEqual(to_output({**nested(MAX_DEPTH), "b": "\ud800"}), {**nested(MAX_DEPTH), "b": "?"})
        self.assertIn("$.b: nan", self.refused({"a": "\ud800", "b": float("nan")}))

    def test_two_halves_that_are_a_pair_are_sent_as_what_they_are(self) -> None:
        """They were sent as "??"."""
        whole = {"\U0001f600": ["\U0001f600?\ufffd"]}
        self.assertEqual(to_output({"\ud83d\ude00": ["\ud83d\ude00\ud83d\ufffd"]}), whole)

    def test_numbers_of_more_than_1000_digits_are_named(self) -> None:
        self.assertEqual(to_output(10**999), {"result": 10**999})
        self.assertIn("$.n: a whole number of more than 1000 digits", self.refused({"n": 10**1000}))
        self.assertIn("$.n", self.refused({"n": -(10**5000)}))
        self.assertIn("more than 1000 digits", self.refused({10**1000: 1}))

    def test_what_is_larger_than_the_platform_takes_is_refused(self) -> None:
        text = "x" * (MAX_BYTES - len('{"a":""}'))
        self.assertEqual(len(encode(to_output({"a": text}))), MAX_BYTES)
        self.assertIn("10,485,760", self.refused({"a": text + "x"}))
        self.assertIn("10,485,760", self.refused({"a": ["ü" * (MAX_BYTES // 2)]}))

    def test_an_output_that_would_not_fit_in_memory_is_refused_before_it_is_built(self) -> None:
        value: Any = ["x" * 1000] * 1000
        for _ in range(6):
            value = [value] * 1000  # 10**24 characters of JSON, in a few kilobytes
        self.assertRegex(self.refused({"a": value}), r"^\$\.a\[0\].*10,485,760")


if __name__ == "__main__":
    unittest.main()

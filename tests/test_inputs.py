# SPDX-License-Identifier: Apache-2.0
"""What annotations make of a task's input; and that what they can't be read from is left alone."""

from __future__ import annotations

import dataclasses
import datetime
import enum
import functools
import sys
import types
import typing
import unittest
from collections.abc import Callable, Mapping, Sequence
from dataclasses import InitVar, dataclass, field, make_dataclass
from decimal import Decimal
from pathlib import Path
from typing import (  # noqa: F401, UP035
    TYPE_CHECKING,
    AbstractSet,
    Annotated,
    Any,
    ClassVar,
    Dict,
    List,
    Literal,
    MutableSet,
    Optional,
    Set,
    Tuple,
    TypedDict,
    Union,
)
from unittest import mock
from uuid import UUID

from tests import workerbox  # noqa: F401 - what is not asserted is not printed
from tests.support import entered
from user_agent_sdk import Task, TaskResult
from user_agent_sdk.testing import run_task

if TYPE_CHECKING:
    from nowhere import Absent

NUMBER = "12345678-1234-5678-1234-567812345678"


class Color(enum.Enum):
    RED = "r"
    BLUE = "b"


class Level(enum.Enum):
    LOW = 1
    HIGH = 2

    @classmethod
    def _missing_(cls, value: Any) -> Any:
        return cls.__members__.get(value.upper())  # as many have it, whatever else than text may come


@dataclass
class Line:
    sku: str
    qty: int
    price: Decimal = Decimal(1)
    parts: List[Line] = field(default_factory=list)  # noqa: UP006


@dataclass
class Ping:
    """Without a field: its plan was that of a TypedDict, and each try failed with an AttributeError."""


@dataclass
class Order:
    lines: list[Line]
    due: datetime.date | None = None
    by_color: Mapping[Color, int] = field(default_factory=dict)
    note: Optional[str] = None  # noqa: UP045
    total: Decimal = field(init=False, default=Decimal(0))

    def __post_init__(self) -> None:
        self.total = sum((line.qty * line.price for line in self.lines), Decimal(0))
        if self.note == "bad":
            raise ValueError("a bad note")


class Person(TypedDict):
    name: str
    born: datetime.date


class Shelf(TypedDict):
    lines: list[Line] | None
    level: Level | int


class Model:
    """As pydantic's are, by their shape."""

    def __init__(self, value: Any) -> None:
        self.value = value

    @classmethod
    def model_validate(cls, value: Any) -> Model:
        if value == "wrong":
            raise ValueError("1 validation error\n  for Model")
        return cls(value)

    __eq__ = object.__eq__
    __hash__ = None  # type: ignore[assignment]


@dataclass
class Padded:
    text: str
    width: InitVar[int]
    due: dataclasses.InitVar[datetime.date | None] = None
    count: ClassVar[int] = 0

    def __post_init__(self, width: int, due: datetime.date | None) -> None:
        self.text = self.text.ljust(width, ".")
        self.due = due  # type: ignore[misc]


@dataclass
class Node:
    name: str
    kids: list["Node"] = field(default_factory=list)  # noqa: UP037 - in quotes twice, since annotations are texts here


class InputsTest(unittest.TestCase):
    def given(self, func: Callable[..., Any], **values: Any) -> Any:
        """What the function got; it must complete."""
        got: list[Any] = []

        def call(*args: Any, **kwargs: Any) -> None:
            got.append(kwargs)

        result = run_task(_like(func, call), values)
        self.assertEqual(result.status, "COMPLETED", result.reason_for_incompletion)
        return next(iter(got[0].values())) if len(got[0]) == 1 else got[0]

    def refused(self, func: Callable[..., Any], **values: Any) -> str:
        result: TaskResult = run_task(func, values)
        self.assertEqual(result.status, "FAILED_WITH_TERMINAL_ERROR")
        return str(result.reason_for_incompletion)

    def test_an_object_becomes_a_dataclass_with_all_that_is_in_it(self) -> None:
        def f(order: Order) -> None: ...

        order = self.given(
            f,
            order={
                "lines": [{"sku": 7, "qty": "2", "price": "1.50", "parts": [{"sku": "a", "qty": 1.0}], "more": 1}],
                "due": "2026-01-31",
                "by_color": {"r": 1},
            },
        )
        self.assertEqual(order.lines, [Line("7", 2, Decimal("1.50"), [Line("a", 1)])])
        self.assertEqual((order.due, order.total), (datetime.date(2026, 1, 31), Decimal("3.00")))

    def test_what_does_not_fit_fails_for_good_and_names_the_place(self) -> None:
        def f(order: Order) -> None: ...

        lines = [{"sku": "a", "qty": 1}, {"sku": "b", "qty": 2}, {"sku": "c", "qty": "x"}]
        self.assertEqual(self.refused(f, order={"lines": lines}), "$.order.lines[2].qty: 'x' is not a whole number")
        self.assertEqual(self.refused(f, order={}), "$.order: there is no 'lines', which Order needs")
        self.assertEqual(self.refused(f, order=[]), "$.order: [] is not an object, as Order needs")
        self.assertEqual(self.refused(f, order={"lines": {}}), "$.order.lines: {} is not an array")
        self.assertEqual(self.refused(f, order={"lines": [], "due": "soon"}),
                         "$.order.due: 'soon' is not a date, such as 2026-01-31")  # fmt: skip
        self.assertEqual(self.refused(f, order={"lines": [], "note": "bad"}), "$.order: a bad note")
        self.assertIn("no 'order'", self.refused(f))

    def test_each_kind_of_value(self) -> None:
        def f(**_: Any) -> None: ...

        moment = datetime.datetime(2026, 1, 31, 8, 0, tzinfo=datetime.timezone.utc)
        for kind, given, expected in (
            ("int", "5", 5), ("int", 5.0, 5), ("float", "1.5", 1.5), ("bool", "true", True), ("bool", 0, False),
            ("Decimal", 10.5, Decimal("10.5")), ("Color", "b", Color.BLUE), ("Color", "RED", Color.RED),
            ("datetime.datetime", "2026-01-31T08:00:00Z", moment), ("datetime.date", "2026-01-31T08:00", moment.date()),
            ("datetime.datetime", "2026-01-31T08:00:00.0000007Z", moment),  # 3.9 reads 3 or 6 digits; .NET writes 7
            ("datetime.datetime", "2026-01-31T15:00:00.000+0700", moment),  # and Jackson no colon
            ("datetime.date", "2026-01-31T08:00:00.0000007Z", moment.date()),
            ("datetime.time", "08:00", datetime.time(8)), ("UUID", NUMBER, UUID(NUMBER)), ("Path", "a/b", Path("a/b")),
            ("datetime.time", "08:00:00.5Z", datetime.time(8, 0, 0, 500_000, datetime.timezone.utc)),
            ("Union[int, str]", "5", "5"), ("Union[int, datetime.date]", "2026-01-31", moment.date()),
            ("int | None", None, None), ("int | None", "5", 5), ("Dict[str, List[Decimal]]", {"a": [1]}, {"a": [1]}),
            ("Set[int]", ["1"], {1}), ("Tuple[int, ...]", ["1"], (1,)), ("Sequence[Path]", ["a"], [Path("a")]),
            ("list", [1], [1]), ("dict", {"a": 1}, {"a": 1}), ("Any", "x", "x"), ("Union[int, Any]", "x", "x"),
            ("int", None, None), ("Line | None", None, None), ("Color | None", "r", Color.RED), ("Ping", {}, Ping()),
            ("dict[Path, int]", {"a/b": 1}, {Path("a/b"): 1}),
        ):  # fmt: skip
            with self.subTest(kind, given=given):
                f.__annotations__ = {"value": kind}
                got = self.given(_taking(f), value=given)
                self.assertEqual((got, type(got)), (expected, type(expected)))

    def test_each_kind_refuses_what_it_cannot_be(self) -> None:
        for kind, given, expected in (
            ("int", 1.5, "1.5 is not a whole number"), ("int", True, "True is not a whole number"),
            ("float", "one", "'one' is not a number"), ("bool", "maybe", "'maybe' is not true or false"),
            ("str", {}, "{} is not text"), ("Decimal", "", "'' is not a decimal number"),
            ("Color", "green", "'green' is none of 'r', 'b'"), ("UUID", "1", "'1' is not a UUID"),
            ("Union[int, datetime.date]", "x", "'x' is none of int, date"), ("Path", 5, "5 is not a path"),
            ("List[int]", ["1", "x"], "[1]: 'x' is not a whole number"), ("Line", None, "None is not an object"),
            ("Model", "wrong", "1 validation error for Model"),
        ):  # fmt: skip
            with self.subTest(kind, given=given):
                def f(**_: Any) -> None: ...

                f.__annotations__ = {"value": kind}
                place = "$.value" if expected[0] == "[" else "$.value: "
                self.assertIn(place + expected, self.refused(_taking(f), value=given))

    def test_places_of_a_tuple_keys_and_members_of_a_set_are_converted_too(self) -> None:
        """``tuple[int, str]`` took any array as it was, ``dict[int, str]`` kept its keys text."""

        def f(**_: Any) -> None: ...

        for kind, given, expected in (
            ("Tuple[Line, Any]", [{"sku": 1, "qty": 2}, []], (Line("1", 2), [])),
            ("dict[tuple[int, int], int]", {"1,2": "3"}, {"1,2": 3}), ("datetime.time", "T08:00", datetime.time(8)),
            ("tuple[int, str]", ["1", 2], (1, "2")), ("tuple[int]", ["1", "2"], (1, 2)), ("tuple", [1, "a"], (1, "a")),
            ("Tuple[int, ...]", [], ()), ("Tuple[()]", [], ()),
            ("dict[int, str]", {"1": 2}, {1: "2"}), ("Dict[datetime.date, Any]", {"2026-01-31": 1},
                                                     {datetime.date(2026, 1, 31): 1}),
            ("Mapping[Color, int]", {"r": "1", "BLUE": 2}, {Color.RED: 1, Color.BLUE: 2}),
            ("dict[Level, Level]", {"1": "2", "HIGH": 2}, {Level.LOW: Level.HIGH, Level.HIGH: Level.HIGH}),
            ("dict[Any, int]", {"1": "1"}, {"1": 1}), ("dict[tuple, int]", {}, {}),
            ("Dict[str, Any]", {"a": 1}, {"a": 1}), ("dict[str]", {"a": 1}, {"a": 1}),  # as far as it goes
            ("set", [1, "a"], {1, "a"}), ("frozenset[tuple[int, ...]]", [["1"], [1]], frozenset({(1,)})),
            ("AbstractSet[int]", ["1"], frozenset({1})), ("MutableSet[int]", ["1"], {1}),
        ):  # fmt: skip
            with self.subTest(kind, given=given):
                f.__annotations__ = {"value": kind}
                got = self.given(_taking(f), value=given)
                self.assertEqual((got, type(got)), (expected, type(expected)))

    @unittest.skipUnless(hasattr(typing, "Unpack"), "since 3.11")
    def test_a_tuple_of_some_and_any_number_of_others_is_left_as_it_came(self) -> None:
        def f(value: Any) -> None: ...

        f.__annotations__ = {"value": "Tuple[int, typing.Unpack[Tuple[str, ...]]]"}
        self.assertEqual(self.given(f, value=[1, "a", "b"]), (1, "a", "b"))

    def test_places_keys_and_members_that_cannot_be_are_named(self) -> None:
        """A set of arrays failed each try: they have no hash. A dict's keys are text, so only what comes as text is
        made of them."""

        def f(**_: Any) -> None: ...

        for kind, given, expected in (
            ("tuple[int, str]", ["1"], "$.value: ['1'] is not an array of 2"),
            ("tuple[int]", 1, "$.value: 1 is not an array"),
            ("Tuple[int, str]", ["one", "a"], "$.value[0]: 'one' is not a whole number"),
            ("dict[int, str]", {"one": "a"}, "$.value.one: 'one' is not a whole number"),
            ("dict[Color, str]", {"green": "a"}, "$.value.green: 'green' is none of 'r', 'b'"),
            ("dict[int, str]", {"1": "a", "01": "b"}, "$.value: two of its keys are 1"),
            ("set", [1, [1]], "$.value[1]: [1] is not hashable"),
            ("frozenset[dict]", [{"a": 1}], "$.value[0]: {'a': 1} is not hashable"),
            ("Set[Line]", [{}], "$.value[0]: there is no 'sku'"),
            ("list[Union[int, datetime.date]]", [1, None], "$.value[1]: None is none of int, date"),
            ("Set[Line]", [{"sku": 1, "qty": 1}], "$.value[0]: Line("), ("Level", [1], "[1] is none of 1, 2"),
        ):  # fmt: skip
            with self.subTest(kind, given=given):
                f.__annotations__ = {"value": kind}
                self.assertIn(expected, self.refused(_taking(f), value=given))

    def test_an_optional_parameter_may_be_absent_and_a_default_stays(self) -> None:
        def f(amount: Optional[int], rate: int | None = 3) -> Any:  # noqa: UP045
            return [amount, rate]

        self.assertEqual(run_task(f, {}).output_data, {"result": [None, 3]})
        self.assertEqual(run_task(f, {"amount": "1", "rate": None}).output_data, {"result": [1, None]})

    def test_the_whole_input_and_the_task(self) -> None:
        def f(input_data: Line, job: Task) -> Any:
            return [input_data.qty, job.task_id]

        def g(input_data: Person) -> Any:
            return [input_data["born"].year, input_data]

        self.assertEqual(run_task(f, {"sku": "a", "qty": "3"}).output_data, {"result": [3, "test-task"]})
        self.assertEqual(self.refused(f, sku="a"), "$: there is no 'qty', which Line needs")
        person = {"name": "Ann", "born": "2000-01-31", "more": 1}
        self.assertEqual(run_task(g, person).output_data, {"result": [2000, person]})
        self.assertEqual(self.refused(g, name="Ann", born="x"), "$.born: 'x' is not a date, such as 2026-01-31")

    def test_what_only_a_dataclass_s_post_init_gets_comes_from_the_object_too(self) -> None:
        """An InitVar with a default never got its value, and one without failed the task for its lack."""

        def f(value: Any) -> None: ...

        quoted = make_dataclass("Quoted", [("due", InitVar["datetime.date"])], bases=(Padded,))
        quoted.__module__ = __name__
        for kind in (Padded, "Padded", quoted):
            f.__annotations__ = {"value": kind}
            got = self.given(f, value={"text": "a", "width": "3", "due": "2026-01-31", "count": 5})
            self.assertEqual((got.text, got.due, Padded.count), ("a..", datetime.date(2026, 1, 31), 0))
        self.assertEqual(self.refused(f, value={"text": "a", "width": "x"}), "$.value.width: 'x' is not a whole number")
        self.assertEqual(self.refused(f, value={"text": "a"}), "$.value: there is no 'width', which Quoted needs")

    def test_the_whole_input_is_typed_wherever_the_parameter_stands(self) -> None:
        """Positional-only, beside ``*args`` or in an Optional it was a plain dict, without a word."""

        def before(input_data: Line, /, logger: Any) -> Any:
            return input_data.qty

        def beside(input_data: Line, *args: Any, **kwargs: Any) -> Any:
            return [input_data.qty, args, kwargs]

        def optional(input_data: Optional[Line] = None) -> Any:  # noqa: UP045
            return input_data and input_data.qty

        def either(input_data: Union[Person, Line]) -> Any:  # noqa: UP007
            return input_data.qty if isinstance(input_data, Line) else input_data["name"]

        def plain(input_data: Dict[str, int]) -> Any:  # noqa: UP006
            return input_data["qty"]

        given = {"sku": "a", "qty": "3"}
        for func, expected in ((before, 3), (beside, [3, [], {}]), (optional, 3), (either, 3), (plain, "3")):
            with self.subTest(func.__name__):
                self.assertEqual(run_task(func, given).output_data, {"result": expected})
        self.assertEqual(self.refused(before, sku="a"), "$: there is no 'qty', which Line needs")
        self.assertEqual(self.refused(optional), "$: there is no 'sku', which Line needs")

    def test_an_optional_parameter_that_a_decorator_supplies_is_left_to_it(self) -> None:
        """It got None, as one that is absent, and the decorator's own was "multiple values for argument 'browser'"."""

        def f(input_data: Any, browser: Optional[str]) -> Any:  # noqa: UP045
            return browser

        @functools.wraps(f)
        def supplied(*args: Any, **kwargs: Any) -> Any:
            return f(*args, browser="chrome", **kwargs)

        self.assertEqual(run_task(supplied).output_data, {"result": "chrome"})
        self.assertEqual(run_task(f).output_data, {"result": None})

    def test_what_the_worker_fills_in_is_not_converted(self) -> None:
        """An input with a key of that name failed for good, for a value that no parameter would have got."""

        def f(platform_task_id: int, logger: Line, task: Line) -> Any:
            return [platform_task_id, type(logger).__name__, task.task_id]  # type: ignore[attr-defined]

        result = run_task(f, dict.fromkeys(("platform_task_id", "logger", "task"), "x"))
        self.assertEqual(result.output_data, {"result": ["test-platform-task", "TaskLogger", "test-task"]})

    def test_a_model_of_pydantics_shape_is_asked(self) -> None:
        def f(model: Model) -> Any:
            return [model.value]

        self.assertEqual(run_task(f, {"model": {"a": 1}}).output_data, {"result": [{"a": 1}]})

    def test_what_cannot_be_resolved_is_left_as_it_came(self) -> None:
        class Local: ...

        def f(a: Absent, b: Local, c: nonsense, d: int, e: "List[Absent]") -> Any:  # type: ignore  # noqa
            return [a, b, c, d, e]

        self.assertEqual(run_task(f, dict.fromkeys("abcde", "5")).output_data, {"result": ["5", "5", "5", 5, "5"]})

    def test_what_is_no_type_leaves_its_value_as_it_came(self) -> None:
        """``names: [str]``, as some scripts annotate a list, failed every try: a list is no key of a table of types.
        And a dict without values took an absent parameter for None, as Optional does."""
        class Unhashable(type):
            def __eq__(cls, other: object) -> bool:
                return False

        class Odd(metaclass=Unhashable): ...

        def f(**_: Any) -> None: ...

        nested = list[[str]]  # type: ignore[misc]
        for kind in ([str], {"a": 1}, {"a"}, (str, int), 5, ..., "1 + 1", "", None, nested, Literal["b"], Odd,
                     list[Odd], Annotated[Any, [1]], Callable[[int], str], bytearray(b"x")):  # fmt: skip
            with self.subTest(kind):
                f.__annotations__ = {"value": kind}
                self.assertEqual(self.given(_taking(f), value=["a"]), ["a"])
        f.__annotations__ = {"value": Dict[str, None]}  # noqa: UP006
        self.assertIn("no 'value'", self.refused(_taking(f)))

    def test_a_name_in_quotes_is_resolved_wherever_it_stands(self) -> None:
        """Before Python 3.11 ``list["Line"]`` left its elements as they came, also in a dataclass of its own kind."""

        def f(**_: Any) -> None: ...

        line, given = Line("a", 1), {"sku": "a", "qty": "1"}
        for kind, value, expected in (
            (list["Line"], [given], [line]), (Dict[str, list["Line"]], {"a": [given]}, {"a": [line]}),  # noqa: UP006
            (Optional[list["Line"]], [given], [line]), ('Mapping[str, list["Line"]]', {"a": [given]}, {"a": [line]}),
            (Sequence["Line | None"], [None, given], [None, line]), ('list["Line | None"]', [given], [line]),
            ('list["Line"] | None', [given], [line]), (list["Literal['Line']"], ["Line"], ["Line"]),
            (list["Absent"], [given], [given]), ("list['Node']", [{"name": 1, "kids": [{"name": 2}]}],
                                                 [Node("1", [Node("2")])]),
        ):  # fmt: skip
            with self.subTest(kind):
                f.__annotations__ = {"value": kind}
                self.assertEqual(self.given(_taking(f), value=value), expected)

    def test_a_typed_dict_may_write_its_unions_with_a_bar(self) -> None:
        """On Python 3.9, where a dataclass may, those of a TypedDict left their values as they came."""

        def f(shelf: Shelf) -> Any:
            return [type(shelf["lines"][0]).__name__, str(shelf["level"])]  # type: ignore[index]

        given = {"lines": [{"sku": "a", "qty": "1"}], "level": "HIGH"}
        self.assertEqual(run_task(f, {"shelf": given}).output_data, {"result": ["Line", "Level.HIGH"]})

    def test_a_name_in_quotes_means_what_it_says_in_its_own_script(self) -> None:
        """Two scripts with a ``List["Item"]`` of their own, or one that ``dev`` loaded again, got the class of the
        first: typing has one object for both texts, which remembers what it found."""
        for name in ("first", "second"):
            item = make_dataclass("Item", [(name, int)])
            scope = {"Item": item, "hint": List["Item"]}  # type: ignore[name-defined]  # noqa: F821, UP006
            exec("def f(value):\n    return isinstance(value[0], Item)\nf.__annotations__ = {'value': hint}", scope)
            self.assertEqual(run_task(scope["f"], {"value": [{name: 1}]}).output_data, {"result": True})

    def test_a_field_means_what_it_says_in_the_module_of_its_class(self) -> None:
        """On Python 3.9 a subclass without fields of its own read those of its base in its own module."""
        text = "from dataclasses import dataclass\n@dataclass\nclass Line:\n    {}: int\n"
        modules = {name: types.ModuleType(name) for name in ("a_model", "a_script")}
        entered(self, mock.patch.dict(sys.modules, modules))
        model, script = (vars(module) for module in modules.values())
        exec(text.format("qty") + "@dataclass\nclass Order:\n    line: 'Line'\n", model)
        exec("from a_model import Order\n" + text.format("sku"), script)
        exec("class Mine(Order): ...\ndef f(mine: Mine):\n    return mine.line.qty\n", script)
        self.assertEqual(run_task(script["f"], {"mine": {"line": {"qty": "2"}}}).output_data, {"result": 2})

    def test_a_nesting_without_end_is_refused(self) -> None:
        def f(line: Line) -> None: ...

        line: dict[str, Any] = {"sku": "a", "qty": 1}
        for _ in range(400):
            line = {"sku": "a", "qty": 1, "parts": [line]}
        self.assertEqual(self.refused(f, line=line), "$.line: it is nested too deep")

    def test_a_function_without_annotations_has_no_plan(self) -> None:
        from user_agent_sdk.agents import Agent
        from user_agent_sdk.worker.running.inputs import plan

        def f(input_data: dict[str, Any], logger: Any, task: Task, path="x") -> None: ...  # type: ignore[no-untyped-def]

        self.assertFalse(plan(Agent(f)))


def _taking(func: Any) -> Any:
    def f(value: Any) -> None: ...

    f.__annotations__ = func.__annotations__
    return f


def _like(func: Callable[..., Any], call: Callable[..., Any]) -> Callable[..., Any]:
    """``call`` with the signature of ``func``."""
    import functools

    return functools.wraps(func)(call)


if __name__ == "__main__":
    unittest.main()

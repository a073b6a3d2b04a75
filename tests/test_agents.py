# SPDX-License-Identifier: Apache-2.0
"""Registering functions, and filling their parameters from a task."""

from __future__ import annotations

import asyncio
import functools
import inspect
import types
import unittest
import uuid
from typing import Any, Callable
from unittest import mock

from user_agent_sdk.agents import REGISTRY, Agent, register_user_agent, user_agent
from user_agent_sdk.errors import AgentError, ConfigError, NonRetryableException

PLATFORM = types.SimpleNamespace(
    input_data={"a": 1}, logger="the logger", task="the task", platform_task_id="pt", platform_agent_id="pa"
)


def call(func: Any, given: dict[str, Any] | None = None) -> Any:
    agent = Agent(func)
    args, kwargs = agent.bind(PLATFORM, given or {})
    return agent.func(*args, **kwargs)


def passing_all_on(func: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(func)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return func(*args, **kwargs)

    return wrapper


class Registry(unittest.TestCase):
    def setUp(self) -> None:
        self.before = REGISTRY[:]
        REGISTRY.clear()

    def tearDown(self) -> None:
        REGISTRY[:] = self.before

    def test_the_decorator_works_with_and_without_parentheses(self) -> None:
        @user_agent
        def bare() -> str:
            return "bare"

        @user_agent()
        def called() -> str:
            return "called"

        self.assertEqual((bare(), called()), ("bare", "called"))
        self.assertEqual([agent.name for agent in REGISTRY], ["bare", "called"])
        self.assertEqual([agent.func for agent in REGISTRY], [bare, called])

    def test_an_async_function_stays_async(self) -> None:
        @user_agent
        async def fetch() -> int:
            return 1

        self.assertTrue(inspect.iscoroutinefunction(fetch))
        self.assertIs(REGISTRY[0].func, fetch)

    def test_what_the_decorator_does_not_set_is_none(self) -> None:
        @user_agent()
        def agent() -> None: ...

        known = REGISTRY[0]
        options = (known.agent_id, known.worker_id, known.domain, known.poll_interval_ms, known.workers)
        self.assertEqual(options, (None,) * 5)
        self.assertIsNone(known.timeout_s)

    def test_a_value_equal_to_the_default_is_still_told_from_unset(self) -> None:
        @user_agent(workers=1, poll_interval=1000)
        def agent() -> None: ...

        self.assertEqual((REGISTRY[0].workers, REGISTRY[0].poll_interval_ms), (1, 1000))

    def test_options_keep_the_positions_of_old_scripts(self) -> None:
        @user_agent("id", "worker", "domain", 250, 4)
        def agent() -> None: ...

        known = REGISTRY[0]
        options = (known.agent_id, known.worker_id, known.domain, known.poll_interval_ms, known.workers)
        self.assertEqual(options, ("id", "worker", "domain", 250, 4))

    def test_register_user_agent_does_the_same_without_decorating(self) -> None:
        def agent() -> None: ...

        register_user_agent(agent, agent_id="x", timeout_s=1.5)
        self.assertEqual((REGISTRY[0].func, REGISTRY[0].agent_id, REGISTRY[0].timeout_s), (agent, "x", 1.5))

    def test_one_function_may_serve_two_ids(self) -> None:
        @user_agent(agent_id="a")
        @user_agent(agent_id="b")
        def agent() -> None: ...

        self.assertEqual([known.agent_id for known in REGISTRY], ["b", "a"])

    def test_an_agent_tells_where_it_was_written(self) -> None:
        def agent() -> None: ...

        line = agent.__code__.co_firstlineno
        self.assertTrue(Agent(agent).where.endswith(f"test_agents.py:{line})"))
        self.assertTrue(Agent(passing_all_on(agent)).where.endswith(f"test_agents.py:{line})"))

    def test_options_that_make_no_sense_are_refused_by_name(self) -> None:
        def agent() -> None: ...

        wrong: list[dict[str, Any]] = [
            {"workers": 2.0}, {"workers": "4"}, {"agent_id": ""},
            {"poll_interval": True}, {"poll_interval": float("nan")}, {"poll_interval": "1s"},
            {"timeout_s": 0}, {"timeout_s": float("inf")}, {"agent_id": 7}, {"domain": " "},
            {"poll_interval": 10**400},  # an int that no float can hold ended in an OverflowError
        ]  # fmt: skip
        for options in wrong:
            with self.subTest(options), self.assertRaises(ConfigError) as caught:
                register_user_agent(agent, **options)
            self.assertIn(f"{next(iter(options))}=", str(caught.exception))
            self.assertIn("test_agents.py:", str(caught.exception))
        self.assertEqual(REGISTRY, [])

    def test_options_that_0_2_0_took_for_its_defaults_are_the_defaults_here(self) -> None:
        for workers in (0, -1, True, False):
            with self.assertLogs("user_agent_sdk.agents", "WARNING") as caught:
                register_user_agent(lambda: None, workers=workers, worker_id="", domain="", poll_interval=-5)
            agent = REGISTRY.pop()
            self.assertEqual((agent.workers, agent.worker_id, agent.domain, agent.poll_interval_ms), (1, *[None] * 3))
            self.assertIs(type(agent.workers), int)
            self.assertEqual([record.action for record in caught.records], ["one_worker", "default_interval"])

    def test_a_worker_id_may_be_anything_that_has_a_text(self) -> None:
        """``worker_id=uuid.uuid4()`` and ``os.getpid()``, which 0.2.0 wrote as they are, let no worker start."""
        own = uuid.UUID(int=5)
        for given, text in ((own, str(own)), (4711, "4711"), ("w", "w"), (None, None)):
            register_user_agent(lambda: None, worker_id=given)  # type: ignore[arg-type]
            self.assertEqual(REGISTRY.pop().worker_id, text)

    def test_a_function_that_is_registered_comes_back(self) -> None:
        def agent() -> None: ...

        self.assertIs(register_user_agent(agent), agent)

    def test_a_poll_interval_of_zero_is_allowed(self) -> None:
        register_user_agent(lambda: None, poll_interval=0)
        self.assertEqual(REGISTRY[0].poll_interval_ms, 0)

    def test_agents_can_be_dictionary_keys_whatever_their_defaults(self) -> None:
        def agent(x: Any = []) -> None: ...  # noqa: B006 - an unhashable default is the point

        self.assertEqual(len({Agent(agent): 1}), 1)


class Binding(unittest.TestCase):
    def test_any_subset_of_the_platform_names_is_filled(self) -> None:
        self.assertEqual(call(lambda: "nothing"), "nothing")
        self.assertEqual(call(lambda logger: logger), "the logger")
        self.assertEqual(call(lambda task, input_data: (task, input_data)), ("the task", {"a": 1}))
        self.assertEqual(call(lambda platform_agent_id, platform_task_id: platform_agent_id + platform_task_id), "papt")

    def test_other_parameters_come_from_the_input_by_name(self) -> None:
        def agent(num1: int, num2: int = 5, *, num3: int = 7) -> tuple[int, int, int]:
            return num1, num2, num3

        self.assertEqual(call(agent, {"num1": 1, "other": 9}), (1, 5, 7))
        self.assertEqual(call(agent, {"num1": 1, "num2": 2, "num3": None}), (1, 2, None))

    def test_a_missing_required_parameter_is_named_with_what_was_there(self) -> None:
        def agent(num1: int, num2: int) -> None: ...

        with self.assertRaises(NonRetryableException) as caught:
            call(agent, {"num1": 1, "nun2": 2})
        self.assertIn("'num2'", str(caught.exception))
        self.assertIn("num1, nun2", str(caught.exception))

    def test_an_input_key_does_not_replace_what_the_platform_gives(self) -> None:
        self.assertEqual(call(lambda logger: logger, {"logger": "forged"}), "the logger")

    def test_kwargs_receive_the_rest_of_the_input(self) -> None:
        def agent(a: int, **rest: int) -> Any:
            return a, rest

        self.assertEqual(call(agent, {"a": 1, "b": 2, "not an identifier": 3}), (1, {"b": 2, "not an identifier": 3}))

    def test_positional_only_parameters_are_filled_by_name_too(self) -> None:
        def agent(a: int, b: int = 2, /, c: int = 3) -> Any:
            return a, b, c

        self.assertEqual(call(agent, {"a": 1, "c": 4}), (1, 2, 4))

    def test_annotations_are_never_evaluated(self) -> None:
        def agent(a: int | None, b: NoSuchName) -> Any:  # type: ignore[name-defined] # noqa: F821
            return a, b

        self.assertEqual(call(agent, {"a": 1, "b": 2}), (1, 2))

    def test_partials_bound_methods_callable_objects_and_static_methods_work(self) -> None:
        class Robot:
            def work(self, a: int) -> tuple[str, int]:
                return "work", a

            async def __call__(self, a: int) -> int:
                return a

            @staticmethod
            def still(a: int) -> tuple[str, int]:
                return "still", a

            raw = staticmethod(lambda a: ("raw", a))

        given = {"a": 1}
        self.assertEqual(call(functools.partial(lambda x, a: (x, a), 5), given), (5, 1))
        self.assertEqual(call(Robot().work, given), ("work", 1))
        self.assertEqual(call(Robot.still, given), ("still", 1))
        self.assertEqual(call(Robot.__dict__["raw"], given), ("raw", 1))
        self.assertEqual(asyncio.run(call(Robot(), given)), 1)
        self.assertEqual(Agent(Robot()).bind(PLATFORM, given), ([], {"a": 1}))
        self.assertEqual(asyncio.run(call(functools.partial(Robot().__call__), given)), 1)

    def test_what_a_partial_has_preset_can_not_be_changed_by_a_task(self) -> None:
        def agent(amount: int, limit: int = 10, **rest: int) -> Any:
            return amount, limit, rest

        self.assertEqual(call(functools.partial(agent, limit=3), {"amount": 5, "limit": 999}), (5, 3, {}))
        # One that was filled by its position reached **rest: "got multiple values for argument 'amount'".
        self.assertEqual(call(functools.partial(agent, 5), {"amount": 7, "limit": 2, "x": 1}), (5, 2, {"x": 1}))

    def test_a_decorator_that_wraps_and_passes_all_on_is_seen_through(self) -> None:
        self.assertEqual(call(passing_all_on(lambda a, logger: (a, logger)), {"a": 1}), (1, "the logger"))

    def test_a_default_is_left_to_a_decorator_that_knows_better(self) -> None:
        def agent(a: int, database: str = "none") -> tuple[int, str]:
            return a, database

        @functools.wraps(agent)
        def connected(**given: Any) -> Any:
            given.setdefault("database", "open")
            return agent(**given)

        self.assertEqual(call(connected, {"a": 1}), (1, "open"))

    def test_a_wrapper_that_names_its_parameters_gets_those(self) -> None:
        def inner(input_data: dict[str, int], logger: Any) -> Any:
            return input_data, logger

        @functools.wraps(inner)
        def wrapper(input_data: dict[str, int]) -> Any:
            return inner(input_data, None)

        self.assertEqual(call(wrapper), ({"a": 1}, None))

    def test_a_wrapper_that_takes_positions_only_gets_positions(self) -> None:
        def inner(a: int, b: int = 2) -> tuple[int, int]:
            return a, b

        @functools.wraps(inner)
        def wrapper(*args: int) -> Any:
            return inner(*args)

        self.assertEqual(call(wrapper, {"a": 1}), (1, 2))

    def test_a_decorator_may_supply_what_the_input_lacks(self) -> None:
        """Each task failed for good: "the task's input has no 'browser'", which the decorator would have given."""

        def agent(input_data: Any, browser: str, *, limit: int = 3) -> Any:
            return input_data, browser, limit

        @functools.wraps(agent)
        def by_name(*args: Any, **kwargs: Any) -> Any:
            return agent(*args, browser="chrome", **kwargs)

        @functools.wraps(agent)
        def by_place(input_data: Any, *args: Any, **kwargs: Any) -> Any:
            return agent(input_data, "chrome", *args, **kwargs)

        @functools.wraps(agent)
        async def later(*args: Any, **kwargs: Any) -> Any:
            return agent(*args, browser="chrome", **kwargs)

        for func in (by_name, by_place, functools.partial(by_name), passing_all_on(by_name)):
            self.assertEqual(call(func, {"limit": 5}), ({"a": 1}, "chrome", 5))
        self.assertEqual(asyncio.run(call(later)), ({"a": 1}, "chrome", 3))
        patched = mock.patch("os.getcwd")(lambda getcwd, input_data: (isinstance(getcwd, mock.Mock), input_data))
        self.assertEqual(call(patched), (True, {"a": 1}))

    def test_star_args_stay_empty(self) -> None:
        def agent(input_data: Any, *args: Any) -> Any:
            return input_data, args

        self.assertEqual(call(agent, {"a": 1}), (PLATFORM.input_data, ()))

    def test_a_decorator_that_passes_all_on_without_wraps_passes_nothing_on(self) -> None:
        """The function that it hides may take no parameter at all."""

        def careless(func: Any) -> Any:
            return lambda *args, **kwargs: func(*args, **kwargs)

        self.assertEqual(call(careless(lambda: "ran"), {"a": 1}), "ran")

    def test_a_decorator_that_names_the_platforms_parameters_gets_no_key_of_the_input(self) -> None:
        """It passed its ``**kwargs`` on, and each task failed with an unexpected keyword argument."""

        def passing(input_data: Any, logger: Any, **kwargs: Any) -> Any:
            return kwargs

        self.assertEqual(call(passing, {"a": 1}), {})


class Refusals(unittest.TestCase):
    def refused(self, func: Any) -> str:
        with self.assertRaises(AgentError) as caught:
            Agent(func)
        self.assertEqual(caught.exception.code, "agent-signature")
        self.assertTrue(caught.exception.hints)
        return str(caught.exception)

    def test_generators_are_refused(self) -> None:
        def numbers() -> Any:
            yield 1

        async def more() -> Any:
            yield 1

        self.assertIn("generator", self.refused(numbers))
        self.assertIn("generator", self.refused(more))

    def test_a_method_without_its_object_is_refused(self) -> None:
        class Robot:
            def work(self, a: int) -> None: ...

            @classmethod
            def build(cls) -> None: ...

        self.assertIn("'self'", self.refused(Robot.work))
        self.refused(Robot.__dict__["build"])

    def test_what_is_no_function_is_refused(self) -> None:
        self.refused(42)
        self.refused(dict)  # it has no signature to read


if __name__ == "__main__":
    unittest.main()

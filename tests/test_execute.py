# SPDX-License-Identifier: Apache-2.0
"""One task in, one result out, whatever the function does."""

from __future__ import annotations

import asyncio
import contextvars
import dataclasses
import functools
import json
import logging
import math
import os
import subprocess
import sys
import threading
import unittest
from datetime import date
from typing import Any

from user_agent_sdk.agents import Agent
from user_agent_sdk.conductor.wire import LogLine, Task, TaskResult, TaskStatus, encode
from user_agent_sdk.errors import NonRetryableException
from user_agent_sdk.worker.running import event_loop
from user_agent_sdk.worker.running.context import AGENT_LOG, current_task
from user_agent_sdk.worker.running.event_loop import AsyncRunner
from user_agent_sdk.worker.running.execute import execute

COMPLETED, FAILED, TERMINAL = TaskStatus.COMPLETED, TaskStatus.FAILED, TaskStatus.FAILED_WITH_TERMINAL_ERROR


def make_task(**wire: Any) -> Task:
    base = {
        "taskId": "t1", "workflowInstanceId": "w1", "taskType": "agent-id", "referenceTaskName": "step",
        "inputData": {"num1": 2, "num2": 3, "__task_id__": "pt", "__deployed_workflow_id__": "pa"},
    }  # fmt: skip
    return Task({**base, **wire})

EXITED = ": the function called exit(); return a value, or raise an exception that says why"


class Executing(unittest.TestCase):
    def setUp(self) -> None:
        self.runner = AsyncRunner()
        self.stopping = threading.Event()
        AGENT_LOG.propagate = False
        self.logged: list[str] = []
        handler = logging.Handler()
        formatter = logging.Formatter("%(levelname)s %(message)s")
        handler.emit = lambda record: self.logged.append(formatter.format(record))  # type: ignore[method-assign]
        AGENT_LOG.addHandler(handler)
        self.addCleanup(AGENT_LOG.removeHandler, handler)
        self.addCleanup(setattr, AGENT_LOG, "propagate", True)
        self.addCleanup(self.runner.close)

    def run_agent(self, func: Any, **wire: Any) -> TaskResult:
        task = make_task(**wire)
        result = execute(Agent(func), task, "worker-1", stopping=self.stopping, run_async=self.runner.run)
        encode(result.to_wire())  # whatever it is, it can be sent
        self.assertEqual((result.task_id, result.workflow_instance_id), (task.task_id, task.workflow_instance_id))
        self.assertEqual(result.worker_id, "worker-1")
        self.assertLessEqual(len(result.reason_for_incompletion or ""), 500)
        return result

    def failing(self, error: Any) -> TaskResult:
        def agent() -> None:
            raise error

        return self.run_agent(agent)


class Results(Executing):
    def test_a_sum_completes(self) -> None:
        result = self.run_agent(lambda input_data: input_data["num1"] + input_data["num2"])
        self.assertEqual((result.status, result.output_data), (TaskStatus.COMPLETED, {"result": 5}))
        self.assertIsNone(result.reason_for_incompletion)

    def test_a_record_factory_with_a_field_of_ours_fails_no_task(self) -> None:
        """It is how scripts give every line a task_id; logging then refuses ours, after the function had ended."""
        before = logging.getLogRecordFactory()

        def factory(*args: Any, **kwargs: Any) -> logging.LogRecord:
            record = before(*args, **kwargs)
            record.task_id = "-"
            return record

        self.addCleanup(logging.setLogRecordFactory, before)
        logger = logging.getLogger("user_agent_sdk.worker.running.execute")
        self.addCleanup(logger.setLevel, logger.level)
        logger.setLevel(logging.INFO)
        logging.setLogRecordFactory(factory)
        self.assertEqual(self.run_agent(lambda: 7).status, TaskStatus.COMPLETED)

    def test_a_result_without_logs_completes(self) -> None:
        result = self.run_agent(lambda: TaskResult(status=TaskStatus.COMPLETED, logs=None))  # type: ignore[arg-type]
        self.assertEqual(result.status, TaskStatus.COMPLETED)

    @unittest.skipUnless(hasattr(os, "fork"), "there is no fork here")
    def test_a_child_that_a_function_forks_is_no_second_worker(self) -> None:
        """Its sys.exit() was caught as the function's, and it reported the task as failed beside the parent."""
        code = (
            "import os, sys, threading\n"
            "from user_agent_sdk.agents import Agent\nfrom user_agent_sdk.conductor.wire import Task\n"
            "from user_agent_sdk.worker.running.execute import execute\n"
            "def forks():\n    if os.fork() == 0:\n        sys.exit(3)\n    return os.wait()[1]\n"
            "print(execute(Agent(forks), Task({'taskId': 't', 'workflowInstanceId': 'w'}), 'me',"
            " stopping=threading.Event(), run_async=None).output_data, flush=True)\n"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
        self.assertEqual((done.stdout.strip(), done.returncode), ("{'result': 768}", 0), done.stderr)

    def test_an_async_agent_that_closed_its_loop_costs_the_next_task_nothing(self) -> None:
        async def closes() -> None:
            asyncio.get_running_loop().call_soon(lambda: None)

        self.assertEqual(self.run_agent(closes).status, TaskStatus.COMPLETED)
        assert self.runner._loop is not None
        self.runner._loop.close()
        self.assertEqual(self.run_agent(closes).status, TaskStatus.COMPLETED)

    def test_platform_keys_reach_only_their_parameters(self) -> None:
        def agent(input_data: Any, platform_task_id: str, platform_agent_id: str) -> Any:
            return [input_data, platform_task_id, platform_agent_id]

        numbers = {"num1": 2, "num2": 3}
        self.assertEqual(self.run_agent(agent).output_data, {"result": [numbers, "pt", "pa"]})
        self.assertEqual(self.run_agent(lambda **rest: rest).output_data, numbers)

    def test_a_parameter_that_no_decorator_supplies_is_a_terminal_failure_too(self) -> None:
        """Since a decorator may supply what the input lacks, that shows only when the function is called."""

        def agent(path: str) -> None: ...

        @functools.wraps(agent)
        def passing(*args: Any, **kwargs: Any) -> Any:
            return agent(*args, **kwargs)

        @functools.wraps(agent)
        async def later(*args: Any, **kwargs: Any) -> Any:
            return agent(*args, **kwargs)

        for func in (passing, later):
            result = self.run_agent(func)
            self.assertEqual(result.status, TERMINAL)
            self.assertRegex(str(result.reason_for_incompletion), r"agent\(\) missing 1 required .*'path'$")
        broken = functools.wraps(agent)(lambda *args, **kwargs: int([]))  # a TypeError of another kind
        self.assertEqual(self.run_agent(broken).status, FAILED)

        def do_agent(path: str) -> None: ...

        of_another = functools.wraps(agent)(lambda *args, **kwargs: do_agent())
        self.assertEqual(self.run_agent(of_another).status, FAILED)

    def test_what_a_decorator_may_supply_by_place_moves_no_other_argument(self) -> None:
        """The account was absent, so the amount came in its place, and the task completed."""

        def agent(account: str, amount: int, currency: str = "EUR") -> Any:
            return [account, amount, currency]

        by_place = functools.wraps(agent)(lambda *args: agent(*args))
        result = self.run_agent(by_place, inputData={"amount": 5, "currency": "USD"})
        self.assertEqual(result.status, TERMINAL)
        self.assertIn("no 'account'", str(result.reason_for_incompletion))

    def test_a_missing_parameter_is_a_terminal_failure_that_names_it(self) -> None:
        result = self.run_agent(lambda num1, amount: None)
        self.assertEqual(result.status, TERMINAL)
        self.assertIn("'amount'", result.reason_for_incompletion or "")
        self.assertEqual(result.logs, [])

    def test_a_value_that_is_not_json_is_a_terminal_failure_that_names_the_place(self) -> None:
        result = self.run_agent(lambda: {"items": [{}, {"price": float("nan")}]})
        self.assertEqual((result.status, result.output_data), (TERMINAL, {"result": None}))
        what = "$.items[1].price: nan is not a JSON number; return None instead"
        self.assertEqual(result.reason_for_incompletion, what)

    def test_a_task_result_is_sent_as_the_function_made_it(self) -> None:
        own = TaskResult(
            task_id="other", worker_id="other", status="IN_PROGRESS", output_data={"day": date(2026, 1, 2)},
            callback_after_seconds=60, logs=[LogLine("own line", 5)],
        )  # fmt: skip

        def agent(logger: logging.Logger) -> TaskResult:
            logger.info("from the logger")
            return own

        result = self.run_agent(agent)
        self.assertEqual((result.status, result.callback_after_seconds), (TaskStatus.IN_PROGRESS, 60))
        self.assertEqual(result.output_data, {"day": "2026-01-02"})
        self.assertEqual([line.log for line in result.logs], ["from the logger", "own line"])
        self.assertEqual((own.task_id, own.worker_id), ("other", "other"))

    def test_a_task_result_may_fail_the_task_with_a_reason(self) -> None:
        result = self.run_agent(lambda: TaskResult(status="FAILED", reason_for_incompletion="x" * 900))
        self.assertEqual((result.status, result.output_data), (FAILED, None))
        self.assertEqual(len(result.reason_for_incompletion or ""), 500)

    def test_a_task_result_that_makes_no_sense_is_a_terminal_failure(self) -> None:
        def returns(**changed: Any) -> Any:
            own = TaskResult()
            for name, value in changed.items():
                setattr(own, name, value)
            return lambda: own

        self.assertIn("DONE", self.run_agent(returns(status="DONE")).reason_for_incompletion or "")
        for wait in (-1, float("nan"), float("inf"), "60"):
            result = self.run_agent(returns(callback_after_seconds=wait))
            self.assertEqual(result.status, TERMINAL)
            self.assertIn("callback_after_seconds=", result.reason_for_incompletion or "")
        self.assertEqual(self.run_agent(returns(output_data=float("nan"))).status, TERMINAL)
        self.assertEqual(self.run_agent(returns(logs=5)).status, FAILED)
        self.assertEqual(self.run_agent(returns(callback_after_seconds=1.2)).callback_after_seconds, 2)

    def test_an_old_workers_logs_do_not_ride_in_the_next_result(self) -> None:
        # The published 0.2.0 kept one list of lines for the process: every result carried all earlier tasks'.
        def agent(logger: logging.Logger, num1: int) -> None:
            logger.info("line of %d", num1)

        for number in (1, 2, 3):
            result = self.run_agent(agent, inputData={"num1": number})
            self.assertEqual([line.log for line in result.logs], [f"line of {number}"])


class Failures(Executing):
    def test_an_exception_fails_the_try_with_its_reason_and_the_agents_own_frames(self) -> None:
        def helper() -> None:
            raise ValueError("no such invoice")

        def agent(logger: logging.Logger) -> None:
            logger.info("before")
            helper()

        result = self.run_agent(agent)
        self.assertEqual((result.status, result.output_data), (FAILED, {"result": None}))
        self.assertEqual(result.reason_for_incompletion, "ValueError: no such invoice")
        before, trace = (line.log for line in result.logs)
        self.assertEqual(before, "before")
        self.assertEqual(trace.count('File "'), 2)
        self.assertIn("in agent", trace)
        self.assertTrue(trace.startswith("Traceback") and trace.endswith("ValueError: no such invoice"))
        self.assertNotIn(os.path.join("worker", "execute.py"), trace)
        self.assertTrue(self.logged[-1].startswith("ERROR ") and "in agent" in self.logged[-1])

    def test_causes_are_part_of_the_traceback(self) -> None:
        def agent() -> None:
            try:
                int("x")
            except ValueError as error:
                raise RuntimeError("can't read the amount") from error

        trace = self.run_agent(agent).logs[-1].log
        self.assertIn("ValueError: invalid literal", trace)
        self.assertIn("direct cause", trace)

    def test_non_retryable_fails_for_good_with_its_message(self) -> None:
        class Rejected(NonRetryableException):
            pass

        result = self.failing(NonRetryableException("'user_name' is required"))
        self.assertEqual((result.status, result.reason_for_incompletion), (TERMINAL, "'user_name' is required"))
        result = self.failing(Rejected())
        self.assertEqual((result.status, result.reason_for_incompletion), (TERMINAL, "Rejected"))
        self.assertEqual(self.failing(NonRetryableException(404)).reason_for_incompletion, "404")

    def test_another_packages_non_retryable_is_one_too(self) -> None:
        class Derived(type("NonRetryableException", (Exception,), {})):  # type: ignore[misc]
            pass

        self.assertEqual((self.failing(Derived("x")).status, self.failing(Derived("x")).reason_for_incompletion),
                         (TERMINAL, "x"))  # fmt: skip
        self.assertEqual(self.failing(type("NonRetryable", (Exception,), {})("x")).status, FAILED)

    def test_nothing_of_ours_collides_with_the_names_of_a_subclass(self) -> None:
        """A ``message`` property was an AttributeError while the exception was made, and so three tries."""

        class Named(NonRetryableException):
            message = property(lambda self: "m")
            hints = property(lambda self: [])
            code = property(lambda self: 42)
            exit_code = property(lambda self: 1)

        self.assertEqual(self.failing(Named("no such user")).reason_for_incompletion, "no such user")
        result = self.failing(Named("a", 2))
        self.assertEqual((result.status, result.reason_for_incompletion), (TERMINAL, "a"))

        class Filled(NonRetryableException):
            def __init__(self) -> None:
                self.message, self.hints, self.code, self.exit_code = "m", ("h",), "c", 9

        self.assertEqual(self.failing(Filled()).status, TERMINAL)

    def test_a_subclass_of_non_retryable_may_be_a_dataclass(self) -> None:
        """Our ``code`` was the default of its field of that name, and the next field, which had none, a TypeError."""

        @dataclasses.dataclass
        class Refused(NonRetryableException):
            code: int
            message: str
            hint: str

        result = self.failing(Refused(7, "no such order", "look there"))
        self.assertEqual((result.status, result.reason_for_incompletion), (TERMINAL, "7"))

    def test_a_frozen_error_of_a_coroutine_is_what_it_is(self) -> None:
        """It was a FrozenInstanceError from Python 3.11 on, and so a final error had three tries."""

        @dataclasses.dataclass(frozen=True)
        class Gone(NonRetryableException):
            order: str

        async def agent() -> None:
            raise Gone("17")

        result = self.run_agent(agent)
        self.assertEqual((result.status, result.reason_for_incompletion), (TERMINAL, "17"))

    def test_whatever_is_raised_is_a_failed_try(self) -> None:
        errors: list[tuple[Any, str]] = [
            (SystemExit(3), f"SystemExit: 3{EXITED}"),
            (KeyboardInterrupt(), "KeyboardInterrupt"),
            (MemoryError(), "MemoryError"),
            (GeneratorExit(), "GeneratorExit"),
            (asyncio.CancelledError(), "CancelledError"),
            (StopIteration(1), "StopIteration: 1"),
            (KeyError("id"), "KeyError: 'id'"),
        ]
        for error, reason in errors:
            with self.subTest(reason):
                result = self.failing(error)
                self.assertEqual((result.status, result.reason_for_incompletion), (FAILED, reason))

    def test_endless_recursion_is_a_failed_try_with_a_bounded_log(self) -> None:
        def ping(depth: int) -> int:
            return pong(depth + 1)

        def pong(depth: int) -> int:
            return ping(depth + 1)

        result = self.run_agent(lambda: ping(0))
        self.assertEqual(result.status, FAILED)
        self.assertIn("RecursionError: maximum recursion depth", result.reason_for_incompletion or "")
        self.assertLessEqual(len(result.logs[-1].log), 8000)

    def test_exceptions_that_break_whoever_looks_at_them_are_survived(self) -> None:
        class Unprintable(Exception):
            def __str__(self) -> str:
                raise RuntimeError("no")

        class Vicious(Exception):
            def __str__(self) -> str:
                raise SystemExit

        result = self.failing(Unprintable())
        self.assertEqual(result.reason_for_incompletion, "Unprintable: (its message can't be shown: RuntimeError)")
        self.assertEqual(self.failing(Vicious()).reason_for_incompletion, "Vicious")

    def test_exceptions_that_break_whoever_asks_for_an_attribute_fail_their_try_alone(self) -> None:
        """The look for a group's members met a __getattr__ that raises, or went too deep: the slot's thread died."""

        class Lazy(Exception):
            def __getattr__(self, name: str) -> Any:
                raise KeyError(name)

        class Posing(Exception):
            @property
            def __class__(self) -> Any:
                raise SystemExit

        class Group(Exception):
            exceptions: tuple[BaseException, ...] = ()

        deep: BaseException = ValueError("the last")
        for _ in range(5000):
            inner, deep = deep, Group("deep")
            deep.exceptions = (inner,)
        for error, reason in ((Lazy("a"), "Lazy: a"), (Posing(), "Posing"), (deep, "Group: deep")):
            result = self.failing(error)
            self.assertEqual((result.status, result.reason_for_incompletion), (FAILED, reason))
        self.assertEqual(self.logged[0].partition("\n")[0], "ERROR agent failed: Lazy: a")

    def test_a_long_reason_keeps_both_ends(self) -> None:
        reason = self.failing(ValueError("row 1 " + "x" * 2000 + " code=E42")).reason_for_incompletion or ""
        self.assertEqual(len(reason), 500)
        self.assertTrue(reason.startswith("ValueError: row 1 ") and reason.endswith(" code=E42"))

    def test_half_a_surrogate_pair_in_an_output_is_said_in_the_tasks_log(self) -> None:
        result = self.run_agent(lambda: {"file": "a\udcff", "more": ["\udcff"]})
        self.assertEqual((result.status, result.output_data), (COMPLETED, {"file": "a?", "more": ["?"]}))
        self.assertEqual(result.encoded_output, b'{"file":"a?","more":["?"]}')
        [line] = result.logs
        self.assertIn(r"""'{"file":"a\udcff'""", line.log)

    def test_surrogates_in_a_message_can_not_spoil_the_report(self) -> None:
        self.assertEqual(self.failing(ValueError("\udce4")).reason_for_incompletion, "ValueError: ?")

    def test_a_full_log_still_ends_with_the_traceback(self) -> None:
        def agent(logger: logging.Logger) -> None:
            for number in range(1500):
                logger.info("%d", number)
            raise ValueError("at the end")

        logs = self.run_agent(agent).logs
        self.assertTrue(logs[-1].log.endswith("ValueError: at the end"))
        self.assertEqual(logs[-2].log, "1499")

    def test_a_builtin_that_fails_has_a_reason_and_no_frames(self) -> None:
        result = self.run_agent(math.sqrt, inputData={"x": "nine"})
        self.assertEqual((result.status, result.logs), (FAILED, []))
        self.assertIn("TypeError: must be real number", result.reason_for_incompletion or "")
        self.assertEqual(self.run_agent(math.sqrt, inputData={"x": 9}).output_data, {"result": 3.0})


class TheCurrentTask(Executing):
    def test_it_tells_all_that_the_platform_told(self) -> None:
        found: dict[str, Any] = {}

        def agent() -> None:
            found["now"] = current_task()

        self.run_agent(agent, retryCount=2)
        now = found["now"]
        self.assertEqual((now.task_id, now.workflow_instance_id, now.attempt), ("t1", "w1", 3))
        self.assertEqual((now.key, now.agent_id), ("w1/step", "agent-id"))
        self.assertEqual((now.platform_task_id, now.platform_agent_id), ("pt", "pa"))
        self.assertIs(now.stopping, self.stopping)
        self.assertEqual(now.task.input_data, {"num1": 2, "num2": 3})

    def test_async_functions_and_what_they_start_know_it(self) -> None:
        async def part() -> str:
            return current_task().task_id

        async def agent() -> Any:
            in_thread = await asyncio.to_thread(lambda: current_task().task_id)
            return [current_task().task_id, *await asyncio.gather(part(), part()), in_thread]

        self.assertEqual(self.run_agent(agent).output_data, {"result": ["t1"] * 4})

    def test_nothing_of_a_task_stays_in_the_thread(self) -> None:
        own = contextvars.ContextVar("own", default="fresh")

        def agent() -> Any:
            before = own.get()
            own.set("used")
            return before

        self.assertEqual([self.run_agent(agent).output_data for _ in range(2)], [{"result": "fresh"}] * 2)
        with self.assertRaises(Exception):  # noqa: B017 - which one is test_context's affair
            current_task()


class AsyncFunctions(Executing):
    def test_they_run_on_one_loop_that_is_kept(self) -> None:
        loops = []

        async def agent(num1: int) -> int:
            loops.append(asyncio.get_running_loop())
            await asyncio.sleep(0)
            return num1

        results = [self.run_agent(agent).output_data for _ in range(3)]
        self.assertEqual(results, [{"result": 2}] * 3)
        self.assertEqual(len(set(loops)), 1)

    def test_without_a_runner_a_loop_is_made_and_closed(self) -> None:
        loops = []

        async def agent() -> int:
            loops.append(asyncio.get_running_loop())
            return 1

        result = execute(Agent(agent), make_task(), "w", stopping=self.stopping)
        self.assertEqual(result.output_data, {"result": 1})
        self.assertTrue(loops[0].is_closed())

    def test_a_plain_wrapper_of_an_async_function_is_awaited(self) -> None:
        async def inner(num1: int) -> int:
            return num1

        @functools.wraps(inner)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            return inner(*args, **kwargs)

        self.assertEqual(self.run_agent(wrapper).output_data, {"result": 2})

    def test_a_failure_shows_the_agents_frames_only(self) -> None:
        async def agent() -> None:
            await asyncio.sleep(0)
            raise ValueError("later")

        result = self.run_agent(agent)
        self.assertEqual(result.reason_for_incompletion, "ValueError: later")
        self.assertEqual(result.logs[-1].log.count('File "'), 1)

    def test_what_it_leaves_running_is_cancelled(self) -> None:
        ended = []

        async def lingering() -> None:
            try:
                await asyncio.Event().wait()
            finally:
                ended.append("cancelled")

        async def agent() -> int:
            asyncio.get_running_loop().create_task(lingering())
            await asyncio.sleep(0)
            return 1

        self.assertEqual(self.run_agent(agent).output_data, {"result": 1})
        self.assertEqual(ended, ["cancelled"])

    def test_an_interrupt_inside_does_not_spoil_the_loop_for_the_next_task(self) -> None:
        ended = []

        async def lingering() -> None:
            try:
                await asyncio.Event().wait()
            finally:
                ended.append("cancelled")

        async def agent(num1: int) -> int:
            if num1 < 0:
                asyncio.get_running_loop().create_task(lingering())
                await asyncio.sleep(0)
                raise SystemExit(1) if num1 == -1 else KeyboardInterrupt
            await asyncio.sleep(0)
            return num1

        for number, reason in ((-1, f"SystemExit: 1{EXITED}"), (-2, "KeyboardInterrupt")):
            result = self.run_agent(agent, inputData={"num1": number})
            self.assertEqual((result.status, result.reason_for_incompletion), (FAILED, reason))
            self.assertEqual(self.run_agent(agent).output_data, {"result": 2})
        self.assertEqual(ended, ["cancelled"] * 2)

    def test_a_leftover_that_refuses_to_end_costs_the_loop_not_the_slot(self) -> None:
        self.addCleanup(setattr, event_loop, "GRACE_S", event_loop.GRACE_S)
        event_loop.GRACE_S = 0.01
        loops = []

        async def stubborn() -> None:
            while True:
                try:
                    await asyncio.Event().wait()
                except asyncio.CancelledError:
                    continue

        async def agent(num1: int) -> int:
            loops.append(asyncio.get_running_loop())
            if num1 == 1:
                loops[0].set_exception_handler(lambda *_: None)
                asyncio.get_running_loop().create_task(stubborn())
                await asyncio.sleep(0)
            return num1

        with self.assertLogs("user_agent_sdk.worker.running.event_loop", "WARNING"):
            self.assertEqual(self.run_agent(agent, inputData={"num1": 1}).output_data, {"result": 1})
        self.assertEqual(self.run_agent(agent).output_data, {"result": 2})
        self.assertTrue(loops[0].is_closed())

    def test_unfinished_async_generators_are_closed_with_the_loop(self) -> None:
        ended = []
        kept = []

        async def numbers() -> Any:
            try:
                while True:
                    yield 1
            finally:
                ended.append("closed")

        async def agent() -> int:
            kept.append(numbers())
            async for number in kept[0]:
                return int(number)
            return 0

        self.assertEqual(self.run_agent(agent).output_data, {"result": 1})
        self.runner.close()
        self.assertEqual(ended, ["closed"])
        self.runner.close()

    def test_a_generator_whose_async_for_is_left_ends_as_it_says(self) -> None:
        """The task's log said "async_generator_athrow was left running", and on Python 3.9 the finally was cut off."""
        ended = []

        async def numbers() -> Any:
            try:
                while True:
                    yield 1
            finally:
                await asyncio.sleep(0.01)
                ended.append("closed")

        async def inner() -> int:
            async for number in numbers():
                async for _ in numbers():
                    return int(number)
            return 0

        async def agent(num1: int) -> int:
            if num1 == 2:
                return await inner()
            async for number in numbers():
                raise ValueError(number)
            return 0

        self.assertEqual(self.run_agent(agent).output_data, {"result": 1})
        self.assertEqual(ended, ["closed"] * 2)
        self.assertEqual(self.run_agent(agent, inputData={"num1": 3}).reason_for_incompletion, "ValueError: 1")
        result = self.run_agent(agent)  # the generator of the one that raised ends here, with what held on to it
        self.assertEqual((result.logs, ended), ([], ["closed"] * 5))

    def test_what_a_generator_raises_when_it_is_left_is_not_the_functions_end(self) -> None:
        """A SystemExit in the finally of a generator failed the task of a function that had returned."""

        async def numbers() -> Any:
            try:
                while True:
                    yield 1
            finally:
                await asyncio.sleep(0)
                sys.exit("of the generator")

        async def agent() -> int:
            async for number in numbers():
                return int(number)
            return 0

        log = logging.getLogger("asyncio")  # which may say, once the task is collected, that nobody asked for that end
        self.addCleanup(setattr, log, "disabled", log.disabled)
        log.disabled = True
        result = self.run_agent(agent)
        self.assertEqual((result.output_data, result.logs), ({"result": 1}, []))
        self.assertEqual(self.run_agent(lambda: asyncio.sleep(0, 2)).output_data, {"result": 2})

    def test_a_sync_function_may_run_a_loop_of_its_own(self) -> None:
        async def part() -> int:
            return 7

        self.assertEqual(self.run_agent(lambda: asyncio.run(part())).output_data, {"result": 7})


class Imports(unittest.TestCase):
    def test_asyncio_is_imported_by_the_first_async_run_only(self) -> None:
        module = sys.modules.pop("asyncio")
        self.addCleanup(sys.modules.__setitem__, "asyncio", module)
        result = execute(Agent(lambda num1: num1), make_task(), "w", stopping=threading.Event())
        self.assertEqual(json.loads(encode(result.to_wire()))["outputData"], {"result": 2})
        self.assertNotIn("asyncio", sys.modules)
        self.assertFalse(hasattr(event_loop, "asyncio"))


if __name__ == "__main__":
    unittest.main()

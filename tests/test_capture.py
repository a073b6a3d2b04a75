# SPDX-License-Identifier: Apache-2.0
"""--capture-output: what a task prints, and what other loggers say in it, is in its log; all else is as it was."""

from __future__ import annotations

import asyncio
import contextvars
import io
import logging
import sys
import threading
import unittest
from typing import Any
from unittest import mock

from tests.cli import keep_logging_as_it_is
from tests.support import at_once, entered
from tests.workerbox import LONG_S, Box, agent, working
from user_agent_sdk.worker.running import capture, context, hooks


class CaptureTest(unittest.TestCase):
    def setUp(self) -> None:
        keep_logging_as_it_is(self)
        self.out, self.err = io.StringIO(), io.StringIO()
        entered(self, mock.patch.object(sys, "stdout", self.out))
        entered(self, mock.patch.object(sys, "stderr", self.err))
        self.box = entered(self, Box())

    def ran(self, func: Any, *, times: int = 1, **options: Any) -> list[list[str]]:
        """The log of each task."""
        with working(self.box, agent(func, **options), workers=times, capture_output=True):
            ended = [self.box.wait(task, LONG_S) for task in [self.box.put(number=one) for one in range(times)]]
        self.assertEqual({each.status for each in ended}, {"COMPLETED"}, ended[0].reason)
        return [[line.log for line in each.attempts[-1].logs] for each in ended]

    def test_what_tasks_print_at_once_is_in_the_log_of_each(self) -> None:
        together = threading.Barrier(2)

        def prints(number: int) -> None:
            together.wait(LONG_S)
            print("a", number, "b", end="\r\n")
            together.wait(LONG_S)
            print("50 %\r100 %")
            print("to stderr", file=sys.stderr)
            sys.stdout.writelines(["one\n", "two"])

        logs = self.ran(prints, times=2)
        self.assertEqual(logs, [[f"a {number} b", "100 %", "to stderr", "one", "two"] for number in range(2)])
        self.assertEqual(self.err.getvalue(), "to stderr\n" * 2)
        self.assertEqual(sorted(self.out.getvalue()), sorted("a 0 b\r\na 1 b\r\n" + "50 %\r100 %\none\ntwo" * 2))

    def test_loggers_below_the_tasks_own_are_its_lines_with_and_without_the_option(self) -> None:
        """What a helper said by ``logging.getLogger(logger.name + ".excel")`` was in the worker's log alone."""

        def by_name(logger: logging.Logger) -> None:
            logger.info("of the task")
            logging.getLogger(logger.name).info("by %s", "name")
            below = logging.getLogger(f"{logger.name}.excel")
            below.addHandler(printing)
            below.info("below")
            below.removeHandler(printing)
            logging.getLogger(f"{logger.name}s").info("of another agent")

        printing = logging.StreamHandler(self.out)
        logging.getLogger("user_agent_sdk").setLevel("INFO")
        for is_captured in (False, True):
            with working(self.box, agent(by_name), capture_output=is_captured):
                logs = self.box.wait(self.box.put(), LONG_S).attempts[-1].logs
            self.assertEqual([line.log for line in logs], ["of the task", "by name", "below"], is_captured)
        logging.getLogger("user_agent_sdk.agent").info("where no task runs")

    def test_they_are_also_where_each_record_has_a_workflow_id(self) -> None:
        """A script that gave its records one, by a factory or ``extra``, had none of these lines in the task's log."""

        def by_name(logger: logging.Logger) -> None:
            logger.info("of the task", extra={"workflow_id": "of the script"})
            logging.getLogger(logger.name).info("by name", extra={"workflow_id": "of the script"})

        logging.getLogger("user_agent_sdk").setLevel("INFO")
        self.assertEqual(self.ran(by_name), [["of the task", "by name"]])

    def test_a_coroutine_of_a_shared_loop_has_its_own_lines(self) -> None:
        async def prints(number: int) -> None:
            await asyncio.sleep(0)
            print(number, end=" ")
            await asyncio.sleep(0.01)
            await asyncio.to_thread(print, "and a thread")

        self.assertEqual(self.ran(prints, times=3, loop="shared"), [[f"{one} and a thread"] for one in range(3)])

    def test_a_thread_belongs_to_the_task_by_its_context_alone(self) -> None:
        def prints() -> None:
            for run in (contextvars.copy_context().run, lambda say: say()):
                thread = threading.Thread(target=run, args=(lambda: print("said"),))
                thread.start()
                thread.join()

        self.assertEqual(self.ran(prints), [["said"]])
        self.assertEqual(self.out.getvalue(), "said\n" * 2)

    def test_other_loggers_are_told_once_even_where_they_write_to_stdout(self) -> None:
        """And the task's own logger, and the worker's lines, as ever."""
        handler = logging.StreamHandler(self.out)
        logging.getLogger().addHandler(handler)

        def logs(logger: logging.Logger) -> None:
            handler.stream = sys.stdout  # what a script's basicConfig(stream=sys.stdout) has
            logger.info("its own")
            logging.getLogger("a.library").error("of %s", "a library")
            logging.getLogger("user_agent_sdk.worker").warning("of the worker")
            try:
                raise ValueError("boom")
            except ValueError:
                logging.getLogger("a.library").exception("failed")
            logging.getLogger("a.library").error("of %d", "no number")  # its handler tells of it on stderr

        [[own, library, failed, *_]] = self.ran(logs)
        self.assertEqual((own, library), ("its own", "ERROR a.library: of a library"))
        self.assertRegex(failed, r"^ERROR a\.library: failed\nTraceback (.|\n)*ValueError: boom$")
        self.assertIn("of a library\n", self.out.getvalue())

    def test_a_start_hook_may_set_up_logging(self) -> None:
        """Its dictConfig, or a forced basicConfig, took the handler away that captures: no task's log had a line of
        another logger."""
        hooks.on_start(lambda: logging.basicConfig(force=True, level="INFO", stream=self.err))
        self.addCleanup(hooks.STARTS.clear)
        self.assertEqual(self.ran(lambda: logging.info("said")), [["INFO root: said"]])

    def test_a_handler_that_prints_tells_nothing_twice(self) -> None:
        """A handler of the root that prints, as rich's does, put each line into the task's log a second time. What it
        alone tells, and what is printed while a line is made, is there as ever."""

        class Printing(logging.Handler):
            def emit(self, record: logging.LogRecord) -> None:
                print(self.format(record))

        class Direct(Printing):
            def handle(self, record: logging.LogRecord) -> bool:
                self.emit(record)
                return True

        class Loud:
            def __str__(self) -> str:
                print("made")
                return "loud"

        alone = logging.getLogger("alone")
        alone.propagate = False
        alone.addHandler(Printing())
        self.addCleanup(alone.handlers.clear)
        wrapper = mock.Mock(write=lambda text: sys.stdout.write(text))  # as colorama's
        logging.getLogger().handlers[:] = [Printing(), Direct(), logging.StreamHandler(wrapper)]

        def logs(logger: logging.Logger) -> None:
            logger.warning("its own")
            logging.getLogger("a.library").error("of a library")
            alone.error("alone")
            print("printed")
            logging.getLogger("a.library").error("%s", Loud())

        [lines] = self.ran(logs)
        self.assertEqual(lines[:4], ["its own", "ERROR a.library: of a library", "alone", "printed"])
        self.assertEqual(sorted(lines[4:]), ["ERROR a.library: loud", *["made"] * 4])  # each handler makes it
        self.assertEqual(self.out.getvalue().count("of a library\n"), 3)

    def test_it_stays_within_the_limits_of_a_tasks_log(self) -> None:
        def prints() -> None:
            sys.stdout.write("x" * 300_000)
            for number in range(5000):
                print(number)

        [lines] = self.ran(prints)
        self.assertLessEqual(len(lines), context.MAX_LINES + 1)
        self.assertLessEqual(max(map(len, lines)), context.MAX_LINE_CHARS)
        self.assertRegex("\n".join(lines), r"… \d+ lines left out")

    def test_a_stream_that_a_script_wrapped_is_captured_once(self) -> None:
        capture.start()
        sys.stdout = wrapper = mock.Mock(write=sys.stdout.write)

        self.assertEqual(self.ran(lambda: print("said")), [["said"]])
        self.assertEqual(self.out.getvalue(), "said\n")
        self.assertIs(sys.stdout.stream, wrapper)  # type: ignore[attr-defined]

    def test_what_no_task_prints_and_a_worker_without_it_are_left_alone(self) -> None:
        with working(self.box, agent(lambda: print("said")), workers=1):
            ended = self.box.wait(self.box.put(), LONG_S)
            self.assertIs(sys.stdout, self.out)
        self.assertEqual([line.log for line in ended.attempts[-1].logs], [])
        capture.start()
        at_once(2, lambda: print("by nobody"))
        self.assertEqual(self.out.getvalue(), "said\n" + "by nobody\n" * 2)
        self.assertEqual(sys.stdout.getvalue(), self.out.getvalue())  # type: ignore[attr-defined]


if __name__ == "__main__":
    unittest.main()

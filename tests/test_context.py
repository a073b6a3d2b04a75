# SPDX-License-Identifier: Apache-2.0
"""The current task, and a log that belongs to one task alone."""

from __future__ import annotations

import contextvars
import gc
import logging
import sys
import threading
import unittest
from typing import Any
from unittest import mock

from user_agent_sdk.conductor.wire import Task, encode
from user_agent_sdk.errors import UserAgentError
from user_agent_sdk.worker.running.context import (
    AGENT_LOG,
    CURRENT,
    MAX_BYTES,
    MAX_LINE_CHARS,
    MAX_LINES,
    TaskLog,
    TaskLogger,
    current_task,
    log_fields,
    sendable,
)


def new_logger(task_id: str = "t1") -> tuple[TaskLogger, TaskLog]:
    lines = TaskLog()
    fields = log_fields(Task({"taskId": task_id, "workflowInstanceId": "w1"}), "sum")
    return TaskLogger("agent.sum", lines, fields), lines


def texts(lines: TaskLog) -> list[str]:
    return [line.log for line in lines.close()]


class FieldsTest(unittest.TestCase):
    def test_a_trace_id_is_taken_from_a_traceparent_that_is_one(self) -> None:
        good = "00-" + "a1" * 16 + "-" + "b2" * 8 + "-01"
        for given, trace_id in (
            (good, "a1" * 16), (f"cc{good[2:]}-more", "a1" * 16), (good.upper(), None), (f"ff{good[2:]}", None),
            (good.replace("a1", "00"), None), (good[:-1], None), (7, None), (None, None),
        ):  # fmt: skip
            wire = {"taskId": "t", "workflowInstanceId": "w", "retryCount": 1, "inputData": {"traceparent": given}}
            task = Task(wire)
            wanted: dict[str, object] = {"agent_id": "a", "task_id": "t", "workflow_id": "w", "attempt": 2}
            self.assertEqual(log_fields(task, "a"), {**wanted, "trace_id": trace_id} if trace_id else wanted, given)


class Seen(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


class Quiet(unittest.TestCase):
    """Keeps the agents' log from the console, and collects it."""

    def setUp(self) -> None:
        self.seen = Seen()
        before = AGENT_LOG.level, AGENT_LOG.propagate
        AGENT_LOG.propagate = False
        AGENT_LOG.setLevel(logging.INFO)
        AGENT_LOG.addHandler(self.seen)
        self.addCleanup(self.restore, *before)

    def restore(self, level: int, propagate: bool) -> None:
        AGENT_LOG.removeHandler(self.seen)
        AGENT_LOG.setLevel(level)
        AGENT_LOG.propagate = propagate


class CurrentTaskPromises(unittest.TestCase):
    def test_outside_a_task_it_says_so(self) -> None:
        with self.assertRaises(UserAgentError) as caught:
            current_task()
        self.assertIn("no task", str(caught.exception))
        self.assertTrue(caught.exception.hints)

    def test_a_thread_knows_the_task_only_if_it_is_given_the_context(self) -> None:
        found: list[Any] = []

        def look() -> None:
            found.append(CURRENT.get(None))

        def task() -> None:
            CURRENT.set("the task")  # type: ignore[arg-type]
            thread = threading.Thread(target=contextvars.copy_context().run, args=(look,))
            thread.start()
            thread.join()

        contextvars.copy_context().run(task)
        self.assertEqual(found, ["the task"])
        self.assertIsNone(CURRENT.get(None))


class TheLogger(Quiet):
    def test_it_is_a_logger_in_all_that_functions_use(self) -> None:
        logger, lines = new_logger()
        self.assertIsInstance(logger, logging.Logger)
        logger.info("sum of %s and %d", "a", 2)
        logger.warning("careful", extra={"row": 7})
        logger.log(logging.ERROR, "bad")
        try:
            raise ValueError("inner")
        except ValueError:
            logger.exception("it failed")
        logger.info("stack", stack_info=True)
        got = texts(lines)
        self.assertEqual(got[:3], ["sum of a and 2", "careful", "bad"])
        self.assertTrue(got[3].startswith("it failed\nTraceback") and got[3].endswith("ValueError: inner"))
        self.assertIn("Stack (most recent call last)", got[4])

    def test_lines_reach_the_process_log_with_their_task_and_their_place(self) -> None:
        logger, _ = new_logger("t9")
        logger.warning("hello")
        record = self.seen.records[0]
        self.assertEqual((record.getMessage(), record.filename), ("hello", "test_context.py"))
        self.assertEqual((record.__dict__["task_id"], record.__dict__["workflow_id"]), ("t9", "w1"))

    def test_lines_reach_the_process_log_where_loggers_are_off_while_one_works(self) -> None:
        """In Python 3.13.4 and 3.13.5 every logger of a thread is off while one of them handles a record: the worker's
        log had no line of an agent."""
        busy = threading.local()
        handle, is_enabled = logging.Logger.handle, logging.Logger.isEnabledFor

        def handles(logger: logging.Logger, record: logging.LogRecord) -> None:
            if not getattr(busy, "now", False):
                busy.now = True
                try:
                    handle(logger, record)
                finally:
                    busy.now = False

        def asks(logger: logging.Logger, level: int) -> bool:
            return not getattr(busy, "now", False) and is_enabled(logger, level)

        logger, lines = new_logger()
        logger.addFilter(lambda record: "secret" not in record.getMessage())
        replaced = {"handle": handles, "isEnabledFor": asks}
        with mock.patch.multiple(logging.Logger, **replaced):
            for text in ("hello", "secret", "again"):
                logger.info(text)
            logger.disabled = True
            logger.info("nobody")
        self.assertEqual([record.getMessage() for record in self.seen.records], ["hello", "again"])
        self.assertEqual(texts(lines), ["hello", "again"])

    @unittest.skipIf(sys.version_info < (3, 12), "a filter only says yes or no before 3.12")
    def test_a_filter_may_replace_the_record(self) -> None:
        logger, lines = new_logger()
        logger.addFilter(lambda record: logging.makeLogRecord({**vars(record), "msg": "blanked"}))
        logger.info("secret")
        self.assertEqual((texts(lines), self.seen.records[0].getMessage()), (["blanked"], "blanked"))

    def test_info_rides_in_the_result_unless_our_loggers_have_a_level_of_their_own(self) -> None:
        for level, expected in ((logging.NOTSET, ["for the platform"]), (logging.ERROR, [])):
            AGENT_LOG.setLevel(level)
            logger, lines = new_logger()
            with mock.patch.object(logging.getLogger(), "level", logging.ERROR):
                logger.info("for the platform")
            self.assertEqual(texts(lines), expected)
            self.assertEqual(self.seen.records, [])

    def test_a_debug_line_that_nobody_wants_is_not_built(self) -> None:
        class Costly:
            def __str__(self) -> str:
                raise AssertionError("built")

        AGENT_LOG.setLevel(logging.INFO)
        logger, lines = new_logger()
        logger.debug("%s", Costly())
        self.assertFalse(logger.isEnabledFor(logging.DEBUG))
        self.assertEqual(texts(lines), [])

    def test_debug_rides_when_the_process_logs_it_or_the_function_asks(self) -> None:
        AGENT_LOG.setLevel(logging.INFO)
        logger, lines = new_logger()
        logger.debug("no")
        logger.setLevel(logging.DEBUG)
        logger.debug("asked for")
        logger.setLevel(logging.WARNING)
        logger.info("no")
        logger.setLevel(logging.NOTSET)
        AGENT_LOG.setLevel(logging.DEBUG)
        logger.debug("process")
        self.assertEqual(texts(lines), ["asked for", "process"])
        self.assertEqual([record.getMessage() for record in self.seen.records], ["process"])

    def test_logging_disable_is_honoured(self) -> None:
        logger, lines = new_logger()
        logging.disable(logging.CRITICAL)
        self.addCleanup(logging.disable, logging.NOTSET)
        logger.critical("no")
        self.assertEqual(texts(lines), [])

    def test_a_line_that_can_not_be_formatted_is_kept_as_it_is_and_harms_nobody(self) -> None:
        AGENT_LOG.removeHandler(self.seen)
        AGENT_LOG.addHandler(logging.NullHandler())
        logger, lines = new_logger()
        logger.info("%d apples", "many")
        self.assertEqual(texts(lines), ["%d apples (this line's arguments don't fit: TypeError)"])

    def test_children_handlers_and_filters_work_and_belong_to_the_task(self) -> None:
        logger, lines = new_logger()
        own = Seen()
        logger.addHandler(own)
        logger.addFilter(lambda record: "secret" not in record.getMessage())
        logger.info("shown")
        logger.info("secret")
        logger.getChild("part").info("from the child")
        self.assertEqual([record.getMessage() for record in own.records], ["shown"])
        self.assertEqual(texts(lines), ["shown", "from the child"])

    def test_it_has_the_methods_of_the_scripts_own_class_of_loggers(self) -> None:
        """A script whose loggers have a ``success`` failed each task: that of the task had none."""

        class Talkative(logging.Logger):
            badge = property(lambda self: f"<{self.name}>")

            def success(self, text: str) -> None:
                self.log(25, text)

        logger, lines = new_logger()
        self.addCleanup(logging.setLoggerClass, logging.getLoggerClass())
        logging.setLoggerClass(Talkative)
        logger.success("done")
        logger.getChild("part").success("and a part")
        self.assertEqual((texts(lines), logger.badge), (["done", "and a part"], f"<{logger.name}>"))
        self.assertFalse(hasattr(logger, "failure"))

    def test_it_has_all_else_of_that_class(self) -> None:
        """A constant and a static method of the class failed the task: each was taken for a method of an object."""

        class Loud(logging.Logger):
            NOTICE, mark = 25, staticmethod(lambda text: f"<{text}>")
            kind = classmethod(lambda cls: cls.__name__)

            def notice(self, text: str) -> None:
                self.log(self.NOTICE, self.mark(text))

        logger, lines = new_logger()
        self.addCleanup(logging.setLoggerClass, logging.getLoggerClass())
        logging.setLoggerClass(type("Louder", (Loud,), {}))
        logger.notice("done")
        self.assertEqual((texts(lines), logger.kind()), (["<done>"], "Louder"))

    def test_no_logger_is_registered_however_many_tasks_run(self) -> None:
        before = set(logging.Logger.manager.loggerDict)
        handlers = len(logging._handlerList)  # type: ignore[attr-defined]
        for number in range(50):
            logger, lines = new_logger(f"task-{number}")
            logger.info("x")
            logger.getChild("y").info("y")
            lines.close()
        self.assertEqual(set(logging.Logger.manager.loggerDict), before)
        self.assertEqual(len(logging._handlerList), handlers)  # type: ignore[attr-defined]

    def test_a_finished_task_is_forgotten(self) -> None:
        self.seen.records.clear()

        def live() -> int:
            gc.collect()
            return sum(isinstance(thing, (TaskLog, TaskLogger)) for thing in gc.get_objects())

        before = live()
        for _ in range(20):
            logger, lines = new_logger()
            logger.info("x")
            texts(lines)
        del logger, lines
        self.seen.records.clear()
        self.assertEqual(live(), before)


class TheLines(Quiet):
    def test_threads_of_the_function_write_into_its_log_and_no_other(self) -> None:
        first, first_lines = new_logger("a")
        second, second_lines = new_logger("b")
        threads = [threading.Thread(target=first.info, args=("from thread %d", number)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        second.info("mine")
        self.assertEqual(sorted(texts(first_lines)), [f"from thread {number}" for number in range(8)])
        self.assertEqual(texts(second_lines), ["mine"])

    def test_a_line_after_the_end_goes_to_the_process_log_only(self) -> None:
        logger, lines = new_logger()
        logger.info("in time")
        self.assertEqual(texts(lines), ["in time"])
        for _ in range(10):
            logger.info("late")
        self.assertEqual(texts(lines), [])
        self.assertEqual(len(self.seen.records), 11)

    def test_too_many_lines_keep_the_first_and_the_last_and_say_how_many_are_gone(self) -> None:
        logger, lines = new_logger()
        for number in range(MAX_LINES + 234):
            logger.info("line %d", number)
        got = texts(lines)
        half = MAX_LINES // 2
        self.assertEqual(got[:half], [f"line {number}" for number in range(half)])
        self.assertIn(" 234 lines left out", got[half])
        self.assertEqual(got[half + 1 :], [f"line {number}" for number in range(half + 234, MAX_LINES + 234)])

    def test_a_full_log_has_no_gap_and_no_marker(self) -> None:
        lines = TaskLog()
        for number in range(MAX_LINES):
            lines.add(str(number), 0)
        self.assertEqual(texts(lines), [str(number) for number in range(MAX_LINES)])

    def test_long_lines_are_cut_and_all_together_stay_within_the_bytes(self) -> None:
        lines = TaskLog()
        for _ in range(200):
            lines.add("ü" * 100_000, 0)
        got = texts(lines)
        kept = [text for text in got if "left out" not in text]
        self.assertEqual({len(text) for text in kept}, {MAX_LINE_CHARS})
        self.assertLessEqual(sum(len(text.encode()) for text in kept), MAX_BYTES)
        self.assertGreater(len(kept), 10)
        self.assertIn(f" {200 - len(kept)} lines left out", got[len(kept) // 2])

    def test_lines_carry_their_time_in_milliseconds(self) -> None:
        logger, lines = new_logger()
        logger.info("x")
        self.assertEqual(lines.close()[0].created_ms, int(self.seen.records[0].created * 1000))

    def test_a_destructor_that_logs_while_a_line_is_added_does_not_hang(self) -> None:
        lines = TaskLog()
        with lines._lock:
            lines.add("from __del__", 0)
        self.assertEqual(texts(lines), ["from __del__"])


class Sendable(unittest.TestCase):
    def test_long_text_keeps_its_beginning_and_its_end(self) -> None:
        text = sendable("begin" + "x" * 1000 + "end", 500)
        self.assertEqual(len(text), 500)
        self.assertTrue(text.startswith("begin") and text.endswith("end") and "…" in text)
        self.assertEqual(sendable("x" * 500, 500), "x" * 500)

    def test_lone_surrogates_are_replaced(self) -> None:
        self.assertEqual(encode(sendable("a\ud800ü", 10)), '"a?ü"'.encode())


if __name__ == "__main__":
    unittest.main()

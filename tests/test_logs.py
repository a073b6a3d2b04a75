# SPDX-License-Identifier: Apache-2.0
"""Log lines: readable, one an event, free of secrets and control characters, and never a cause of failure."""

from __future__ import annotations

import io
import json
import logging
import os
import re
import unittest
from typing import Any
from unittest import mock

from tests.cli import keep_logging_as_it_is
from user_agent_sdk import logs
from user_agent_sdk.conductor.auth import Fetched, TokenSource

SECRET = "p@ss/w ord+1"
TOKEN = "tokén-1"
LEAKY = f"form client_secret=p%40ss%2Fw+ord%2B1 {SECRET} {TOKEN}"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Broken(io.StringIO):
    def write(self, text: str) -> int:
        raise OSError(28, "No space left on device")


class LogsTest(unittest.TestCase):
    def setUp(self) -> None:
        self.addCleanup(setattr, logs, "redactor", logs.redactor)
        logs.redactor = logs.Redactor()
        self.log = logging.getLogger("tests.some.module")
        keep_logging_as_it_is(self)

    def setup_on(
        self, stream: Any, log_format: str = "text", level: str = "INFO", secrets: tuple[str, ...] = ()
    ) -> Any:
        logging.getLogger().handlers.clear()
        logging.getLogger().setLevel(logging.WARNING)
        logs.setup(level, log_format, secrets, stream)
        logs.settle()
        return stream

    def test_a_line_on_a_terminal_has_time_level_message_and_the_task(self) -> None:
        stream = self.setup_on(Terminal())
        self.log.info("took %d", 3, extra={"action": "x", "agent_id": "sum", "task_id": "t1", "attempt": 2})
        self.assertRegex(stream.getvalue(), r"^\d\d:\d\d:\d\d INFO    took 3  \[task_id=t1 attempt=2\]\n$")
        self.log.info("began", extra={"agent_id": "sum"})
        self.log.info("ended", extra={"agent_id": "sum", "task_id": "t1", "attempt": 1, "duration_ms": 12.5})
        began, ended = stream.getvalue().splitlines()[1:]
        self.assertTrue(began.endswith("INFO    began  [agent_id=sum]"), began)
        self.assertTrue(ended.endswith("INFO    ended  [task_id=t1 duration_ms=12.5]"), ended)
        self.log.info("long", extra={"task_id": "0123456789ab"})  # it made most lines wrap
        self.assertTrue(stream.getvalue().endswith("  [task_id=01234567]\n"), stream.getvalue())

    def test_only_the_level_of_a_warning_or_an_error_has_a_colour_and_only_when_asked(self) -> None:
        logging.getLogger().handlers.clear()
        stream = Terminal()
        logs.setup("INFO", "text", (), stream, color=True)
        logs.settle()
        for level in (logging.INFO, logging.WARNING, logging.ERROR):
            self.log.log(level, "said \x1b[1m")
        plain, warned, failed = (line[9:] for line in stream.getvalue().splitlines())
        self.assertEqual(plain, "INFO    said \\x1b[1m")
        self.assertEqual(warned, "\x1b[35mWARNING\x1b[0m said \\x1b[1m")
        self.assertEqual(failed, "\x1b[31mERROR  \x1b[0m said \\x1b[1m")

    def test_a_handler_of_the_scripts_that_raises_costs_our_callers_nothing(self) -> None:
        """Its log server was away: a completed task was reported as failed, and the slot's thread died."""
        stream = io.StringIO()
        logging.getLogger().handlers.clear()
        broken = logging.Handler()
        broken.emit = mock.Mock(side_effect=ConnectionError("log server down"))  # type: ignore[method-assign]
        logging.getLogger().addHandler(broken)
        logs.setup("INFO", "text", (), stream)
        logging.getLogger("user_agent_sdk.worker.slots").info("delivered")
        self.assertEqual(broken.emit.call_count, 1)
        self.assertIn("delivered", stream.getvalue())

    def test_a_line_in_a_file_has_the_full_date_with_its_offset(self) -> None:
        stream = self.setup_on(io.StringIO())
        self.log.warning("hello")
        self.assertRegex(stream.getvalue(), r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}[+-]\d\d:\d\d WARNING hello\n$")

    def test_json_lines_have_stable_keys(self) -> None:
        stream = self.setup_on(io.StringIO(), "json")
        extra = {"action": "reported", "agent_id": "a#1", "task_id": "t", "workflow_id": "w", "attempt": 1,
                 "duration_ms": 12.5, "trace_id": "f00", "password": "never"}  # fmt: skip
        self.log.info("done %s", "là", extra=extra)
        [text] = stream.getvalue().splitlines()
        line = json.loads(text)
        del extra["password"]
        self.assertEqual(list(line), ["ts", "level", "logger", "pid", "msg", *extra])
        self.assertEqual({key: line[key] for key in extra}, extra)
        self.assertLessEqual({*extra}, {*logs.FIELDS})
        self.assertEqual(line["pid"], os.getpid())
        self.assertTrue(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line["ts"]))
        self.assertEqual(line["msg"], "done là")
        self.assertIn("là", text)

    def test_the_level_is_the_one_that_was_asked_for(self) -> None:
        stream = self.setup_on(io.StringIO(), level="WARNING")
        self.log.info("quiet")
        self.log.warning("loud")
        self.assertEqual(stream.getvalue().count("\n"), 1)

    def test_setting_up_twice_writes_each_line_once(self) -> None:
        stream = io.StringIO()
        self.setup_on(stream)
        logs.setup("INFO", "text", (), stream)
        logs.settle()
        self.log.info("once")
        self.assertEqual(stream.getvalue().count("once"), 1)

    def test_a_secret_is_blanked_wherever_it_stands(self) -> None:
        for log_format in ("text", "json"):
            stream = self.setup_on(io.StringIO(), log_format, secrets=(SECRET, TOKEN))
            logs.redactor.add("a-later-token")
            try:
                raise ValueError(LEAKY)
            except ValueError:
                self.log.exception("%s and p%%40ss%%2Fw%%20ord%%2B1", SECRET, extra={"task_id": SECRET})
            self.log.info("a-later-%s", "token", stack_info=True)
            text = stream.getvalue()
            self.assertGreaterEqual(text.count("***"), 6)
            for leak in ("p@ss", "ord+1", "p%40ss", "w%20ord", "a-later-token", TOKEN, "tok\\u00e9n"):
                self.assertNotIn(leak, text)

    def test_the_secret_stays_blank_however_many_tokens_came_after_it(self) -> None:
        """Both shared one short memory: after four hours of refreshed tokens the secret was readable again."""
        redactor = logs.Redactor()
        redactor.add(SECRET)
        for number in range(200):
            redactor.add(f"token/{number:03}", is_token=True)
        self.assertEqual(redactor(f"{SECRET} token/199 token%2F199"), "*** *** ***")
        self.assertEqual(redactor("token/000"), "token/000")

    def test_a_secret_is_blanked_inside_json_too(self) -> None:
        """A proxy's password with a quote in it stood readable in a body that an agent logged as JSON."""
        secret = 'pass"word\\\u00e9'
        redactor = logs.Redactor()
        redactor.add(secret)
        for is_ascii in (True, False):
            body = json.dumps({"password": secret}, ensure_ascii=is_ascii)
            self.assertEqual(redactor(body), '{"password": "***"}')

    def test_a_peers_words_are_blanked_before_they_are_cut(self) -> None:
        """The cut came first: sixty characters of a token at the end of the line were no longer those of the token."""
        redactor = logs.Redactor()
        redactor.add("correct horse battery")
        for words, shown in (
            ("x" * 190 + "correct horse battery", "x" * 190 + "***"),
            ("it was correct horse", "it was ***"),  # the peer cut it
            ("<correct>\n<horse>\n<battery>!", "<***>!"),
            ("a correct answer", "a correct answer"),
        ):
            self.assertEqual(redactor.brief(words), shown)

    def test_a_token_is_blanked_from_the_moment_it_is_fetched(self) -> None:
        source = TokenSource(lambda: Fetched("fresh-from-the-endpoint", 60), "Authorization", "Bearer ")
        source.headers()
        stream = self.setup_on(io.StringIO())
        self.log.info("sent %s", source.headers())
        self.assertIn("Bearer ***", stream.getvalue())

    def test_a_text_too_short_to_be_a_secret_does_not_blank_every_line(self) -> None:
        stream = self.setup_on(io.StringIO(), secrets=("a", ""))
        self.log.info("banana")
        self.assertIn("banana", stream.getvalue())

    def test_control_characters_are_shown_not_obeyed(self) -> None:
        for log_format in ("text", "json"):
            stream = self.setup_on(io.StringIO(), log_format)
            self.log.info(
                "a\x1b[2Jb\r\n2026 INFO forged \x9b31m \u202egnp.exe \ud800 \u2028", extra={"task_id": "x\ny"}
            )
            text = stream.getvalue()
            self.assertEqual(text.count("\n"), 1)
            for char in "\x1b\r\x9b\u202e\ud800\u2028":
                self.assertNotIn(char, text)
            self.assertTrue(log_format == "text" or "\x1b[2J" in json.loads(text)["msg"])

    def test_no_line_of_a_traceback_can_pass_for_a_log_line(self) -> None:
        stream = self.setup_on(io.StringIO())
        try:
            raise ValueError("first\n2026-01-01 INFO    forged")
        except ValueError:
            self.log.exception("failed")
        first, *rest = stream.getvalue().splitlines()
        self.assertTrue(first.endswith("failed"))
        self.assertTrue(rest and all(line.startswith("    ") for line in rest), rest)

    def test_a_stream_that_lacks_a_character_still_gets_the_line(self) -> None:
        for encoding in ("ascii", "cp1252"):
            raw = io.BytesIO()
            stream = self.setup_on(io.TextIOWrapper(raw, encoding=encoding, newline=""))
            self.log.info("hóa đơn ✓")
            logs.setup("INFO", "json", (), stream)
            logs.settle()
            self.log.info("hóa đơn ✓")
            text, line = raw.getvalue().decode(encoding).splitlines()
            self.assertIn("\\u2713", text)
            self.assertEqual(json.loads(line)["msg"], "hóa đơn ✓")

    def test_a_broken_stream_or_record_never_reaches_the_caller(self) -> None:
        self.setup_on(Broken())
        self.log.info("lost")
        stream = self.setup_on(io.StringIO())
        self.log.info("%d", "text")
        self.assertIn("test_logs.py:", stream.getvalue())
        self.log.info("%s", Unprintable())
        self.assertEqual(stream.getvalue().count("is broken"), 2)
        stream.close()
        self.log.info("closed")


class Unprintable:
    def __str__(self) -> str:
        raise RuntimeError("no")


if __name__ == "__main__":
    unittest.main()

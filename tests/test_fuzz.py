# SPDX-License-Identifier: Apache-2.0
"""The fuzzer itself: a few hundred cases of each target, and a bug planted in each is found.

The full run is ``python -m tests.fuzz``.
"""

from __future__ import annotations

import functools
import random
import unittest
from typing import Any, Callable
from unittest import mock

from tests.cli import keep_secrets_as_they_are
from tests.fuzz import commands, core, mutate
from tests.fuzz.targets import TARGETS
from user_agent_sdk import credentials, loader
from user_agent_sdk.cli import options
from user_agent_sdk.conductor import auth, client, wire
from user_agent_sdk.history import times
from user_agent_sdk.worker.keeping import journal_file

CASES = 100
PLANTED_CASES = 1000


def raising(function: Callable[..., Any], is_rare: Callable[..., bool]) -> Callable[..., Any]:
    """The function with a bug: a KeyError for what is rare."""

    @functools.wraps(function)
    def planted(*args: Any, **named: Any) -> Any:
        if is_rare(*args, **named):
            raise KeyError("planted")
        return function(*args, **named)

    return planted


def losing(parse: Callable[[bytes], list[wire.Task]]) -> Callable[[bytes], list[wire.Task]]:
    """A decoder that loses a task without a word."""
    return lambda body: [task for task in parse(body) if task.retry_count or not task.retried_task_id]


class FuzzTest(unittest.TestCase):
    def setUp(self) -> None:
        keep_secrets_as_they_are(self)

    def test_no_target_finds_anything(self) -> None:
        for name, kind in TARGETS.items():
            with self.subTest(name):
                outcome = core.fuzz(kind, CASES, seed=11)
                self.assertEqual([finding.told(name, 11) for finding in outcome.findings], [])
                self.assertEqual(outcome.cases, CASES)

    def test_a_bug_planted_in_a_target_is_found(self) -> None:
        for target, place, name, bug in (
            ("polls", wire, "_seconds", raising(wire._seconds, lambda value: isinstance(value, list))),
            ("polls", client, "parse_tasks", losing(client.parse_tasks)),
            ("updates", wire, "own_input", raising(wire.own_input, lambda given: not str(given).isascii())),
            ("updates", client, "parse_tasks", losing(client.parse_tasks)),
            ("tokens", auth, "life_s", raising(auth.life_s, lambda given: isinstance(given, dict))),
            ("tokens", auth, "_is_usable", lambda token: True),
            ("credentials", credentials, "nearest", raising(credentials.nearest, lambda key, _: not key)),
            ("journals", journal_file, "_is_known", lambda entry: True),
            ("journals", journal_file, "_row", raising(journal_file._row, lambda content: content.isascii())),
            ("history", times, "moment", raising(times.moment, lambda text: str(text)[:1] != "2")),
            ("commands", options, "nearest", raising(options.nearest, lambda word, _: len(word) < 3)),
            ("agents", loader, "_load_error", raising(
                loader._load_error, lambda _, error: isinstance(error, TypeError))),
        ):  # fmt: skip
            with self.subTest(f"{target}: {name}"), mock.patch.object(place, name, bug):
                found = core.fuzz(TARGETS[target], PLANTED_CASES, seed=11, stop_at=1).findings
                self.assertEqual(len(found), 1)
                again = core.fuzz(TARGETS[target], PLANTED_CASES, seed=11, only=found[0].number).findings
                self.assertEqual([repr(one.error)[:40] for one in again], [repr(found[0].error)[:40]])

    @unittest.skipUnless(hasattr(core.signal, "setitimer"), "there is no such timer")
    def test_a_case_that_hangs_is_found(self) -> None:
        def hang(_: object) -> float:
            while True:
                pass

        with mock.patch.object(auth, "life_s", hang), mock.patch.object(core, "HANG_S", 0.05):
            found = core.fuzz(TARGETS["tokens"], 100, seed=11, stop_at=1).findings
        self.assertIsInstance(found[0].error, core.Hang)

    def test_no_script_that_could_do_harm_is_run(self) -> None:
        for script in ("import os", "open('x')", "x = 9 ** 9", "from json import *", "len.__class__", "json.loads('1')",
                       "while 1: pass", "lambda: 1", "from . import json", "x = [1] * 9", "import json.tool",
                       "eval('1')",                        "# coding: utf-7\nimport +AG8Acw-"):  # fmt: skip
            self.assertFalse(commands.is_harmless(script.encode()), script)
        for script in commands.SCRIPTS:
            self.assertTrue(commands.is_harmless(script.encode("latin-1" if "latin-1" in script else "utf-8")), script)

    def test_no_command_line_leaves_its_folder(self) -> None:
        for word in ("/etc/x", "-e/etc/x", "-db=/x", "../x", "~/x", "//x", "-e//x", "a\0b", "\\\\host\\x", "a/b"):
            self.assertFalse(commands._stays_here(word), word)
        for word in ("x.db", "http://127.0.0.1:9", "--conductor=https://h/api", '{"a":1}', "-db=x", "\udc80"):
            self.assertTrue(commands._stays_here(word), word)

    def test_a_case_depends_on_its_number_and_the_seed_alone(self) -> None:
        made = [mutate.json_bytes(random.Random("7/x/3"), {"a": [1, "b"], "c": None}) for _ in range(2)]
        self.assertEqual(made[0], made[1])
        self.assertEqual(len({mutate.json_bytes(random.Random(n), {"a": [1, "b"]}) for n in range(100)}) > 60, True)

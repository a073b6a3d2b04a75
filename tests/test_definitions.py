# SPDX-License-Identifier: Apache-2.0
"""Task definitions of a Conductor server: ``check`` says what is missing or seldom meant, ``--register`` makes them."""

from __future__ import annotations

import itertools
import json
import shlex
import shutil
import subprocess
import sys
import threading
import unittest
from typing import Any, Callable
from unittest import mock
from urllib.parse import unquote

from tests.cli import CliTest
from tests.support import PATIENCE_S, Request, Server, answering
from user_agent_sdk.agents import Agent
from user_agent_sdk.cli import definitions as looks
from user_agent_sdk.conductor import definitions
from user_agent_sdk.errors import ConfigError
from user_agent_sdk.worker.runner import Runner

SCRIPT = """
from user_agent_sdk import user_agent

@user_agent(agent_id="it's an invoice", workers=4, retries=5, response_timeout_s=90, timeout_s=600)
def read(): ...
"""
NOBODY = definitions.NOBODY
NAME = "it's an invoice"


class Defined(unittest.TestCase):
    def test_a_definition_says_what_its_decorator_says_and_defaults_for_the_rest(self) -> None:
        plain = definitions.described("a")
        self.assertEqual(
            (plain["retryCount"], plain["responseTimeoutSeconds"], plain["timeoutSeconds"]),
            (definitions.RETRIES, definitions.RESPONSE_TIMEOUT_S, 0),
        )
        own = definitions.described("a", retries=0, response_timeout_s=90.2, timeout_s=600)
        self.assertEqual((own["retryCount"], own["responseTimeoutSeconds"], own["timeoutSeconds"]), (0, 91, 691))

    def test_options_that_make_no_sense_are_refused_where_they_are_written(self) -> None:
        for option, value in (
            ("retries", -1),
            ("retries", 1.5),
            ("response_timeout_s", 0),
            ("response_timeout_s", "9"),
        ):
            with self.subTest(option=option, value=value), self.assertRaisesRegex(ConfigError, option):
                Agent(print, **{option: value})  # type: ignore[arg-type]


class OnAServer(CliTest):
    """Its definitions are in ``defined``; ``posted`` are the bodies that made some."""

    def setUp(self) -> None:
        super().setUp()
        self.write("agent.py", SCRIPT)
        self.defined: dict[str, Any] = {}  # bytes are given as they are
        self.posted: list[Any] = []
        self.health: Any = (200, b'{"healthy":true}')
        self.broken: Any = None
        self.task: Any = None
        self.elsewhere: Any = (404, b"{}")
        self.hangs: threading.Event | None = None
        self.server = Server(answering(self.answer))
        self.addCleanup(self.server.close)
        self.url = f"{self.server.url}/api"

    def answer(self, request: Request) -> Any:
        path = request.target.partition("?")[0]
        if path == "/health":
            return self.health
        if self.hangs is not None:
            self.hangs.wait(PATIENCE_S)
        if path.startswith("/api/tasks/"):
            return self.task or (404, b'{"message": "Task not found for taskId: %b"}' % path[11:].encode())
        if not path.startswith("/api/metadata/taskdefs"):
            return self.elsewhere if NOBODY in path or "/metadata/" in path else (404, b"{}")
        if self.broken:
            return self.broken
        if request.method == "POST":
            self.posted.append(json.loads(request.body))
            self.defined.update((each["name"], each) for each in self.posted[-1])
            return 200, b""
        name = unquote(path.rpartition("/")[2])
        if name in self.defined:
            found = self.defined[name]
            return 200, found if isinstance(found, bytes) else json.dumps(found).encode()
        return 404, json.dumps({"message": f"No such taskType found by name: {name}", "retryable": False}).encode()

    def check(self, script: str = "agent.py") -> dict[str, list[tuple[str, str, str]]]:
        """Status, message and fix of the findings, by what was checked."""
        ended = self.run_main("check", *filter(None, [script]), "--conductor", self.url, "--json")
        found: dict[str, list[tuple[str, str, str]]] = {}
        for row in json.loads(ended.out)["checks"]:
            found.setdefault(row["check"], []).append((row["status"], row["message"], row["fix"]))
        self.code = ended.code
        return found

    def test_a_task_type_without_a_definition_fails_the_check_with_the_command_that_makes_it(self) -> None:
        [(status, message, fix)] = self.check()["task type"]
        self.assertEqual((status, self.code), ("FAIL", 3))
        self.assertIn(f"task type {NAME} has no definition", message)
        command = shlex.split(fix[fix.index("curl") :])
        self.assertEqual(command[:4], ["curl", "-X", "POST", f"{self.url}/metadata/taskdefs"])
        self.assertEqual(json.loads(command[-1]), [definitions.described(NAME, 5, 90, 600)])
        if shutil.which("curl"):
            subprocess.run(["sh", "-c", fix[fix.index("curl") :]], check=True, capture_output=True, timeout=30)
            self.assertEqual([row[0] for row in self.check()["task type"]], ["ok"])

    def test_what_is_seldom_meant_is_said_with_the_command_that_changes_it_alone(self) -> None:
        good = {**definitions.described(NAME, 5, 90, 600), "createTime": 1, "inputKeys": [], "updatedBy": "x"}
        for changes, said, mended in (
            (
                {"responseTimeoutSeconds": 3600, "timeoutSeconds": 0},
                "only after 3600 s",
                {"responseTimeoutSeconds": 300},
            ),
            ({"responseTimeoutSeconds": 0}, "never", {"responseTimeoutSeconds": 300}),
            ({"responseTimeoutSeconds": 2}, "2 s is short", {"responseTimeoutSeconds": 300}),
            ({"timeoutSeconds": 100}, "gives a run 100 s, the agent's timeout_s is 600 s", {"timeoutSeconds": 900}),
            ({"retryCount": 0}, "not tried again", {"retryCount": 3}),
            ({"concurrentExecLimit": 2}, "4 workers here, and the platform lets 2 run", {"concurrentExecLimit": 4}),
        ):
            with self.subTest(changes=changes):
                self.defined[NAME] = {**good, **changes}
                known, (status, message, fix) = self.check()["task type"]
                self.assertEqual((known[0], status, self.code), ("ok", "warn", 0))
                self.assertIn(said, message)
                command = shlex.split(fix)
                self.assertEqual(command[:4], ["curl", "-X", "PUT", f"{self.url}/metadata/taskdefs"])
                kept = {
                    k: v for k, v in {**good, **changes}.items() if k not in ("createTime", "inputKeys", "updatedBy")
                }
                self.assertEqual(json.loads(command[-1]), {**kept, **mended})

    def test_odd_values_in_a_definition_cost_no_row(self) -> None:
        """A number that JSON can't hold, or half a character, made the whole check "a bug", without any row."""
        self.write("agent.py", SCRIPT + SCRIPT.replace(NAME, "another"))
        self.defined["another"] = definitions.described("another", 0, 90, 600)
        for fields in (
            '"responseTimeoutSeconds": 1e400',
            '"responseTimeoutSeconds": 1%s' % ("0" * 400),
            '"responseTimeoutSeconds": NaN',
            '"responseTimeoutSeconds": 0, "timeoutSeconds": -Infinity',
            '"responseTimeoutSeconds": true, "timeoutSeconds": 1e-9',
            '"responseTimeoutSeconds": 0, "description": "\\ud800"',
            '"responseTimeoutSeconds": 0, "inputTemplate": %s' % ("[" * 900 + "]" * 900),
            '"concurrentExecLimit": NaN, "retryCount": "three", "rateLimitPerFrequency": Infinity',
        ):
            with self.subTest(fields[:60]):
                self.defined[NAME] = b'{"name": "it\'s an invoice", ' + fields.encode() + b"}"
                (status, message, _), *rows = self.check()["task type"]
                self.assertEqual((self.code, status), (0, "ok"))
                self.assertIn(f"{NAME} is defined", message)
                self.assertEqual([row[0] for row in rows if "another is defined" in row[1]], ["ok"])

    def test_a_rate_limit_is_told_and_the_servers_own_health(self) -> None:
        limit = {"rateLimitPerFrequency": 7, "rateLimitFrequencyInSeconds": 60}
        self.defined[NAME] = {**definitions.described(NAME, 5, 90, 600), **limit}
        found = self.check()
        self.assertIn("at most 7 given out each 60 s", found["task type"][0][1])
        self.assertEqual([row[0] for row in found["health"]], ["ok"])
        self.health = (200, b'{"healthy":false}')
        self.assertEqual([row[0] for row in self.check()["health"]], ["warn"])
        self.health = (404, b"<html>")
        self.assertNotIn("health", self.check())

    def test_a_server_that_can_not_tell_is_warned_of_and_lacks_no_definition(self) -> None:
        """The sandbox has no such route, and names the path, with the task type, when it says so: that was taken for
        a missing definition, and the command that was to mend that went to the same missing route."""
        no_route = json.dumps({"message": f"No static resource api/metadata/taskdefs/{NAME}."}).encode()
        for self.broken in ((500, b"{}"), (404, b"<html>"), (403, b""), (404, no_route)):
            [(status, message, _)] = self.check()["task type"]
            self.assertEqual((status, self.code), ("warn", 0))
            self.assertIn("can't be read", message)

    def test_an_address_that_is_not_the_apis_fails_the_check(self) -> None:
        """Without /api, or with /API, each poll got Conductor's own web page, and check said that tasks run all the
        same; in front of a sandbox it said that the definition was missing, with a command for the wrong address."""
        self.defined[NAME] = definitions.described(NAME, 5, 90, 600)
        address = self.server.url
        names_it = b'{"message": "No static resource metadata/taskdefs/%b, tasks/"}' % NOBODY.encode()
        bases = itertools.cycle(("", "/API", "/api/api"))
        for self.elsewhere, script in zip((
            (200, b"<!DOCTYPE html>"),
            (200, b"Welcome", "Content-Type: text/html"),
            (404, b"<html>"),
            (404, b""),
            (404, b"no such page"),
            (404, names_it),
            (500, names_it),
        ), itertools.cycle(("agent.py", ""))):  # fmt: skip
            self.url = address + next(bases)
            with self.subTest(self.elsewhere, url=self.url, script=script):
                found = self.check(script)
                [(message, fix)] = [row[1:] for row in found["platform"] if row[0] == "FAIL"]
                self.assertIn(f"{self.url} is not the address of a Conductor's API", message)
                self.assertIn("mostly ends in /api", fix)
                self.assertEqual((self.code, found.get("task type")), (5, None))

    def test_a_gateway_that_lets_the_tasks_through_alone_is_the_api(self) -> None:
        for self.broken in ((404, b"<html>"), (200, b"<html>")):
            for self.task in (None, (200, b""), (204, b""), (401, b""), (403, b"<html>"), (503, b"<html>")):
                with self.subTest(self.broken, task=self.task):
                    [(status, _, fix)] = self.check()["task type"]
                    self.assertEqual((status, self.code), ("warn", 0))
                    self.assertIn("run all the same", fix)

    def register(self, *options: str, run: Callable[[Runner], int] = lambda runner: 0) -> list[str]:
        with mock.patch.object(Runner, "run", autospec=True, side_effect=run):
            ended = self.run_main("run", "agent.py", "--conductor", self.url, "--no-journal", *options)
        self.assertEqual(ended.code, 0, ended.err)
        return [line for line in ended.err.splitlines() if "ask type" in line or "register" in line]

    def test_a_start_says_which_task_type_is_missing_and_makes_none(self) -> None:
        """The server answers polls for any: a worker with a misspelt one waited for ever, and was "Ready"."""
        [said] = self.register()
        self.assertIn(f"WARNING Task type {NAME} has no definition: run --register makes one", said)
        self.defined[NAME] = definitions.described(NAME, 5, 90, 600)
        self.assertEqual(self.register(), [])
        for self.broken in ((503, b""), (404, b"<html>"), (403, b"")):
            self.assertEqual(self.register(), [])
        self.assertEqual(self.posted, [])

    def test_a_start_waits_for_a_look_that_nobody_asked_for_once_and_not_long(self) -> None:
        """Each of ten agents made the start wait for 15 s at a server that hung."""
        self.write("agent.py", SCRIPT + SCRIPT.replace(NAME, "another"))
        self.hangs = threading.Event()
        self.addCleanup(self.hangs.set)
        with mock.patch.object(looks, "START_LOOK_S", 0.05):
            self.assertEqual(self.register(), [])
        self.assertEqual(len(self.server.requests), 1)

    def test_a_core_copy_which_has_no_definitions_goes_without(self) -> None:
        """--register was an internal error there."""
        loaded: dict[str, Any] = sys.modules  # not by patch.dict: it would forget what is imported meanwhile
        name = "user_agent_sdk.cli.definitions"
        before, loaded[name] = loaded.get(name), None
        try:
            self.assertEqual(self.register(), [])
            [said] = self.register("--register")
        finally:
            del loaded[name]
            if before is not None:
                loaded[name] = before
        self.assertIn("This copy was made without --register", said)

    def test_register_makes_what_is_missing_and_changes_nothing_that_is_there(self) -> None:
        [said] = self.register("--register")
        self.assertIn(f"Task type {NAME} is defined now: response timeout 90 s, retries 5", said)
        self.assertEqual(self.posted, [[definitions.described(NAME, 5, 90, 600)]])
        self.defined[NAME]["retryCount"] = 1
        [said] = self.register("--register")
        self.assertIn("is left as it is", said)
        self.assertEqual((len(self.posted), self.defined[NAME]["retryCount"]), (1, 1))

    def test_what_is_no_definition_is_not_taken_for_a_missing_one(self) -> None:
        """Any 200 without a JSON object in it counted as none: behind a gateway's login page, or with a number of
        5,000 digits in it, a definition that was there was replaced."""
        for self.broken in (
            (200, b"<html>please log in"),
            (200, b'{"retryCount": 1, "inputTemplate": {"n": 1%s}}' % (b"0" * 5000)),
            (200, b'{"retryCount": 1, "inputTemplate": %s}' % (b"[" * 100_000)),
            (200, b""),
            (204, b""),
            (200, b"[]"),
            (200, b"{}"),
        ):
            if b"0" * 5000 in self.broken[1] and not hasattr(sys, "get_int_max_str_digits"):
                continue  # this Python reads it
            with self.subTest(self.broken[1][:40]):
                [said] = self.register("--register")
                self.assertIn("could not be registered: the reply is no task definition", said)
                self.assertEqual((self.posted, self.register()), ([], []))
                [(status, message, _)] = self.check()["task type"]
                self.assertEqual((status, message, self.code), ("warn", "the reply is no task definition", 0))

    def test_a_definition_that_is_refused_keeps_no_worker_from_its_work_and_is_not_asked_for_again(self) -> None:
        wrong = b'{"message": "Validation failed", "validationErrors": [{"message": "retryCount: 15 must be <= 10"}]}'
        for self.broken, why in (((403, b""), "HTTP 403"), ((400, wrong), "failed retryCount: 15 must be <= 10")):
            [said] = self.register("--register", run=lambda runner: len(runner.services.upkeep))
            self.assertIn(f"Task type {NAME} could not be registered: ", said)
            self.assertIn(why, said)
        self.assertEqual(self.posted, [])

    def served(self, runner: Runner) -> int:
        """A worker whose polls are answered after a while, as then are its looks; at the first one more does."""
        [look] = runner.services.upkeep.items()
        before = len(self.server.requests)
        pauses_s = [look()]
        self.assertEqual(len(self.server.requests), before, "looked while nothing answered")
        runner.gates[0].polled_at = 1.0
        pauses_s += [look(), look()]
        self.broken = None
        while (pause_s := look()) is not None:
            pauses_s.append(pause_s)
        self.assertEqual(pauses_s, [0.5, 1.0, 2.0, 0.0], "two looks without an answer; then one agent a turn")
        return 0

    def test_a_worker_that_is_there_before_its_server_registers_when_the_server_answers(self) -> None:
        """It said once that the connection was refused, got Ready with the server, and its tasks had the server's own
        response timeout and retries, or no definition at all."""
        self.write("agent.py", SCRIPT + SCRIPT.replace(NAME, "another").replace("retries=5", "retries=1"))
        for unanswered in ((503, b""), (429, b""), (500, b'{"message": "no connection to the database"}')):
            with self.subTest(unanswered[0]):
                self.broken = unanswered
                self.defined.clear()
                first, *later = self.register("--register", run=self.served)
                self.assertIn(f"Task types not registered yet: {NAME}, another (", first)
                self.assertIn("); trying again", first)
                self.assertEqual(sorted(line.partition(" Task type ")[2] for line in later), [
                    f"{name} is defined now: response timeout 90 s, retries {retries}"
                    for name, retries in (("another", 1), (NAME, 5))
                ])  # fmt: skip
                self.broken = unanswered
                self.defined["another"] = definitions.described("another")
                del self.defined[NAME]
                said = self.register(run=self.served)
                self.assertEqual(len(said), 1, "without --register only what is missing is said")
                self.assertIn(f"Task type {NAME} has no definition", said[0])

    def test_a_server_that_hangs_holds_up_the_start_for_one_time_limit_at_most(self) -> None:
        """With --register each agent in turn waited for 15 s before the first poll."""
        self.write("agent.py", SCRIPT + SCRIPT.replace(NAME, "another"))
        self.hangs = threading.Event()
        self.addCleanup(self.hangs.set)
        with mock.patch.object(definitions, "CALL_TIMEOUT_S", 0.05):
            [said] = self.register("--register")
        self.assertIn("not registered yet", said)
        self.assertEqual(len(self.server.requests), 1)

    def test_akabot_defines_its_tasks_itself(self) -> None:
        self.write("credentials.json", json.dumps({"clientId": "c", "clientSecret": "s", "agentId": "x"})).chmod(0o600)
        with mock.patch("user_agent_sdk.worker.runner.Runner.run", return_value=0):
            ended = self.run_main("run", "agent.py", "--register", "--no-journal")
        self.assertIn("--register is for Conductor", ended.err)


if __name__ == "__main__":
    unittest.main()

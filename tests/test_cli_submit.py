# SPDX-License-Identifier: Apache-2.0
"""``useragent submit``: a task for a sandbox, from the first look for it to the output on stdout."""

from __future__ import annotations

import json
import os
import socket
import threading
import unittest
from functools import partial
from typing import Any
from unittest import mock

from tests.cli import CliTest, Ended
from tests.support import PATIENCE_S, Request, Server, answering, entered, executions
from user_agent_sdk.cli import submit
from user_agent_sdk.sandbox import exchange
from user_agent_sdk.sandbox.server import Sandbox


def _said(answer: tuple[int, bytes], request: Request) -> tuple[int, bytes]:
    return answer


class SubmitCase(CliTest):
    def setUp(self) -> None:
        super().setUp()
        self.sandbox = entered(self, Sandbox())

    def submit(self, *words: str, stdin: bytes = b"") -> Ended:
        return self.run_main("submit", "--url", self.sandbox.origin, *words, stdin=stdin)

    def worker(self, agent_id: str, status: str, **report: Any) -> None:
        """Take one task, on a thread, and report that."""

        def work() -> None:
            [task] = self.sandbox.engine.poll(agent_id, "here", wait_s=PATIENCE_S)
            ids = {key: task[key] for key in ("workflowInstanceId", "taskId")}
            self.sandbox.engine.update({**ids, "status": status, **report})

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        self.addCleanup(thread.join, PATIENCE_S)


class Outcomes(SubmitCase):
    def test_the_output_is_one_line_of_json_on_stdout(self) -> None:
        self.worker("a", "COMPLETED", outputData={"total": 5, "name": "Müller"})
        ended = self.submit("-a", "a", "-i", '{"n": 1180591620717411303424}')
        self.assertEqual((ended.code, ended.out, ended.err), (0, '{"total": 5, "name": "Müller"}\n', ""))
        [execution] = executions(self.sandbox.engine)
        self.assertEqual((execution.agent_id, execution.input), ("a", {"n": 2**70}))

    def test_a_task_that_fails_is_exit_1_with_its_reason_and_where_to_see_more(self) -> None:
        self.worker("a", "FAILED_WITH_TERMINAL_ERROR", reasonForIncompletion="no such\x1b[31m customer")
        ended = self.submit("-a", "a")
        self.assertEqual((ended.code, ended.out), (1, ""))
        self.assertIn("error[task-failed]: the task failed after 1 attempt: no such\\x1b[31m customer", ended.err)
        self.assertIn(f"{self.sandbox.origin}/#{executions(self.sandbox.engine)[0].id}", ended.err)

    def test_no_wait_prints_the_id(self) -> None:
        ended = self.submit("-a", "a", "--wait", "0")
        self.assertEqual((ended.code, ended.out), (0, executions(self.sandbox.engine)[0].id + "\n"))

    def test_a_task_that_nobody_takes_asks_for_the_worker(self) -> None:
        ended = self.submit("-a", "a", "--wait", "0.05")
        self.assertEqual((ended.code, ended.out), (1, ""))
        self.assertIn("had not ended after 0.05 s", ended.err)
        self.assertIn("no worker has taken it: is one running for a?", ended.err)

    def test_that_no_worker_is_there_is_said_while_it_waits(self) -> None:
        self.sandbox.engine.poll("sum_agent")
        with mock.patch.object(submit, "UNPOLLED_S", 0.0):
            ended = self.submit("-a", "sum_agnet", "--wait", "0.05")
            self.assertIn("no worker polls for sum_agnet yet (did you mean -a sum_agent?)\n", ended.err)
            said = self.submit("-a", "sum_agent", "--wait", "0.05").err  # it was mute: a worker had polled, and left
            self.assertRegex(said, "nobody took it yet: the worker of sum_agent polled 0 s ago; is it busy, or gone")
            for domain in ("far", "near"):
                self.sandbox.engine.poll("apart", "here", domain)
            said = self.submit("-a", "apart", "--wait", "0.05").err  # of a worker that would never take it: is it busy?
            self.assertIn("nobody took it yet: workers of apart poll in the domain far and the domain near; USER", said)

    def test_ctrl_c_names_the_execution_that_goes_on(self) -> None:
        with mock.patch.object(submit, "_say_unpolled", side_effect=KeyboardInterrupt), mock.patch.object(
            submit, "UNPOLLED_S", 0.0
        ):
            ended = self.submit("-a", "a")
        self.assertEqual(ended.code, 130)
        self.assertIn(f"it goes on: {self.sandbox.origin}/#{executions(self.sandbox.engine)[0].id}\n", ended.err)

    def test_a_task_that_still_runs_is_not_said_to_be_untaken(self) -> None:
        taken = threading.Thread(target=self.sandbox.engine.poll, args=("a",), kwargs={"wait_s": PATIENCE_S})
        taken.start()
        ended = self.submit("-a", "a", "--wait", "0.3")
        taken.join(PATIENCE_S)
        self.assertEqual(ended.code, 1)
        self.assertNotIn("no worker", ended.err)
        self.assertIn("it goes on", ended.err)

    def test_the_input_comes_from_a_file_or_stdin_too(self) -> None:
        self.write("input.json", '{"from": "file"}')
        self.submit("-a", "a", "-i", "input.json", "--wait", "0")
        self.submit("-a", "a", "-i", "-", "--wait", "0", stdin=b'{"from": "stdin"}')
        inputs = [execution.input["from"] for execution in executions(self.sandbox.engine)]
        self.assertEqual(inputs, ["stdin", "file"])

    def test_what_cannot_be_a_task_is_a_usage_error(self) -> None:
        for words in (("-i", "[1]"), ("-i", "absent.json"), ("--wait", "-1"), ("--wait", "soon")):
            self.assertEqual(self.submit("-a", "a", *words).code, 2, words)
        self.assertEqual(executions(self.sandbox.engine), [])

    def test_the_domain_of_the_environment_is_the_tasks(self) -> None:
        with mock.patch.dict(os.environ, {"USERAGENT_DOMAIN": "far"}):
            self.submit("-a", "a", "--wait", "0")
        self.assertEqual(executions(self.sandbox.engine)[0].domain, "far")

    def test_no_domain_is_none_as_it_is_for_a_worker(self) -> None:
        """In a shell whose USERAGENT_DOMAIN=NO_DOMAIN took a worker out of its decorator's domain, the task was put
        into a domain of that name, where nobody polls."""
        self.sandbox.engine.poll("a", "here")
        with mock.patch.dict(os.environ, {"USERAGENT_DOMAIN": "NO_DOMAIN"}):
            self.submit("-a", "a", "--wait", "0")
        self.assertIsNone(executions(self.sandbox.engine)[0].domain)


class WhichAgent(SubmitCase):
    def test_the_only_one_that_the_sandbox_knows(self) -> None:
        self.sandbox.engine.poll("0000#user-agent", "here")
        self.sandbox.engine.poll("0000#user-agent", "here", "far")
        self.submit("--wait", "0")
        self.assertEqual(executions(self.sandbox.engine)[0].agent_id, "0000#user-agent")

    def test_of_none_or_several_it_must_be_named(self) -> None:
        with mock.patch.object(submit, "FIRST_POLL_S", 0.1):
            ended = self.submit("--wait", "0")
        self.assertEqual(ended.code, 2)
        self.assertIn("no worker has polled yet", ended.err)
        self.sandbox.engine.poll("one")
        self.sandbox.engine.poll("two")
        ended = self.submit("--wait", "0")
        self.assertEqual(ended.code, 2)
        self.assertIn("-a one", ended.err)
        self.assertIn("-a two", ended.err)

    def test_a_queue_that_a_typing_error_made_is_no_agent(self) -> None:
        """After one submit to a misspelt agent the plain form said that the sandbox knows two."""
        self.sandbox.engine.poll("mine", "here")
        self.submit("-a", "mien", "--wait", "0")
        self.assertEqual(self.submit("--wait", "0").code, 0)
        self.assertEqual(executions(self.sandbox.engine)[0].agent_id, "mine")

    def test_a_worker_that_has_only_just_started_is_waited_for(self) -> None:
        """Typed right after ``dev --sandbox``, submit once came before the first poll, and gave up at once."""
        handle = self.sandbox.handle

        def before_the_poll(request: Request) -> Any:
            reply = handle(request)
            self.sandbox.engine.poll("mine", "here")
            return reply

        with mock.patch.object(self.sandbox, "handle", before_the_poll):
            self.assertEqual(self.submit("--wait", "0").code, 0)
        self.assertEqual(executions(self.sandbox.engine)[0].agent_id, "mine")


class WhichSandbox(SubmitCase):
    def credentials(self, name: str = "credentials.json", **changed: str) -> None:
        self.write(name, json.dumps({**self.sandbox.credentials("mine"), **changed})).chmod(0o600)

    def agents(self) -> list[str]:
        return [execution.agent_id for execution in executions(self.sandbox.engine)]

    def test_the_one_that_the_credentials_file_points_at(self) -> None:
        self.credentials()
        self.assertEqual(self.run_main("submit", "--wait", "0").code, 0)
        self.assertEqual(self.run_main("submit", "--wait", "0", "-a", "other").code, 0)
        self.assertEqual(self.agents(), ["other", "mine"])

    def test_a_credentials_file_that_was_named_is_used_and_must_be_there(self) -> None:
        self.credentials("box.json")
        self.assertEqual(self.run_main("submit", "--wait", "0", "-c", "box.json").code, 0)
        self.assertEqual(self.run_main("submit", "--wait", "0", "-c", "absent.json", "--url", self.sandbox.url).code, 3)
        self.assertEqual(self.agents(), ["mine"])

    def test_the_real_platform_never_gets_a_task(self) -> None:
        """Whoever tries things out beside real credentials must reach a sandbox or nothing."""
        self.credentials(serviceUrl="https://external-api.next.akabot.io/api", authUrl="https://auth.next.akabot.io/t")
        with mock.patch("user_agent_sdk.cli.embedded.SANDBOX_PORT", self.sandbox.port):
            self.assertEqual(self.run_main("submit", "--wait", "0").code, 0)
        self.assertEqual(self.agents(), ["mine"])

    def test_beside_the_real_platforms_credentials_the_agent_of_dev_gets_the_task(self) -> None:
        """Its script names no id, so dev took the function's name, and submit asked for the credentials' agent."""
        self.credentials(serviceUrl="https://external-api.next.akabot.io/api", authUrl="https://auth.next.akabot.io/t")
        self.sandbox.engine.poll("sum_agent", "here")
        with mock.patch("user_agent_sdk.cli.embedded.SANDBOX_PORT", self.sandbox.port):
            self.assertEqual(self.run_main("submit", "--wait", "0").code, 0)
        with mock.patch.dict(os.environ, {"USERAGENT_AGENT_ID": "named"}):
            self.submit("--wait", "0")
        self.sandbox.engine.poll("another", "here")
        self.submit("--wait", "0")
        self.assertEqual(self.agents(), ["mine", "named", "sum_agent"])

    def test_an_address_elsewhere_is_refused(self) -> None:
        for url in ("http://192.0.2.1:8088", "https://external-api.next.akabot.io", "8088", "ftp://127.0.0.1", "a b"):
            ended = self.run_main("submit", "--url", url, "-a", "a")
            self.assertEqual((ended.code, ended.out), (2, ""), url)

    def test_an_address_may_be_that_of_the_page_or_of_the_api(self) -> None:
        for url in (self.sandbox.origin + "/", self.sandbox.url, f"localhost:{self.sandbox.port}"):
            self.assertEqual(self.run_main("submit", "--url", url, "-a", "a", "--wait", "0").code, 0, url)

    def test_with_an_address_a_broken_credentials_file_does_not_matter(self) -> None:
        self.write("credentials.json", "{broken")
        self.assertEqual(self.submit("-a", "a", "--wait", "0").code, 0)
        self.assertEqual(self.run_main("submit", "-a", "a", "--wait", "0").code, 3)

    def test_nobody_there_is_exit_5_with_the_command_that_starts_one(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as unused:
            port = unused.getsockname()[1]
        ended = self.run_main("submit", "--url", f"http://127.0.0.1:{port}", "-a", "a")
        self.assertEqual((ended.code, ended.out), (5, ""))
        self.assertIn("error[platform-unreachable]: no sandbox answers at", ended.err)
        self.assertIn(" sandbox\n", ended.err)

    def test_an_input_that_the_sandbox_refuses_is_a_usage_error(self) -> None:
        """With a number of 2,000 digits, or 64 MB, it was "what answers is not a sandbox", exit 5."""
        with mock.patch.object(exchange, "BODY_MAX_BYTES", 5000):
            for value in ("1" * 2000, '"' + "x" * 5000 + '"'):
                ended = self.submit("-a", "a", "-i", f'{{"n": {value}}}')
                self.assertEqual((ended.code, ended.out), (2, ""), ended.err)
                self.assertIn("the sandbox refuses the task: ", ended.err)

    def test_something_else_there_is_exit_5_too(self) -> None:
        for answer in ((404, b'{"message": "No static resource"}'), (200, b"<html>"), (200, b"[" * 9999), (500, b"")):
            with Server(answering(partial(_said, answer))) as server:
                ended = self.run_main("submit", "--url", server.url, "-a", "a")
            self.assertEqual((ended.code, ended.out), (5, ""), answer)
            self.assertIn("is not a sandbox", ended.err)

    def test_answers_that_no_sandbox_gives_are_exit_5_and_steer_no_terminal(self) -> None:
        """A KeyError of another server's JSON was "this is a bug", and its id went to the terminal as it came."""
        running: dict[str, Any] = {"id": "e", "status": "RUNNING", "attempts": []}
        attempts = [{"pollCount": 0, "status": "SCHEDULED"}]
        for answer, words in (
            ({"status": "ok"}, ("-a", "x")),
            ([], ("-a", "x")),
            (5, ("-a", "x")),
            (True, ()),
            ({"error": "x"}, ()),
            ([{"agentId": "x"}], ()),
            ([5], ()),
            ({"id": "a\x1b[31mX\x07"}, ("-a", "x", "--wait", "0")),
            ({"id": 5}, ("-a", "x", "--wait", "0")),
            ({"id": ""}, ("-a", "x", "--wait", "1")),
            ({"id": ".."}, ("-a", "x", "--wait", "1")),
            (running, ("-a", "x", "--wait", "0.001")),
            ({**running, "status": 5}, ("-a", "x", "--wait", "1")),
            ({**running, "status": "FAILED"}, ("-a", "x", "--wait", "1")),
            ({**running, "status": "COMPLETED"}, ("-a", "x", "--wait", "1")),
            ({**running, "attempts": attempts}, ("-a", "x", "--wait", "1")),
        ):
            said = json.dumps(answer).encode()
            with self.subTest(said), Server(answering(partial(_said, (200, said)))) as server:
                with mock.patch.object(submit, "UNPOLLED_S", 0):
                    ended = self.run_main("submit", "--url", server.url, *words)
                self.assertEqual((ended.code, ended.out), (5, ""))
                self.assertIn("is not a sandbox", ended.err)
                self.assertNotIn("\x1b", ended.err)

    def test_a_sandbox_that_ends_meanwhile_is_exit_5(self) -> None:
        def close() -> None:
            self.sandbox.engine.poll("a", wait_s=PATIENCE_S)
            self.sandbox.close()

        closing = threading.Thread(target=close)
        closing.start()
        ended = self.submit("-a", "a")
        closing.join(PATIENCE_S)
        self.assertEqual((ended.code, ended.out), (5, ""))


if __name__ == "__main__":
    unittest.main()

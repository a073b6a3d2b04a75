# SPDX-License-Identifier: Apache-2.0
"""The sandbox's page as a server sees it: its policy, what it loads, and what feeds it. How it behaves in
a browser is in ``tests/real/test_page_browser.py``."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import time
import unittest
from typing import Any

from tests import test_sandbox_server
from user_agent_sdk import pages
from user_agent_sdk.sandbox import page
from user_agent_sdk.sandbox.exchange import Request

EVIL = '</script><script>alert(1)</script><img src=x onerror="alert(2)">'


class PageCase(test_sandbox_server.ServerCase):
    def setUp(self) -> None:
        super().setUp()
        page.install(self.sandbox, [f"useragent run agent.py -c '{EVIL}'"])

    def overview(self) -> dict[str, Any]:
        status, told = self.call("GET", "/sandbox/overview")
        self.assertEqual(200, status)
        return dict(told)

    def detail(self, execution_id: str) -> dict[str, Any]:
        status, told = self.call("GET", f"/sandbox/detail/{execution_id}")
        self.assertEqual(200, status)
        return dict(told)

    def work(self, agent_id: str, status: str, **report: Any) -> None:
        [task] = self.sandbox.engine.poll(agent_id, "here")
        ids = {key: task[key] for key in ("workflowInstanceId", "taskId")}
        self.sandbox.engine.update({**ids, "status": status, "workerId": "here", **report}, 100)


class Document(PageCase):
    def setUp(self) -> None:
        super().setUp()
        self.connection.request("GET", "/")
        self.reply = self.connection.getresponse()
        self.text = self.reply.read().decode()

    def test_it_is_one_document_that_loads_nothing(self) -> None:
        self.assertEqual((200, "text/html; charset=utf-8"), (self.reply.status, self.reply.getheader("Content-Type")))
        tags = [tag for tag in re.findall(r"<[a-z][^>]*>", self.text.partition("<script>")[0]) if tag != "<style>"]
        addresses = [found for tag in tags for found in re.findall(r'(?:src|href|action|style)="?([^" >]*)', tag)]
        self.assertEqual(["data:,"], addresses)
        self.assertNotIn("url(", self.text)
        self.assertNotIn("@import", self.text)

    def test_its_policy_allows_its_own_style_and_script_alone(self) -> None:
        header = self.reply.getheader("Content-Security-Policy") or ""
        policy = dict(part.strip().split(" ", 1) for part in header.split(";"))
        for kind in ("style", "script"):
            [inner] = re.findall(f"<{kind}>(.*?)</{kind}>", self.text, re.DOTALL)
            digest = base64.b64encode(hashlib.sha256(inner.encode()).digest()).decode()
            self.assertEqual(f"'sha256-{digest}'", policy[f"{kind}-src"])
        self.assertEqual("'none'", policy["default-src"])
        self.assertEqual("'self'", policy["connect-src"])
        for name in ("base-uri", "form-action", "frame-ancestors"):
            self.assertEqual("'none'", policy[name])

    def test_it_has_no_way_to_make_markup_or_code_of_text(self) -> None:
        forbidden = r"innerHTML|outerHTML|insertAdjacent|document\.write|\beval\b|new Function|srcdoc|setAttribute"
        body, _, script = pages.read(page.__package__, "page.html")[0].partition("<script>")
        self.assertIsNone(re.search(forbidden, script))
        self.assertIsNone(re.search(r"\son[a-z]+=", body))

    def test_the_commands_are_escaped(self) -> None:
        self.assertNotIn(EVIL, self.text)
        self.assertIn("useragent run agent.py -c &#x27;&lt;/script&gt;", self.text)

    def test_it_is_neither_kept_nor_framed_nor_given_to_other_sites(self) -> None:
        self.assertEqual("no-store", self.reply.getheader("Cache-Control"))
        self.assertEqual("nosniff", self.reply.getheader("X-Content-Type-Options"))
        for path in ("/", "/sandbox/overview"):
            self.assertEqual(403, self.call("GET", path, headers={"Sec-Fetch-Site": "cross-site"})[0])
            self.assertEqual(421, self.call("GET", path, headers={"Host": "evil.example"})[0])


class Feed(PageCase):
    def test_agents_and_the_depths_of_their_queues(self) -> None:
        self.sandbox.submit("a", {})
        self.sandbox.submit("a", {})
        self.sandbox.submit("b", {}, domain="far")
        self.sandbox.engine.poll("a", "here")
        rows = [(row["agentId"], row["domain"], row["queued"], row["running"], row["workerId"])
                for row in self.overview()["agents"]]  # fmt: skip
        self.assertEqual([("a", None, 1, 1, "here"), ("b", "far", 1, 0, None)], rows)
        self.assertEqual(rows[0][0], self.call("GET", "/api/sandbox/agents")[1][0]["agentId"])

    def test_an_execution_goes_from_queued_over_running_and_a_retry_to_its_end(self) -> None:
        execution_id = self.sandbox.submit("a", {"n": 1}, retries=1, response_timeout_s=60)
        seen = []

        def look() -> None:
            [row] = self.overview()["executions"]
            self.assertEqual(execution_id, row["id"])
            seen.append((row["state"], row["attempts"], row["leaseLeft"] is not None))

        look()
        self.sandbox.engine.poll("a")
        look()
        self.ahead_s = 61
        look()
        self.work("a", "COMPLETED", outputData={"result": 5})
        look()
        expected = [("QUEUED", 1, False), ("RUNNING", 1, True), ("QUEUED", 2, False), ("COMPLETED", 2, False)]
        self.assertEqual(expected, seen)

    def test_a_row_changes_with_its_execution_and_else_only_in_what_is_left_of_the_lease(self) -> None:
        self.sandbox.submit("a", {}, response_timeout_s=60)
        self.sandbox.engine.poll("a")
        [before] = self.overview()["executions"]
        self.ahead_s = 10
        [after] = self.overview()["executions"]
        self.assertAlmostEqual(before.pop("leaseLeft") - 10, after.pop("leaseLeft"), delta=1)
        self.assertEqual(before, after)

    def test_a_detail_tells_each_attempt_with_its_logs_reason_and_output(self) -> None:
        execution_id = self.sandbox.submit("a", {"n": 1}, retries=1)
        self.work("a", "FAILED", reasonForIncompletion="no\x1b[31m", outputData={"half": 1},
                  logs=[{"log": "one\u202e\n two", "createdTime": 1}])  # fmt: skip
        self.work("a", "COMPLETED", outputData={"result": 5})
        told = self.detail(execution_id)
        self.assertEqual(("COMPLETED", '{\n  "n": 1\n}'), (told["state"], told["input"]))
        self.assertEqual('{\n  "result": 5\n}', told["output"])
        first, second = told["attempts"]
        self.assertEqual(("FAILED", "no\\x1b[31m"), (first["status"], first["reason"]))
        self.assertEqual('{\n  "half": 1\n}', first["output"])
        self.assertEqual("one\\u202e\n two", first["logs"][0]["log"])
        self.assertEqual(("COMPLETED", ""), (second["status"], second["output"]))
        self.assertEqual(first["taskId"], second["retriedTaskId"])

    def test_no_number_is_rounded_and_nothing_invisible_is_shown_as_it_is(self) -> None:
        given = {"n": 2**70, "x": 0.1, "turned": "\u202eabc", "lone": "\ud800", "tag": "\U000e0001", "ü": 1}
        told = self.detail(self.sandbox.submit("a", given))
        self.assertIn(str(2**70), told["input"])
        self.assertTrue(told["input"].replace("\n", "").isprintable())
        self.assertEqual(given, json.loads(told["input"]))
        self.assertFalse(told["cut"])

    def test_what_is_very_long_is_cut_and_says_so(self) -> None:
        told = self.detail(self.sandbox.submit("a", {"text": "x" * (page.SHOWN_CHARS + 1000)}))
        self.assertLess(len(told["input"]), page.SHOWN_CHARS + 100)
        self.assertRegex(told["input"], r"\n… and 1,\d\d\d characters more$")
        self.assertTrue(told["cut"])

    def test_an_unknown_execution_is_a_404(self) -> None:
        self.assertEqual(404, self.call("GET", "/sandbox/detail/none")[0])

    def test_two_hundred_executions_are_told_in_a_blink(self) -> None:
        """The page asks once a second, and workers share the process with it."""
        for _ in range(300):
            self.sandbox.submit("a", {"text": "x" * 1000})
        request = Request("GET", "/sandbox/overview", {}, {"host": f"127.0.0.1:{self.sandbox.port}"}, b"")
        began = time.process_time()
        reply = self.sandbox.handle(request)
        assert reply is not None
        self.assertLess(time.process_time() - began, 0.25)
        self.assertEqual(200, reply.body.count(b'"createdTime"'))
        self.assertLess(len(reply.body), 100_000)


class WithoutPage(test_sandbox_server.ServerCase):
    def test_a_sandbox_that_nobody_gave_a_page_has_none(self) -> None:
        self.assertEqual(404, self.call("GET", "/")[0])


if __name__ == "__main__":
    unittest.main()

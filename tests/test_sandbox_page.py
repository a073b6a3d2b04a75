# SPDX-License-Identifier: Apache-2.0
"""The sandbox's page as a server sees it: its policy, what it loads, and what feeds it. How it behaves in
a browser is in ``tests/real/test_page_browser.py``."""

from __future__ import annotations

import base64
import hashlib
import json
import logging
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
        self.forms: dict[str, str] = {}
        commands = [f"useragent run agent.py -c '{EVIL}'"], [f"useragent submit -a '{EVIL}'"]
        page.install(self.sandbox, *commands, self.forms)

    def overview(self, query: str = "") -> dict[str, Any]:
        status, told = self.call("GET", "/sandbox/overview" + query)
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

    def test_it_is_small_and_has_the_reports_own_style_and_script(self) -> None:
        self.assertLess(len(self.text.encode()), 40_000)
        self.assertNotIn("/*shared", self.text)
        report = pages.read("user_agent_sdk.history", "report.html")[0]
        for shared in ("--badsoft:", ".pill{", "function chips(", "function keys("):
            self.assertEqual((self.text.count(shared) > 0, report.count(shared) > 0), (True, True), shared)

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
        self.assertIn("useragent submit -a &#x27;&lt;/script&gt;", self.text)

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

    def test_rows_are_counted_by_kind_and_chosen_by_kind_text_and_place(self) -> None:
        """Of 50 executions all rows looked alike, and nothing said that five had failed."""
        for n in range(30):
            self.sandbox.submit("a", {"file": f"invoice-{n}.pdf"}, retries=0)
        for n in range(20):
            failed = {"reasonForIncompletion": f"no total in {n}\nmore of it"} if n % 4 == 0 else {}
            self.work("a", "FAILED" if failed else "COMPLETED", outputData={}, **failed)
        self.work("a", "IN_PROGRESS", callbackAfterSeconds=60)
        [running] = self.sandbox.engine.poll("a")
        told = self.overview()
        self.assertEqual(told["counts"], {"all": 30, "failed": 5, "running": 1, "waiting": 1, "queued": 8,
                                          "completed": 15, "cancelled": 0})  # fmt: skip
        self.assertEqual((told["found"], len(told["executions"])), (30, 30))
        failed_ones = self.overview("?show=failed&from=1&count=2")
        self.assertEqual((failed_ones["found"], failed_ones["from"]), (5, 1))
        self.assertEqual([one["note"] for one in failed_ones["executions"]], ["no total in 12", "no total in 8"])
        self.assertTrue(all(one["isReason"] for one in failed_ones["executions"]))
        self.assertEqual(failed_ones["latest"]["note"], "no total in 16")
        found = self.overview("?q=TOTAL+invoice-8.")
        self.assertEqual([one["note"] for one in found["executions"]], ["no total in 8"])
        [by_input] = self.overview("?q=invoice-29")["executions"]
        self.assertEqual((by_input["note"], by_input["isReason"]), ('{"file": "invoice-29.pdf"}', False))
        chosen_id = failed_ones["executions"][1]["id"]
        told = self.overview(f"?show=failed&count=0&id={chosen_id}")
        self.assertEqual((told["place"], told["chosen"]["id"], told["executions"]), (2, chosen_id, []))
        self.assertEqual(self.overview(f"?show=running&id={chosen_id}")["place"], -1)
        self.assertEqual(self.overview("?show=running")["executions"][0]["id"], running["workflowInstanceId"])

    def test_what_waits_to_be_called_again_says_for_how_long(self) -> None:
        self.sandbox.submit("a", {})
        self.work("a", "IN_PROGRESS", callbackAfterSeconds=60)
        self.ahead_s = 20
        [row] = self.overview()["executions"]
        self.assertEqual(row["state"], "WAITING")
        self.assertAlmostEqual(row["readyIn"], 40, delta=1)
        self.ahead_s = 61
        [row] = self.overview()["executions"]
        self.assertEqual((row["state"], row["readyIn"]), ("QUEUED", None))

    def test_an_execution_can_be_cancelled_whether_it_waits_or_runs(self) -> None:
        queued, running = self.sandbox.submit("a", {}), self.sandbox.submit("b", {})
        [task] = self.sandbox.engine.poll("b", "here")
        self.assertEqual(405, self.call("GET", f"/sandbox/cancel/{queued}")[0])
        for execution_id in (queued, running, running):
            self.assertEqual(200, self.call("POST", f"/sandbox/cancel/{execution_id}", {})[0])
            self.assertEqual("TERMINATED", self.detail(execution_id)["state"])
        self.assertEqual(404, self.call("POST", "/sandbox/cancel/none", {})[0])
        self.assertEqual([], self.sandbox.engine.poll("a"))
        ids = {key: task[key] for key in ("workflowInstanceId", "taskId")}
        self.sandbox.engine.update({**ids, "status": "COMPLETED", "outputData": {"late": 1}}, 10)
        self.assertEqual(("TERMINATED", "CANCELED"), (self.detail(running)["state"],
                                                      self.detail(running)["attempts"][0]["status"]))  # fmt: skip
        self.assertEqual(self.overview()["counts"]["cancelled"], 2)

    def test_no_other_site_can_cancel_anything(self) -> None:
        execution_id = self.sandbox.submit("a", {})
        for headers in ({"Sec-Fetch-Site": "cross-site"}, {"Origin": "http://evil.example"}, {"Host": "evil.example"}):
            self.assertIn(self.call("POST", f"/sandbox/cancel/{execution_id}", {}, headers=headers)[0], (403, 421))
        self.assertEqual("QUEUED", self.detail(execution_id)["state"])

    def test_the_log_of_a_running_task_is_told_as_it_is_written_and_keeps_its_levels(self) -> None:
        execution_id = self.sandbox.submit("a", {})
        [task] = self.sandbox.engine.poll("a", "here")
        log = logging.getLogger("tests.page")
        log.addHandler(logging.NullHandler())
        log.propagate = False
        with page.Listener(self.sandbox.engine, log):
            log.warning("page %d is\x1b[1m rotated", 2, extra={"task_id": task["taskId"]})
            log.warning("of no task")
        log.warning("too late", extra={"task_id": task["taskId"]})
        [line] = self.detail(execution_id)["attempts"][0]["logs"]
        self.assertEqual((line["log"], line["level"]), ("page 2 is\\x1b[1m rotated", "WARNING"))
        ids = {key: task[key] for key in ("workflowInstanceId", "taskId")}
        reported = [{"log": "page 2 is\x1b[1m rotated", "createdTime": line["createdTime"]},
                    {"log": "x", "createdTime": 1}]  # fmt: skip
        self.sandbox.engine.update({**ids, "status": "COMPLETED", "logs": reported}, 10)
        lines = self.detail(execution_id)["attempts"][0]["logs"]
        self.assertEqual([one["level"] for one in lines], ["", "WARNING"])

    def test_a_line_that_cannot_be_put_together_is_not_the_functions_problem(self) -> None:
        """A %d for a text, which plain logging forgives, failed the task under "dev --sandbox" alone."""
        execution_id = self.sandbox.submit("a", {})
        [task] = self.sandbox.engine.poll("a", "here")
        log = logging.getLogger("tests.page")
        log.propagate = False
        with page.Listener(self.sandbox.engine, log):
            log.warning("%d items", "x", extra={"task_id": task["taskId"]})
            log.warning("one", extra={"task_id": task["taskId"]})
        self.assertEqual([line["log"] for line in self.detail(execution_id)["attempts"][0]["logs"]], ["one"])

    def test_an_agents_form_begins_with_what_it_takes(self) -> None:
        self.forms["a"] = '{"path": null}'
        self.sandbox.submit("a", {})
        self.sandbox.submit("b", {})
        self.assertEqual([agent["template"] for agent in self.overview()["agents"]], ['{"path": null}', ""])

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

    def test_of_ten_thousand_executions_a_window_is_told_in_a_blink(self) -> None:
        """The page asks once a second, and workers share the process with it."""
        for _ in range(10_000):
            self.sandbox.submit("a", {"text": "x" * 100})
        query = {"q": "xxx", "from": "5000"}
        request = Request("GET", "/sandbox/overview", query, {"host": f"127.0.0.1:{self.sandbox.port}"}, b"")
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

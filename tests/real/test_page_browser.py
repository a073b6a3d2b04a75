# SPDX-License-Identifier: Apache-2.0
"""The sandbox's page in a real Chromium, driven through ChromeDriver's own protocol.

Skipped where there is no Chromium; with ``USERAGENT_REAL=1`` that is a failure.
"""

from __future__ import annotations

import time
import unittest
from typing import Any

from tests.real import WANTED
from tests.real.browser import BORDERS, BROWSER, CONTRAST, DRIVER, Chromium
from tests.support import PATIENCE_S, entered, executions
from user_agent_sdk.conductor.wire import LogLine
from user_agent_sdk.sandbox import page
from user_agent_sdk.sandbox.server import Sandbox

AGENT = "4e1c8d7a-3a52-4f0e-9d51-7f1f3a6f8e10#user-agent"
TYPE = """const [id, text] = arguments, field = document.getElementById(id);
field.value = text; field.dispatchEvent(new Event('input', {bubbles: true}));"""
SUBMIT = "document.querySelector('form button').click()"
FULL = """const box = node => node.getBoundingClientRect(), list = box(document.getElementById('rows'));
    const drawn = [...document.querySelectorAll('.row')].map(box);
    return Math.min(...drawn.map(row => row.top)) <= list.top + 1
        && Math.max(...drawn.map(row => row.bottom)) >= list.bottom - 1"""  # no part of the list is bare
FOCUSED = "return document.activeElement.className + ' ' + document.activeElement.place"


@unittest.skipUnless(WANTED, "a real browser runs only with USERAGENT_REAL=1")
class PageInBrowser(unittest.TestCase):
    browser: Chromium

    @classmethod
    def setUpClass(cls) -> None:
        if not (DRIVER and BROWSER):
            raise RuntimeError("USERAGENT_REAL=1 needs chromium and chromedriver")
        cls.browser = Chromium()
        cls.addClassCleanup(cls.browser.close)

    def setUp(self) -> None:
        self.sandbox = entered(self, Sandbox())
        self.forms: dict[str, str] = {}
        commands = ["useragent run agent.py -c credentials.json"], ["useragent submit -i input.json"]
        page.install(self.sandbox, *commands, self.forms)
        self.browser.open("about:blank")  # the last test's page may still ask for its sandbox
        self.browser.errors()
        self.browser.resize(1280, 900, "light")
        self.browser.open(self.sandbox.origin + "/")

    def work(self, agent_id: str, status: str, **report: Any) -> None:
        [task] = self.sandbox.engine.poll(agent_id, "rpa-07")
        ids = {key: task[key] for key in ("workflowInstanceId", "taskId")}
        self.sandbox.engine.update({**ids, "status": status, "workerId": "rpa-07", **report}, 100)

    def submit(self, agent_id: str, given: str) -> None:
        self.browser.run(TYPE, "agent", agent_id)
        self.browser.run(TYPE, "input", given)
        self.browser.run(SUBMIT)

    def press(self, inside: str, text: str) -> None:
        self.browser.run("""[...document.querySelectorAll(arguments[0] + ' button')]
            .find(button => button.textContent === arguments[1]).click()""", inside, text)  # fmt: skip

    def shows(self, *texts: str) -> None:
        """Without a reload, and within the time that a person is ready to wait."""
        for text in texts:
            self.browser.until("return document.body.innerText.includes(arguments[0])", text)

    def test_a_submitted_task_is_followed_to_its_end_without_a_reload(self) -> None:
        self.shows("No worker has polled yet", "useragent run agent.py -c credentials.json")
        self.shows("Nothing was submitted", "useragent submit -i")
        self.submit("invoices", '{"file": "a.csv", "n": 12345678901234567890}')
        self.shows("queued", "12345678901234567890")
        [task] = self.sandbox.engine.poll("invoices", "rpa-07")
        self.assertEqual({"file": "a.csv", "n": 12345678901234567890}, task["inputData"])
        self.shows("running", "lease: 59 m", "rpa-07 is polling")
        ids = {key: task[key] for key in ("workflowInstanceId", "taskId")}
        self.sandbox.engine.update({**ids, "status": "FAILED", "reasonForIncompletion": "the portal is closed",
                                    "logs": [{"log": "opening the portal", "createdTime": 1}]}, 100)  # fmt: skip
        self.shows("the portal is closed", "opening the portal", "Attempt 2")
        self.work("invoices", "COMPLETED", outputData={"total": 99})
        self.shows("completed", '"total": 99')
        self.assertEqual([], self.browser.errors())

    def test_what_is_no_json_object_is_said_and_not_sent(self) -> None:
        for given, said in (("{num: 1}", "Not JSON"), ("[1]", "must be a JSON object"), ("", "Not JSON")):
            self.submit("a", given)
            self.browser.until("return document.getElementById('wrong').textContent.includes(arguments[0])", said)
        self.assertEqual([], executions(self.sandbox.engine))

    def test_nothing_that_a_task_holds_runs_or_loads(self) -> None:
        evil = "<img src=x onerror='window.hit=1'><script>window.hit=1</script>"
        execution_id = self.sandbox.submit(evil, {evil: evil}, domain=evil, retries=1)
        logs = [{"log": evil, "createdTime": 1}]
        [task] = self.sandbox.engine.poll(evil, evil, evil)
        ids = {key: task[key] for key in ("workflowInstanceId", "taskId")}
        self.sandbox.engine.update({**ids, "status": "FAILED", "workerId": evil, "logs": logs,
                                    "outputData": {evil: evil}, "reasonForIncompletion": evil}, 100)  # fmt: skip
        self.browser.run("location.hash = arguments[0]", execution_id)
        self.shows("Attempt 1", evil)
        self.assertIsNone(self.browser.run("return window.hit"))
        self.assertEqual(1, self.browser.run("return document.scripts.length"))
        loaded = self.browser.run("return performance.getEntriesByType('resource').map(entry => entry.name)")
        self.assertEqual([], [name for name in loaded if not name.startswith(self.sandbox.origin + "/sandbox/")])
        self.assertEqual([], self.browser.errors())

    def test_its_policy_stops_a_script_that_somebody_put_in(self) -> None:
        """So the test above would also hold if the page once forgot to escape."""
        self.browser.run("document.body.insertAdjacentHTML('beforeend', arguments[0])",
                         "<img src='data:,' onerror='window.hit=1'>")  # fmt: skip
        self.browser.run("const made = document.createElement('script'); made.text = 'window.hit=1';"
                         "document.body.append(made)")  # fmt: skip
        self.assertIsNone(self.browser.run("return window.hit"))
        self.assertIn("Content Security Policy", " ".join(self.browser.errors()))

    def test_an_address_takes_no_task_and_reaches_no_other_path(self) -> None:
        self.sandbox.submit("a", {})
        self.browser.open(self.sandbox.origin + "/#../../api/tasks/poll/a")
        self.shows("queued")
        self.assertEqual(1, self.sandbox.engine.agents()[0]["queued"])
        self.assertTrue(self.browser.run("return document.getElementById('detail').hidden"))

    def fill(self) -> dict[str, str]:
        """Fifty executions of all kinds; the ids of one of each."""
        engine, known = self.sandbox.engine, {}
        for n in range(50):
            agent_id, given = AGENT if n % 3 else "invoices", {"file": f"C:/bills/invoice-{n:04}.pdf", "n": n}
            known[f"{n}"] = self.sandbox.submit(agent_id, given, retries=1 if n == 7 else 0)
            if n < 40 and n not in (5, 7):
                logs = [{"log": "read 3 lines", "createdTime": 1_700_000_000_000}]
                self.work(agent_id, "COMPLETED", outputData={"total": n}, logs=logs)
            elif n in (5, 7):
                self.work(agent_id, "FAILED", logs=[{"log": "opening", "createdTime": 1}],
                          reasonForIncompletion=f"TimeoutError: the portal is closed ({n})")  # fmt: skip
            if n == 7:
                self.work(agent_id, "FAILED", reasonForIncompletion="TimeoutError: still closed")
        self.work("invoices", "IN_PROGRESS", callbackAfterSeconds=580)
        [running] = engine.poll(AGENT, "rpa-07")
        engine.heard(running["taskId"], "WARNING", LogLine("page 2 is rotated", 1_700_000_000_000))
        engine.cancel(known["49"])
        ids = {"completed": "3", "failed": "5", "retried": "7", "waiting": "42", "cancelled": "49"}
        chosen = {name: known[number] for name, number in ids.items()}
        return {**chosen, "running": running["workflowInstanceId"], "task": running["taskId"]}

    def test_the_reason_of_what_failed_is_in_the_first_screen_among_fifty(self) -> None:
        """All rows looked alike, and the reason stood below the fold of an opened one."""
        self.fill()
        self.shows("2 failed", "Last failure")
        for width, height in ((1280, 900), (390, 844)):
            self.browser.resize(width, height, "light")
            self.browser.until("return innerWidth === arguments[0]", width)
            place = self.browser.run("""const box = document.getElementById('latest').getBoundingClientRect();
                return [document.getElementById('latest').textContent, box.bottom]""")
            self.assertIn("TimeoutError: still closed", place[0])
            self.assertLess(place[1], height / 2)
            is_whole = self.browser.run("""const box = document.getElementById('latest');
                return box.scrollWidth <= box.clientWidth && box.scrollHeight <= box.clientHeight""")
            self.assertTrue(is_whole, f"at {width} the reason is cut")  # on a phone it was, after its first word

    def test_counts_filter_and_a_search_finds(self) -> None:
        self.fill()
        self.shows("50 all", "2 failed", "1 running", "1 waiting", "1 cancelled", "called again in 9 m")
        self.press(".chips", "2 failed")
        self.browser.until("return document.querySelectorAll('.row').length === 2")
        self.assertEqual(["false", "true"], self.browser.run("""return [...document.querySelectorAll('.chips button')]
            .slice(0, 2).map(chip => chip.ariaPressed)"""))
        self.browser.run(TYPE, "find", "closed (5)")
        self.browser.until("return document.querySelectorAll('.row').length === 1")
        self.browser.run(TYPE, "find", "nowhere")
        self.shows("None of them fits.")

    def test_an_address_opens_its_execution_and_brings_its_row_into_sight(self) -> None:
        known = self.fill()
        self.browser.open(self.sandbox.origin + "/#" + known["retried"])
        self.shows("Attempt 2", "Attempt 1")
        inside = """const row = document.querySelector('.row.on'), list = document.getElementById('rows');
            if (!row) return false;
            const [a, b] = [row.getBoundingClientRect(), list.getBoundingClientRect()];
            return a.top >= b.top - 1 && a.bottom <= b.bottom + 1"""
        self.browser.until(inside)
        self.browser.resize(390, 844, "light")  # rows as high as two: the chosen one was far below
        self.browser.until("return innerWidth === 390")
        self.browser.until(inside)
        first = "return document.querySelector('#detail .error').textContent"
        self.assertEqual("TimeoutError: still closed", self.browser.run(first))
        told = self.browser.run("return document.getElementById('detail').textContent")
        self.assertRegex(told, r"Submitted\d{4}-\d\d-\d\d \d\d:\d\d:\d\dEnded")  # as in the rows, not "4:09 PM"
        self.assertEqual([False], self.browser.run("""return [...document.querySelectorAll('#detail details')]
            .map(old => old.open)"""))  # fmt: skip

    def test_it_is_used_by_the_keyboard_alone(self) -> None:
        self.fill()
        self.shows("50 all", "2 failed")
        self.browser.run("document.body.focus()")
        self.browser.key("/")
        self.assertEqual("find", self.browser.run("return document.activeElement.id"))
        self.browser.key("ArrowDown")
        self.assertEqual("row 0", self.browser.run(FOCUSED))
        self.browser.key("ArrowDown")
        self.assertEqual("row 1", self.browser.run(FOCUSED))
        self.browser.key("End")
        self.browser.until(FOCUSED.replace("place", "place === 'row 49'"))
        self.browser.key("Enter")
        self.browser.until("return !document.getElementById('detail').hidden")
        self.browser.key("Escape")
        self.browser.until("return document.getElementById('detail').hidden")

    def test_a_screen_reader_is_told_what_everything_is_in_the_order_of_the_page(self) -> None:
        known = self.fill()
        self.browser.run("location.hash = arguments[0]", known["failed"])
        self.shows("Attempt 1", "closed (5)")
        told = self.browser.tree()
        wanted = {("region", "Executions"), ("region", "The chosen execution"), ("region", "Agents"), ("status", ""),
                  ("group", "Show only"), ("button", "2 failed"), ("listbox", "Executions"), ("button", "Submit"),
                  ("searchbox", "Search agents, ids, inputs and reasons"), ("textbox", "Input, a JSON object"),
                  ("button", "Replay\u2026"), ("button", "Close"), ("columnheader", "Queued")}  # fmt: skip
        self.assertEqual(wanted - set(told), set())
        headings = [name for role, name in told if role == "heading"]
        self.assertEqual(headings, ["Sandbox", "Executions", AGENT, "Input", "Attempt 1", "Log", "Agents"])
        walked = self.browser.run("""return [...document.querySelectorAll('*')].filter(node => node.tabIndex === 0
            && node.offsetParent).map(node => node.id || node.className || node.tagName)""")
        order = [walked.index(name) for name in ("all", "find", "latest", "row on", "agent", "input", "main")]
        self.assertEqual(order, sorted(order), walked)  # Tab goes where the eye goes; of the rows it stops at one
        self.assertEqual([name for name in walked if name.startswith("row")], ["row on"])
        rows = [name for role, name in told if role == "option"]
        self.assertTrue(any("failed" in name and "closed (5)" in name for name in rows), rows)
        self.assertFalse([pair for pair in told if pair[0] in ("button", "textbox", "link") and not pair[1]])
        heard = self.browser.run("return document.getElementById('said').textContent")
        self.assertIn(f"{AGENT} failed: TimeoutError: the portal is closed (5)", heard)

    def test_of_ten_thousand_it_holds_a_window_and_scrolls_without_a_stutter(self) -> None:
        for n in range(10_000):
            self.sandbox.submit("invoices", {"n": n})
        self.shows("10,000 all")
        began = time.monotonic()
        for share in (0.5, 0.9, 1.0, 0.1):
            self.browser.run("""const list = document.getElementById('rows');
                list.scrollTop = list.scrollHeight * arguments[0]""", share)  # fmt: skip
            self.browser.until("""const list = document.getElementById('rows').getBoundingClientRect();
                const middle = document.elementFromPoint(list.left + 300, list.top + list.height / 2);
                return middle.closest('.row') !== null""")  # fmt: skip
        self.assertLess(time.monotonic() - began, PATIENCE_S / 2)
        self.assertLess(self.browser.run("return document.querySelectorAll('.row').length"), 100)
        self.assertEqual("10000", self.browser.run("return document.querySelector('.row').ariaSetSize"))
        self.assertEqual([], self.browser.errors())

    def test_what_waits_can_be_cancelled(self) -> None:
        execution_id = self.sandbox.submit("invoices", {})
        self.browser.run("location.hash = arguments[0]", execution_id)
        self.shows("Cancel")
        self.press("#detail", "Cancel")
        self.shows("cancelled by hand")
        colours = """return ['#detail>.error', '#latest']
            .map(one => getComputedStyle(document.querySelector(one)).color)"""
        self.assertEqual(2, len({*self.browser.run(colours)}), "what somebody cancelled is no failure")
        self.assertEqual("TERMINATED", self.sandbox.wait(execution_id, 0).status)

    def test_an_earlier_input_can_be_edited_and_sent_again(self) -> None:
        execution_id = self.sandbox.submit("a", {"text": "Müller\u202e", "n": 2**70}, domain="far")
        self.browser.run("location.hash = arguments[0]", execution_id)
        self.shows("Replay")
        self.press("#detail", "Replay\u2026")
        self.browser.run("""const field = document.getElementById('input');
            field.value = field.value.replace('Müll', 'Mill')""")
        self.browser.run(SUBMIT)
        self.browser.until("return document.querySelectorAll('.row').length === 2")
        again, first = executions(self.sandbox.engine)
        self.assertEqual((first.agent_id, {**first.input, "text": "Miller\u202e"}), (again.agent_id, again.input))
        self.assertEqual(again.domain, "far")
        self.browser.run(TYPE, "agent", "another")
        self.browser.run(SUBMIT)
        self.browser.until("return document.querySelectorAll('.row').length === 3")
        self.assertIsNone(executions(self.sandbox.engine)[0].domain)

    def test_the_form_begins_with_what_the_agent_takes_until_somebody_types(self) -> None:
        self.forms["invoices"] = '{"path": null}'
        self.sandbox.engine.poll("invoices", "here")
        self.browser.until("return document.getElementById('input').value === arguments[0]", '{"path": null}')
        self.browser.run(TYPE, "input", '{"path": "mine"}')
        self.browser.run(TYPE, "agent", "other")
        self.browser.run(TYPE, "agent", "invoices")
        self.assertEqual('{"path": "mine"}', self.browser.run("return document.getElementById('input').value"))

    def test_the_log_of_a_running_task_grows_while_it_is_read(self) -> None:
        known = self.fill()
        self.browser.run("location.hash = arguments[0]", known["running"])
        self.shows("WARNING page 2 is rotated")
        self.browser.run("document.querySelector('#detail .title').marked = true")
        self.sandbox.engine.heard(known["task"], "INFO", LogLine("page 3 is read", 1_700_000_000_000))
        self.shows("page 3 is read")
        self.assertTrue(self.browser.run("return document.querySelector('#detail .title').marked"))

    def test_what_is_called_again_says_when_where_it_is_opened_too(self) -> None:
        """Its attempt was "queued", which is no answer to why nothing happens."""
        known = self.fill()
        self.browser.run("location.hash = arguments[0]", known["waiting"])
        told = """return document.querySelector('#detail .attempt .title').textContent"""
        self.browser.until(told.replace("return ", "return /^Attempt 1waitingcalled again in 9 m/.test(") + ")")

    def test_it_says_that_the_sandbox_is_gone(self) -> None:
        self.shows("live")
        self.sandbox.close()
        self.shows("the sandbox does not answer")

    def test_light_or_dark_wide_or_narrow_everything_can_be_read(self) -> None:
        """And it is kept as pictures, for those who look."""
        self.shows("Nothing was submitted")
        self.is_readable("empty")
        known = self.fill()
        for name in ("list", "failed", "retried", "running", "waiting", "cancelled", "completed"):
            self.browser.run("location.hash = arguments[0]", known.get(name, ""))
            self.shows("50 all", *(["Attempt 1"] if name in known else []))
            self.is_readable(name)
        for name, width in (("opened", 390), ("opened", 1280)):  # as somebody finds it who has just come by its address
            self.browser.open("about:blank")
            self.browser.resize(width, 900, "light")
            self.browser.open(f"{self.sandbox.origin}/#{known['failed']}")
            self.shows("Attempt 1")
            self.assertEqual(self.browser.run("return document.getElementById('fold').open"), width > 960)
            reason = "return document.querySelector('#detail>.error').getBoundingClientRect().bottom"
            self.assertLess(self.browser.run(reason), 900)
            self.browser.picture(f"page-{name}-{width}-light")
        self.assertEqual([], self.browser.errors())

    def is_readable(self, name: str) -> None:
        for scheme in ("light", "dark"):
            for width, height in ((320, 640), (390, 844), (800, 900), (1280, 900), (2560, 1300)):
                self.browser.resize(width, height, scheme)
                self.browser.until("return innerWidth === arguments[0]", width)
                with self.subTest(name=name, scheme=scheme, width=width):
                    for script, least in ((CONTRAST, 4.5), (BORDERS, 3.0)):
                        ratio, text = self.browser.run(script)
                        self.assertGreaterEqual(ratio, least, text)
                    self.assertLessEqual(self.browser.run("return document.documentElement.scrollWidth"), width)
                    if name != "empty":
                        self.browser.until(FULL)
                    if name == "list" and width >= 1280:  # it was higher than the window, by a pixel
                        high = self.browser.run("return document.documentElement.scrollHeight")
                        self.assertLessEqual(high, height)
                if width in (390, 1280, 2560):
                    self.browser.picture(f"page-{name}-{width}-{scheme}")


if __name__ == "__main__":
    unittest.main()

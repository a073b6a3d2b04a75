# SPDX-License-Identifier: Apache-2.0
"""The sandbox's page in a real Chromium, driven through ChromeDriver's own protocol.

Skipped where there is no Chromium; with ``USERAGENT_REAL=1`` that is a failure.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import shutil
import subprocess
import tempfile
import time
import unittest
from typing import Any

from tests.real import WANTED
from tests.support import PATIENCE_S
from user_agent_sdk.sandbox import page
from user_agent_sdk.sandbox.server import Sandbox

DRIVER, BROWSER = shutil.which("chromedriver"), shutil.which("chromium") or shutil.which("google-chrome")
START_S = 60.0
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
         "--disable-background-networking", "--disable-component-update", "--window-size=1280,1000")  # fmt: skip


class Chromium:
    """One browser with one window; a context manager."""

    def __init__(self) -> None:
        self._profile = tempfile.mkdtemp(prefix="useragent-chromium-")
        assert DRIVER is not None and BROWSER is not None
        self._driver = subprocess.Popen([DRIVER, "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self._session = ""
        try:
            self._connection = http.client.HTTPConnection("127.0.0.1", self._port(), timeout=START_S)
            options = {"binary": BROWSER, "args": [*FLAGS, f"--user-data-dir={self._profile}"]}
            wanted = {"browserName": "chrome", "goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
            made = self._call("POST", "/session", {"capabilities": {"alwaysMatch": wanted}})
            self._session = f"/session/{made['sessionId']}"
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        with contextlib.suppress(OSError, http.client.HTTPException, RuntimeError):
            if self._session:
                self._call("DELETE", self._session)
        self._driver.terminate()
        self._driver.communicate(timeout=PATIENCE_S)
        shutil.rmtree(self._profile, ignore_errors=True)

    def _port(self) -> int:
        assert self._driver.stdout is not None
        for line in self._driver.stdout:
            if b"started successfully on port" in line:
                return int(line.split()[-1].rstrip(b"."))
        raise RuntimeError("chromedriver did not start")

    def _call(self, method: str, path: str, body: Any = None) -> Any:
        content = None if method != "POST" else json.dumps(body or {})
        self._connection.request(method, path, content, {"Content-Type": "application/json"})
        reply = self._connection.getresponse()
        value = json.loads(reply.read())["value"]
        if reply.status != 200:
            raise RuntimeError(f"{value['error']}: {value['message'].splitlines()[0]}")
        return value

    def open(self, url: str) -> None:
        self._call("POST", self._session + "/url", {"url": url})

    def run(self, script: str, *args: Any) -> Any:
        """The value that a JavaScript function body returns."""
        return self._call("POST", self._session + "/execute/sync", {"script": script, "args": args})

    def cdp(self, command: str, **params: Any) -> Any:
        return self._call("POST", self._session + "/goog/cdp/execute", {"cmd": command, "params": params})

    def errors(self) -> list[str]:
        """What the console has said since the last call: failed requests, refused scripts, exceptions."""
        return [line["message"] for line in self._call("POST", self._session + "/se/log", {"type": "browser"})]

    def until(self, script: str, *args: Any) -> Any:
        """The value of ``script`` once it is true; fails the test when it is not in time."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            # One frame of the page's own between two looks.
            self._call("POST", self._session + "/execute/async", {"script": "setTimeout(arguments[0], 30)", "args": []})
            value = self.run(script, *args)
            if value:
                return value
        raise AssertionError(f"not in {PATIENCE_S} s: {script}; the page says: {self.run(TEXT)[:2000]}")


AGENT = "4e1c8d7a-3a52-4f0e-9d51-7f1f3a6f8e10#user-agent"
TEXT = "return document.body.innerText"
TYPE = """const [id, text] = arguments, field = document.getElementById(id);
field.value = text; field.dispatchEvent(new Event('input', {bubbles: true}));"""
SUBMIT = "document.querySelector('form button').click()"
# The lowest contrast of any text with what is behind it, as WCAG counts it, and which text that is.
CONTRAST = """
const channels = color => color.match(/[\\d.]+/g).map(Number);
const light = color => channels(color).slice(0, 3).map(c => c / 255)
  .map(c => c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
  .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
const behind = node => {
  for (; node; node = node.parentElement) {
    const color = getComputedStyle(node).backgroundColor, alpha = channels(color)[3];
    if (alpha === undefined || alpha > 0) return color;
  }
  return 'rgb(255, 255, 255)';
};
return [...document.querySelectorAll('main *')]
  .filter(node => node.offsetParent && [...node.childNodes].some(child => child.nodeType === 3 && child.data.trim()))
  .map(node => [light(getComputedStyle(node).color), light(behind(node)), node])
  .map(([a, b, node]) => [(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), node.className + ': ' + node.textContent])
  .sort((one, other) => one[0] - other[0])[0];
"""


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
        self.sandbox = Sandbox()
        self.sandbox.__enter__()
        self.addCleanup(self.sandbox.close)
        page.install(self.sandbox, ["useragent run agent.py -c credentials.json"])
        self.browser.errors()
        self.browser.open(self.sandbox.origin + "/")

    def work(self, agent_id: str, status: str, **report: Any) -> None:
        [task] = self.sandbox.engine.poll(agent_id, "rpa-07")
        ids = {key: task[key] for key in ("workflowInstanceId", "taskId")}
        self.sandbox.engine.update({**ids, "status": status, "workerId": "rpa-07", **report}, 100)

    def submit(self, agent_id: str, given: str) -> None:
        self.browser.run(TYPE, "agent", agent_id)
        self.browser.run(TYPE, "input", given)
        self.browser.run(SUBMIT)

    def shows(self, *texts: str) -> None:
        """Without a reload, and within the time that a person is ready to wait."""
        for text in texts:
            self.browser.until("return document.body.innerText.includes(arguments[0])", text)

    def test_a_submitted_task_is_followed_to_its_end_without_a_reload(self) -> None:
        self.shows("No worker has polled yet", "useragent run agent.py -c credentials.json", "Nothing was submitted")
        self.submit("invoices", '{"file": "a.csv", "n": 12345678901234567890}')
        self.shows("queued", "12345678901234567890", "not yet")
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
        self.assertEqual([], self.sandbox.engine.executions())

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

    def test_an_earlier_input_can_be_sent_again(self) -> None:
        execution_id = self.sandbox.submit("a", {"text": "Müller\u202e", "n": 2**70})
        self.browser.run("location.hash = arguments[0]", execution_id)
        self.shows("Submit again")
        self.browser.run("document.querySelector('#detail button').click()")
        self.browser.run(SUBMIT)
        self.browser.until("return document.querySelectorAll('.row').length === 2")
        again, first = self.sandbox.engine.executions()
        self.assertEqual((first.agent_id, first.input), (again.agent_id, again.input))

    def test_it_says_that_the_sandbox_is_gone(self) -> None:
        self.shows("live")
        self.sandbox.close()
        self.shows("the sandbox does not answer")

    def test_light_or_dark_wide_or_narrow_everything_can_be_read(self) -> None:
        for status in ("COMPLETED", "FAILED_WITH_TERMINAL_ERROR", "FAILED", "CANCELED"):
            shown = self.sandbox.submit(AGENT, {"a": [1, "b", None]}, retries=0)
            self.work(AGENT, status, reasonForIncompletion="x" * 300,
                      logs=[{"log": "y" * 300, "createdTime": 1}])  # fmt: skip
        self.sandbox.submit("b", {})
        self.sandbox.submit("c", {})
        self.sandbox.engine.poll("c")
        self.browser.run("location.hash = arguments[0]", shown)
        self.shows("Attempt 1", "running", "queued", "canceled")
        for scheme in ("light", "dark"):
            self.browser.cdp("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
            for width in (400, 800, 1300):
                self.browser.cdp("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1,
                                 mobile=False)  # fmt: skip
                with self.subTest(scheme=scheme, width=width):
                    ratio, text = self.browser.run(CONTRAST)
                    self.assertGreaterEqual(ratio, 4.5, text)
                    self.assertLessEqual(self.browser.run("return document.documentElement.scrollWidth"), width)


if __name__ == "__main__":
    unittest.main()

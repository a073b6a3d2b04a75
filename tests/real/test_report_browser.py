# SPDX-License-Identifier: Apache-2.0
"""The report in a real browser: nothing that was stored runs there, and people can use it.

Debian's Chromium (package ``chromium``). A page that runs a script says so in its title.
"""

from __future__ import annotations

import html
import io
import os
import re
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

from tests.historybox import MARKUP, NOON_S, HistoryTest, execution
from tests.real.browser import BORDERS, CONTRAST, Chromium
from user_agent_sdk.history import report

WANTED = os.environ.get("USERAGENT_REAL") == "1"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-component-update",
    "--disable-background-networking", "--disable-sync", "--virtual-time-budget=3000", "--dump-dom",
)  # fmt: skip
POLICY = re.compile(r'<meta http-equiv="Content-Security-Policy"[^>]*>')


@unittest.skipUnless(WANTED, "a real browser runs only with USERAGENT_REAL=1")
class ReportInBrowserTest(HistoryTest):
    def opened(self, page: str, fragment: str = "") -> str:
        """The document as it stands when its scripts have run."""
        self.assertIsNotNone(CHROMIUM, "this test needs Debian's package chromium")
        path = self.folder / "page.html"
        path.write_text(page, "utf-8")
        with tempfile.TemporaryDirectory() as profile:
            command = [str(CHROMIUM), *FLAGS, f"--user-data-dir={profile}", path.as_uri() + fragment]
            result = subprocess.run(command, capture_output=True, timeout=120, check=True)
        return result.stdout.decode("utf-8")

    def title(self, dom: str) -> str:
        found = re.search(r"<title>(.*?)</title>", dom)
        return found[1] if found else ""

    def report(self) -> str:
        self.seed_hostile()
        stream = io.StringIO()
        report.write_report(self.found(), stream, MARKUP, MARKUP, None)
        return stream.getvalue()

    def test_what_was_stored_would_run_if_it_were_not_escaped(self) -> None:
        """Without this the other tests could not fail."""
        self.assertEqual(self.title(self.opened(f"<title>calm</title><p>{MARKUP[9:]}</p>")), "HIT")
        raw = POLICY.sub("", html.unescape(self.report()))
        self.assertEqual(self.title(self.opened(raw)), "HIT")

    def test_nothing_that_was_stored_runs(self) -> None:
        page = self.report()
        self.assertIn("Content-Security-Policy", page)
        for name, text in (("as it is", page), ("without its policy", POLICY.sub("", page))):
            with self.subTest(name):
                dom = self.opened(text)
                self.assertEqual(self.title(dom), "Execution report")
                self.assertEqual((dom.count("<script"), dom.count("<img")), (1, 0))
                self.assertIn("&lt;script&gt;document.title='HIT'&lt;/script&gt;", dom)

    def test_the_policy_stops_a_script_even_unescaped(self) -> None:
        self.assertEqual(
            self.title(self.opened(self.report().replace("</main>", f"{MARKUP[9:]}</main>"))), "Execution report"
        )

    def test_its_own_script_runs_and_its_search_appears(self) -> None:
        dom = self.opened(self.report(), "#e4")
        self.assertRegex(dom, r">8 all<")
        self.assertNotRegex(dom, r'id="find"[^>]* hidden')
        self.assertRegex(dom, r'<details[^>]*id="e4"[^>]* open=""')

    def test_without_scripts_every_row_still_opens(self) -> None:
        page = re.sub(r"<script>.*?</script>", "", self.report(), flags=re.DOTALL)
        dom = self.opened(page)
        self.assertEqual(dom.count("<details"), 8)
        self.assertRegex(dom, r'id="find"[^>]* hidden')

    def test_light_or_dark_wide_or_narrow_everything_can_be_read_and_reached(self) -> None:
        """And it is kept as pictures, for those who look."""
        for n in range(30):
            reason = f"TimeoutError: no answer in {n} s"
            failed = {"status": "FAILED", "reason_for_incompletion": reason} if n % 9 == 0 else {}
            given = {"file": f"C:/bills/invoice-{n}.pdf", "none": None, "n": n}
            more = {"started_s": NOON_S + 60 * n, "logs": ["read"], "agent_id": "x" * 50, **failed}
            self.record(execution(given, {"n": n}, **more))
        path = self.folder / "page.html"
        with path.open("w", encoding="utf-8") as stream:
            report.write_report(self.found(), stream, "history.db", "all executions", None)
        browser = Chromium()
        self.addCleanup(browser.close)
        browser.open(path.as_uri() + "#e28")
        self.assertTrue(browser.run("return document.getElementById('e28').open"))
        for scheme in ("light", "dark"):
            for width, height in ((320, 640), (390, 844), (1280, 900), (2560, 1300)):
                browser.resize(width, height, scheme)
                browser.until("return innerWidth === arguments[0]", width)
                with self.subTest(scheme=scheme, width=width):
                    for script, least in ((CONTRAST, 4.5), (BORDERS, 3.0)):
                        ratio, text = browser.run(script)
                        self.assertGreaterEqual(ratio, least, text)
                    self.assertLessEqual(browser.run("return document.documentElement.scrollWidth"), width)
                for part, script in (("top", "body"), ("rows", "details[open]")):
                    browser.run("document.querySelector(arguments[0]).scrollIntoView()", script)
                    browser.picture(f"report-{part}-{width}-{scheme}")
        browser.run("document.body.focus()")
        browser.key("/")
        browser.key("ArrowDown")
        self.assertEqual("e30", browser.run("return document.activeElement.parentElement.id"))
        browser.key("Enter")
        self.assertTrue(browser.run("return document.getElementById('e30').open"))
        browser.run("[...document.querySelectorAll('.chips button')].find(b => b.textContent === '4 failed').click()")
        self.assertEqual(4, browser.run("return document.querySelectorAll('.row:not([hidden])').length"))
        told = browser.tree()
        wanted = {("searchbox", "Search in everything"), ("group", "Show only"), ("region", "By agent"),
                  ("image", "Executions by duration"), ("button", "4 failed"), ("columnheader", "Median")}  # fmt: skip
        self.assertEqual(wanted - set(told), set())
        self.assertEqual([], browser.errors())

    def test_it_prints(self) -> None:
        self.assertIsNotNone(CHROMIUM)
        page, printed = self.folder / "page.html", self.folder / "page.pdf"
        page.write_text(self.report(), "utf-8")
        with tempfile.TemporaryDirectory() as profile:
            flags = [*FLAGS[:-1], f"--user-data-dir={profile}", f"--print-to-pdf={printed}"]
            subprocess.run([str(CHROMIUM), *flags, page.as_uri()], capture_output=True, timeout=120, check=True)
        self.assertTrue(Path(printed).read_bytes().startswith(b"%PDF"))


if __name__ == "__main__":
    unittest.main()

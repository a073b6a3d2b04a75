# SPDX-License-Identifier: Apache-2.0
"""A real Chromium, driven through ChromeDriver's own protocol, and what is asked of every page in it."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.support import PATIENCE_S

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
        self._connection.close()
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

    def resize(self, width: int, height: int, scheme: str) -> None:
        """A window of that size, light or dark."""
        self.cdp("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self.cdp("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def picture(self, name: str) -> None:
        """Keep what the window shows as a PNG in the folder ``USERAGENT_PICTURES``, where that is set."""
        folder = os.environ.get("USERAGENT_PICTURES")
        if folder:
            Path(folder).mkdir(parents=True, exist_ok=True)
            shown = self.cdp("Page.captureScreenshot", format="png")["data"]
            (Path(folder) / f"{name}.png").write_bytes(base64.b64decode(shown))

    def tree(self) -> list[tuple[str, str]]:
        """The accessibility tree as a screen reader is given it: (role, name) in its order."""
        self.cdp("Accessibility.enable")
        nodes = self.cdp("Accessibility.getFullAXTree")["nodes"]
        said = [(node["role"]["value"], node.get("name", {}).get("value", "")) for node in nodes if not node["ignored"]]
        return [pair for pair in said if pair[0] not in ("InlineTextBox", "StaticText", "generic", "none")]

    def key(self, name: str) -> None:
        """Press a key and let it go."""
        text = {"Enter": "\r", "/": "/"}.get(name)
        more = {"text": text} if text else {}
        codes = {"Enter": 13, "ArrowDown": 40, "ArrowUp": 38, "End": 35, "Home": 36, "Escape": 27}
        self.cdp("Input.dispatchKeyEvent", type="keyDown", key=name, windowsVirtualKeyCode=codes.get(name, 0), **more)
        self.cdp("Input.dispatchKeyEvent", type="keyUp", key=name, windowsVirtualKeyCode=codes.get(name, 0))


TEXT = "return document.body.innerText"
_COLOURS = """
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
const seen = (selector, pair) => [...document.querySelectorAll(selector)]
  .filter(node => node.offsetParent && pair(node))
  .map(node => [...pair(node).map(light), node])
  .map(([a, b, node]) => [(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), node.className + ': ' + node.textContent])
  .sort((one, other) => one[0] - other[0])[0];
"""
# The lowest contrast of any text with what is behind it, as WCAG counts it, and which text that is.
CONTRAST = _COLOURS + """
return seen('main *', node => [...node.childNodes].some(child => child.nodeType === 3 && child.data.trim())
  && [getComputedStyle(node).color, behind(node)]);
"""
# The same of the borders of what can be typed into or pressed, or of its own ground where that is no card's.
BORDERS = _COLOURS + """
return seen('input, textarea, button', node => [getComputedStyle(node).borderTopColor, behind(node.parentElement)]);
"""

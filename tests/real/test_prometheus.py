# SPDX-License-Identifier: Apache-2.0
"""A real Prometheus beside two workers: each sample alert fires on its own trouble, and resolves after it.

The rules are the ones in examples/service, with their minutes made seconds.
"""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import threading
import unittest
import urllib.request
from pathlib import Path
from typing import Any

from tests.real import WANTED
from tests.real.worker import ROOT, Worker
from tests.support import entered
from tests.workerbox import PASS, Box
from user_agent_sdk.sandbox.exchange import Reply

SERVICE = ROOT / "examples" / "service"
PATIENCE_S = 90.0
SCRIPT = """
import pathlib
import user_agent_sdk
from user_agent_sdk import NonRetryableException, user_agent
from user_agent_sdk.worker.keeping import delivery

delivery.REFUSED_AGAIN_S = delivery.REFUSED_FOR_S = 0.2

@user_agent(agent_id="quick", workers=2)
def quick(fails=False):
    if fails:
        raise NonRetryableException("as asked")

@user_agent(agent_id="slow", timeout_s={timeout_s})
def slow(logger):
    logger.info("waits")
    while not pathlib.Path("go").exists():
        __import__("threading").Event().wait(0.1)
"""


def in_seconds(rules: str) -> str:
    """The sample rules for a test: what is over after minutes there is over after seconds here."""
    rules = re.sub(r"for: \d+m", "for: 1s", rules.replace("[10m]", "[15s]"))
    return rules.replace("> 120", "> 4").replace("oldest_undelivered_seconds > 60", "oldest_undelivered_seconds > 2")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


@unittest.skipUnless(WANTED, "USERAGENT_REAL=1 runs it, with Prometheus")
class AlertsTest(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.box = entered(self, Box())
        self.ports = [free_port(), free_port()]
        self.workers = [self.worker("first", self.ports[0]), self.worker("second", self.ports[1])]
        self.start_prometheus()

    def worker(self, name: str, port: int, timeout_s: float = 3600.0) -> Worker:
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        options = ("--status-port", str(port), "--log-format", "json", "--drain-timeout", "5")
        worker = Worker(SCRIPT.format(timeout_s=timeout_s), self.box.credentials("quick"), *options, folder=folder)
        return entered(self, worker)

    def start_prometheus(self) -> None:
        rules = in_seconds((SERVICE / "alerts.yml").read_text("utf-8"))
        (self.folder / "alerts.yml").write_text(rules, "utf-8")
        config = {
            "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
            "rule_files": ["alerts.yml"],
            "scrape_configs": [
                {"job_name": "user-agents", "static_configs": [{"targets": [f"127.0.0.1:{p}" for p in self.ports]}]}
            ],
        }
        (self.folder / "prometheus.yml").write_text(json.dumps(config), "utf-8")  # JSON is YAML
        self.port = free_port()
        prometheus = subprocess.Popen(
            ["prometheus", f"--config.file={self.folder / 'prometheus.yml'}",
             f"--storage.tsdb.path={self.folder / 'data'}", f"--web.listen-address=127.0.0.1:{self.port}"],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        self.addCleanup(prometheus.wait)
        self.addCleanup(prometheus.terminate)

    def ask(self, path: str) -> Any:
        """What Prometheus answers; None before it does."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/api/v1/{path}", timeout=5) as reply:
                return json.load(reply)["data"]
        except OSError:
            return None

    def firing(self) -> set[str]:
        alerts = (self.ask("alerts") or {"alerts": []})["alerts"]
        return {alert["labels"]["alertname"] for alert in alerts if alert["state"] == "firing"}

    def await_scrapes(self) -> None:
        """Until each worker was read three times: a counter's rise needs a value before it."""
        pause = threading.Event()
        for _ in range(int(PATIENCE_S * 2)):
            found = self.ask("query?query=min(count_over_time(task_poll_total[1m]))") or {"result": []}
            if len(found["result"]) == 1 and float(found["result"][0]["value"][1]) >= 3:
                up = self.ask("query?query=count(up==1)")["result"]
                if up and up[0]["value"][1] == "2":
                    return
            pause.wait(0.5)
        self.fail("Prometheus does not read both workers")

    def await_alerts(self, *names: str, only: bool = False) -> None:
        """Until these alerts fire; ``only``: and no others."""
        pause, seen = threading.Event(), set()
        for _ in range(int(PATIENCE_S * 2)):
            seen = self.firing()
            if seen == {*names} or (seen > {*names} and not only):
                return
            pause.wait(0.5)
        self.fail(f"{names} were awaited, {seen} fire")

    def submit(self, agent_id: str, **given: Any) -> str:
        return self.box.submit(agent_id, given, retries=0)

    def useragent(self, folder: Path, *words: str) -> None:
        environ = {**os.environ, "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-m", "user_agent_sdk", *words]
        subprocess.run(command, cwd=folder, env=environ, capture_output=True, check=True)

    def test_each_alert_fires_on_its_own_trouble_and_resolves_after_it(self) -> None:
        self.await_scrapes()
        self.await_alerts(only=True)
        with self.subTest("a failure"):
            self.submit("quick", fails=True)
            self.await_alerts("UserAgentFailures", only=True)
            self.await_alerts(only=True)
        with self.subTest("all slots busy"):
            for _ in range(2):
                self.submit("slow")
            self.await_alerts("UserAgentNoFreeSlot", only=True)
            for worker in self.workers:
                (worker.folder / "go").touch()
            self.await_alerts(only=True)
        with self.subTest("an outage with a result in hand"):
            with self.box.down("report"):
                self.submit("quick")
                self.await_alerts("UserAgentUndelivered")
                with self.box.down():
                    self.await_alerts("UserAgentUndelivered", "UserAgentNoContact")
            self.await_alerts(only=True)
        with self.subTest("refused credentials"):
            refused = Reply.of({"error": "unauthorized_client"}, 401)
            self.box.faults.append(lambda kind, request, proceed: refused)
            self.await_alerts("UserAgentTokenEnds")
            self.box.faults.clear()
            self.await_alerts(only=True)
        with self.subTest("a worker that is gone"):
            self.workers[1].stop()
            self.await_alerts("UserAgentDown", only=True)
        with self.subTest("a result that is refused for good"):
            refused = Reply.of({"message": "no such field"}, 400)
            self.box.faults.append(lambda kind, request, proceed: refused if kind == "report" else PASS)
            workflow_id = self.submit("quick")
            self.await_alerts("UserAgentRejected", "UserAgentDown", only=True)
            self.box.faults.clear()
            self.workers[0].stop()
            self.useragent(self.workers[0].folder, "journal", "drop", workflow_id)
            for worker in self.workers:
                worker.start()
            self.await_alerts(only=True)
        with self.subTest("a function that can't be stopped"):
            (self.workers[1].folder / "go").unlink()
            for worker in self.workers:
                worker.stop()
            stuck = self.worker("second", self.ports[1], timeout_s=0.2)
            self.submit("slow")
            self.await_alerts("UserAgentStuck")
            (stuck.folder / "go").touch()
            self.await_alerts("UserAgentDown", only=True)  # the other worker's
        stuck.stop()
        for worker in (*self.workers, stuck):
            for line in worker.log:
                self.assertIn("msg", json.loads(line), line)

    def test_the_samples_pass_prometheus_own_checks(self) -> None:
        for words in (["check", "rules", "alerts.yml"], ["test", "rules", "alerts_test.yml"]):
            done = subprocess.run(["promtool", *words], cwd=SERVICE, capture_output=True, text=True)
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_promtool_has_one_complaint_about_the_metrics_and_this_one_is_meant(self) -> None:
        """taskType is no snake_case: it is the label of the Python client of Conductor, whose dashboards fit so."""
        self.await_scrapes()
        self.box.wait(self.submit("quick"), PATIENCE_S)
        with urllib.request.urlopen(f"http://127.0.0.1:{self.ports[0]}/metrics", timeout=5) as reply:
            page = reply.read()
        done = subprocess.run(["promtool", "check", "metrics"], input=page, capture_output=True)
        said = [line for line in done.stderr.decode().splitlines() if "camelCase" not in line]
        self.assertEqual(said, [])


if __name__ == "__main__":
    unittest.main()

# SPDX-License-Identifier: Apache-2.0
"""3.32.3 takes the place of 3.13.8, on the same Redis, under a worker at work."""

from __future__ import annotations

import tempfile
import unittest
from pathlib import Path

from . import WANTED, servers
from .stack import Stack, wait_until
from .worker import Worker

LONG_S = 60.0
AGENT = """
    import pathlib, threading
    from user_agent_sdk import user_agent

    @user_agent(agent_id="upgraded", workers=8)
    def upgraded(number, seconds):
        with open(pathlib.Path(__file__).with_name("runs"), "a") as runs:
            runs.write(f"{number}\\n")
        threading.Event().wait(seconds)
        return number
    """


@unittest.skipUnless(
    WANTED and servers.VERSION == "3.13.8", "it boots servers of its own, for USERAGENT_REAL_CONDUCTOR=3.13.8"
)
class Upgrade(unittest.TestCase):
    def test_a_worker_goes_on_and_nothing_is_lost(self) -> None:
        with Stack(version="3.13.8") as stack, tempfile.TemporaryDirectory() as folder:
            self.addCleanup(stack.gateway.clear)
            stack.register_task("upgraded", retry_count=2, response_timeout_s=20)
            stack.register_workflow("upgraded", ["upgraded", "upgraded"], inputs=["number", "seconds"])
            port = servers.free_port()
            new = servers.conductor(
                Path(folder), port, indexing=False, version="3.32.3", redis=(stack.redis_port, "3.13.8")
            )
            self.addCleanup(new.stop)
            with Worker(AGENT, None, "--conductor", stack.gateway.conductor_url) as worker:
                ids = [stack.start_workflow("upgraded", {"number": n, "seconds": 0.05}) for n in range(20)]
                new.start()
                new.wait_ready()  # both serve the same Redis now, as in a rolling upgrade
                ids += [stack.start_workflow("upgraded", {"number": n, "seconds": 5}) for n in range(100, 106)]
                running = lambda: "105" in (worker.folder / "runs").read_text("utf-8")  # noqa: E731
                self.assertTrue(wait_until(running, LONG_S))
                stack.gateway.conductor_port = port
                stack.conductor_url = f"http://127.0.0.1:{port}/api"
                stack.conductor.stop()  # what it was answering is cut off
                ids += [stack.start_workflow("upgraded", {"number": n, "seconds": 0.05}) for n in range(200, 220)]
                ended = {stack.wait(workflow_id, timeout_s=2 * LONG_S)["status"] for workflow_id in ids}
                self.assertEqual(ended, {"COMPLETED"})
                self.assertEqual(worker.stop(), 0)
                runs = (worker.folder / "runs").read_text("utf-8").split()
            self.assertEqual(len(runs), 2 * len(set(runs)), "each step ran once")

# SPDX-License-Identifier: Apache-2.0
"""What two hundred tasks that wait cost a worker process: as coroutines of a shared loop hardly more than as threads.

They can't cost less: a slot's thread waits for its coroutine, and the loop's two wakes a task (to begin it, and to end
its sleep) come on top, about 50 µs of asyncio's own on a machine of 2026, 10 ms of the 400 ms that all of it takes.
"""

from __future__ import annotations

import json
import math
import os
import sys
import unittest

from tests.guests.test_guests import IS_ALL, LONG_S, GuestTest
from user_agent_sdk.sandbox.server import Sandbox

AT_ONCE, PAIRS = 200, 12  # at most: until the cheapest of each kind are within the margins
CPU_MARGIN, MEMORY_MARGIN = 1.15, 1.05
SCRIPT = """
import asyncio
import json
import re
import threading
import time

from user_agent_sdk import on_stop, user_agent

@on_stop
def tell():
    with open("/proc/self/status") as status:
        [peak] = re.findall(r"VmHWM:\\s+(\\d+) kB", status.read())
    print(json.dumps([time.process_time(), int(peak) / 1024]))

@user_agent(agent_id="waits", workers=200{options})
{kind} waits():
    {wait}
"""
COROUTINE = SCRIPT.format(options=', loop="shared"', kind="async def", wait="await asyncio.sleep(3)")
THREAD = SCRIPT.format(options="", kind="def", wait="threading.Event().wait(3)")


@unittest.skipUnless(os.path.exists("/proc/self/status"), "no /proc here, which tells what a process has used")
@unittest.skipUnless(IS_ALL, "runs in CI, and with USERAGENT_GUESTS=1")
class ManyTest(GuestTest):
    def test_coroutines_that_wait_cost_hardly_more_than_threads_that_wait(self) -> None:
        """In pairs, so that what else the machine does meanwhile is the same for both; the cheapest of each count."""
        ours, theirs = [], []
        cpu = memory = math.inf
        while len(ours) < 2 or (len(ours) < PAIRS and (cpu >= CPU_MARGIN or memory >= MEMORY_MARGIN)):
            ours.append(self.cost(COROUTINE))
            theirs.append(self.cost(THREAD))
            cpu, memory = (min(one[of] for one in ours) / min(one[of] for one in theirs) for of in (0, 1))
        shown = "; ".join(f"{a:.2f} s, {b:.1f} MB : {c:.2f} s, {d:.1f} MB" for (a, b), (c, d) in zip(ours, theirs))
        sys.stderr.write(f"\n{AT_ONCE} coroutines : threads that wait: {shown}; cpu {cpu:.2f}, memory {memory:.2f}\n")
        self.assertLess(cpu, CPU_MARGIN)
        self.assertLess(memory, MEMORY_MARGIN)

    def cost(self, script: str) -> list[float]:
        """CPU seconds, and megabytes at most, of a process that starts, has that many tasks at once, and ends."""
        (self.folder / "agent.py").write_text(script, "utf-8")
        with Sandbox() as sandbox:
            path = self.folder / "credentials.json"
            path.write_text(json.dumps(sandbox.credentials("unused")), "utf-8")
            tasks = [sandbox.submit("waits", {}) for _ in range(AT_ONCE)]
            code, out, err = self.finished(self.started("run", "agent.py", "--no-journal", "--max-tasks", str(AT_ONCE)))
            self.assertEqual(code, 0, err[-3000:])
            self.assertEqual({sandbox.wait(task, LONG_S).status for task in tasks}, {"COMPLETED"})
        used: list[float] = json.loads(out)
        return used


if __name__ == "__main__":
    unittest.main()

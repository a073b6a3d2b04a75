# SPDX-License-Identifier: Apache-2.0
"""A workflow that is ended while tasks of it run here: the slots are free within an extension of the lease, where the
function is a coroutine or looks at ``current_task().cancelled``."""

from __future__ import annotations

import time
import uuid

from . import RealTestCase
from .stack import wait_until
from .worker import Worker

RESPONSE_TIMEOUT_S = 6
FREE_S = 4.0
LONG_S = 60.0
AGENTS = """
    import asyncio, pathlib, time
    from user_agent_sdk import current_task, user_agent

    HERE = pathlib.Path(__file__).parent

    def note(what, name):
        with open(HERE / "notes", "a") as notes:
            notes.write(f"{{what}}-{{name}} {{time.time()}}\\n")

    @user_agent(agent_id="coroutine-{unique}", workers=1)
    async def coroutine(name):
        note("coroutine-began", name)
        try:
            await asyncio.sleep(60 if name == "first" else 0)
        finally:
            await asyncio.sleep(0)
            note("coroutine-finally", name)

    @user_agent(agent_id="heeds-{unique}", workers=1)
    def heeds(name):
        note("heeds-began", name)
        if current_task().cancelled.wait(60 if name == "first" else 0):
            note("heeds-heard", name)
    """


class OverTest(RealTestCase):
    """A worker thread for each agent, so that the second workflow's tasks begin when the first one's slots are free."""

    def test_a_workflow_that_is_terminated_frees_the_slots_of_its_tasks(self) -> None:
        self.look("DELETE", "?reason=enough")

    def test_a_workflow_that_is_removed_does_too(self) -> None:
        self.look("DELETE", "/remove?archiveWorkflow=false")

    def look(self, method: str, action: str) -> None:
        unique = uuid.uuid4().hex[:8]
        for name in (f"coroutine-{unique}", f"heeds-{unique}"):
            self.stack.register_task(name, response_timeout_s=RESPONSE_TIMEOUT_S)
            self.stack.register_workflow(name, [name], inputs=["name"])
        options = ("--conductor", self.stack.gateway.conductor_url, "--poll-interval", "100")
        names = (f"coroutine-{unique}", f"heeds-{unique}")
        with Worker(AGENTS.format(unique=unique), None, *options) as worker:
            self.notes = worker.folder / "notes"
            firsts = [self.stack.start_workflow(name, {"name": "first"}) for name in names]
            self.await_notes("coroutine-began-first", "heeds-began-first")
            seconds = [self.stack.start_workflow(name, {"name": "second"}) for name in names]
            for workflow_id in firsts:
                self.stack.api(method, f"/workflow/{workflow_id}{action}")
            ended_at = time.time()
            said = self.await_notes("coroutine-finally-first", "heeds-heard-first", "coroutine-began-second",
                                    "heeds-began-second")  # fmt: skip
            for name, at in said.items():
                if "-first" not in name or "-began" not in name:
                    self.assertLess(at - ended_at, FREE_S, name)
            for workflow_id in seconds:
                self.assertEqual(self.stack.wait(workflow_id, timeout_s=LONG_S)["status"], "COMPLETED")
            self.assertEqual(worker.stop(), 0)

    def await_notes(self, *names: str) -> dict[str, float]:
        """When each of them was noted, once all are."""

        def noted() -> dict[str, float]:
            lines = self.notes.read_text("utf-8").splitlines() if self.notes.exists() else []
            return {name: float(at) for name, _, at in (line.partition(" ") for line in lines if " " in line) if at}

        self.assertTrue(wait_until(lambda: set(names) <= set(noted()), LONG_S), noted())
        return noted()

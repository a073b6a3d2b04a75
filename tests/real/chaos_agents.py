# SPDX-License-Identifier: Apache-2.0
"""The agents of the chaos run, for this worker and for conductor-python."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping

RUNS = "runs.txt"
KINDS = ("quick", "slow", "flaky", "meant", "waiting")
MIX = ("quick",) * 8 + ("slow",) * 4 + ("flaky",) * 3 + ("meant",) * 2 + ("waiting",) * 3  # how often each is started

# What each agent does, whatever worker runs it. The line is one write to a file opened with O_APPEND:
# whole, and in its place, however many processes write, and there when the process is killed after it.
BODIES = """
    import asyncio
    import os
    import threading
    import time
    from pathlib import Path

    FILE = str(Path(__file__).with_name("runs.txt"))
    NEVER = threading.Event()

    def ran(kind, task_id):
        file = os.open(FILE, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(file, f"{kind} {task_id} {os.getpid()} {time.time()}\\n".encode("ascii"))
        finally:
            os.close(file)
        return {"run": task_id}

    def quick(task_id):
        return ran("quick", task_id)

    def slow(task_id):
        result = ran("slow", task_id)
        NEVER.wait(5)  # under a response timeout of 2 s
        return result

    def flaky(task_id, tries):
        result = ran("flaky", task_id)
        if tries == 0:
            raise RuntimeError("not at the first try")
        return result

    def meant(task_id, error):
        ran("meant", task_id)
        raise error("this is meant to fail")

    async def waiting(task_id):
        result = ran("waiting", task_id)
        await asyncio.sleep(0.3)
        return result
    """
OURS = """
    import bodies
    from user_agent_sdk import NonRetryableException, user_agent

    @user_agent(agent_id={quick!r}, workers=3)
    def quick(task):
        return bodies.quick(task.task_id)

    @user_agent(agent_id={slow!r}, workers=4)
    def slow(task):
        return bodies.slow(task.task_id)

    @user_agent(agent_id={flaky!r}, workers=2)
    def flaky(task):
        return bodies.flaky(task.task_id, task.retry_count)

    @user_agent(agent_id={meant!r})
    def meant(task):
        return bodies.meant(task.task_id, NonRetryableException)

    @user_agent(agent_id={waiting!r}, workers=2)
    async def waiting(task):
        return await bodies.waiting(task.task_id)
    """
# With its leases on, which it does not have by itself.
PEER = """
    import asyncio
    import bodies
    from conductor.client.automator.task_handler import TaskHandler
    from conductor.client.configuration.configuration import Configuration
    from conductor.client.worker.exception import NonRetryableException
    from conductor.client.worker.worker import Worker

    def quick(task):
        return bodies.quick(task.task_id)

    def slow(task):
        return bodies.slow(task.task_id)

    def flaky(task):
        return bodies.flaky(task.task_id, task.retry_count or 0)

    def meant(task):
        return bodies.meant(task.task_id, NonRetryableException)

    def waiting(task):
        return asyncio.run(bodies.waiting(task.task_id))

    if __name__ == "__main__":
        workers = [
            Worker({quick!r}, quick, poll_interval=100, thread_count=3, lease_extend_enabled=True),
            Worker({slow!r}, slow, poll_interval=100, thread_count=4, lease_extend_enabled=True),
            Worker({flaky!r}, flaky, poll_interval=100, thread_count=2, lease_extend_enabled=True),
            Worker({meant!r}, meant, poll_interval=100, thread_count=1, lease_extend_enabled=True),
            Worker({waiting!r}, waiting, poll_interval=100, thread_count=2, lease_extend_enabled=True),
        ]
        configuration = Configuration(server_api_url={url!r})
        with TaskHandler(workers=workers, configuration=configuration, scan_for_annotated_workers=False) as handler:
            handler.start_processes()
            handler.join_processes()
    """


def names(run: str) -> dict[str, str]:
    """kind -> a new agent id."""
    return {kind: f"{run}-{kind}#user-agent" for kind in KINDS}


def script(agents: Mapping[str, str]) -> str:
    return textwrap.dedent(OURS).format(**agents)


def peer_script(agents: Mapping[str, str], url: str) -> str:
    return textwrap.dedent(PEER).format(**agents, url=url)


def bodies() -> str:
    """The module that both import, to be put beside them as bodies.py."""
    return textwrap.dedent(BODIES)

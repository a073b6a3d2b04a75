"""Leaves a task running: one warning names it.

output: {"result": "done"}
log: notify was left running
"""

import asyncio

from user_agent_sdk import user_agent


async def notify():
    await asyncio.sleep(600)

@user_agent(agent_id="a_coroutine_leaves_a_task")
async def work():
    work.left = asyncio.ensure_future(notify())
    await asyncio.sleep(0)
    return "done"

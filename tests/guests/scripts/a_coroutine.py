"""``async def`` is all it takes.

output: {"result": 3}
"""

import asyncio

from user_agent_sdk import user_agent


@user_agent(agent_id="a_coroutine")
async def work():
    await asyncio.sleep(0)
    return sum(await asyncio.gather(one(), one(), one()))

async def one():
    return 1

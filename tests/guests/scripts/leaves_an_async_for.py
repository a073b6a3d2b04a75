"""Leaves an async for by return: the generator's finally runs to its end.

output: {"result": "done"}
log: ^closed$
"""

import asyncio

from user_agent_sdk import user_agent


async def rows(logger):
    try:
        while True:
            yield "done"
    finally:
        await asyncio.sleep(0.01)
        logger.info("closed")

@user_agent(agent_id="leaves_an_async_for")
async def work(logger):
    async for row in rows(logger):
        return row

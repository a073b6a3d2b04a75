"""Past timeout_s a coroutine is cancelled, its finally runs, and its slot goes on.

status: FAILED
reason: longer than its timeout of 0.2 s
log: finally
attempts: 2
input: {"retries": 1}
"""

import asyncio

from user_agent_sdk import user_agent


@user_agent(agent_id="a_coroutine_out_of_time", timeout_s=0.2)
async def work(logger):
    try:
        await asyncio.sleep(600)
    finally:
        await asyncio.sleep(0)
        logger.info("finally")

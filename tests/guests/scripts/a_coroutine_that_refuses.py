"""It swallows its cancellation: reported after its grace, and the worker ends with 7.

alone: run
exit: 7
status: FAILED
reason: longer than its timeout
"""

import asyncio

from user_agent_sdk import user_agent


@user_agent(agent_id="a_coroutine_that_refuses", timeout_s=0.1)
async def work():
    while True:
        try:
            await asyncio.sleep(600)
        except asyncio.CancelledError:
            pass

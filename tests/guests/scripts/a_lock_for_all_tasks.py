"""One asyncio.Lock of the module, in tasks at once.

times: 6
output: {"result": "done"}
"""

import asyncio

from user_agent_sdk import user_agent


kept = {}

@user_agent(agent_id="a_lock_for_all_tasks", workers=3, loop="shared")
async def work():
    async with kept.setdefault("lock", asyncio.Lock()):
        await asyncio.sleep(0.01)
    return "done"

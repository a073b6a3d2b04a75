"""A plain function with a loop of its own.

output: {"result": 5}
"""

import asyncio

from user_agent_sdk import user_agent


async def five():
    return 5

@user_agent(agent_id="asyncio_run_inside")
def work():
    return asyncio.run(five())

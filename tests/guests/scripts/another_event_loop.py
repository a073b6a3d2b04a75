"""The error of two loops says what helps.

status: FAILED
reason: loop="shared"
"""

import asyncio

from user_agent_sdk import user_agent


other = asyncio.new_event_loop()

@user_agent(agent_id="another_event_loop")
async def work():
    await other.create_future()

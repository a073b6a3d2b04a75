"""A plain wrapper that returns a coroutine.

output: {"result": 5}
"""

from user_agent_sdk import user_agent


async def five():
    return 5

@user_agent(agent_id="a_wrapped_coroutine")
def work():
    return five()

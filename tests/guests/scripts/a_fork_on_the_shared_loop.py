"""os.fork() on the shared loop, whose child awaits: it ends, and the worker goes on.

alone: run
fork: yes
times: 2
output: {"result": "parent"}
"""

import asyncio
import os

from user_agent_sdk import user_agent


@user_agent(agent_id="a_fork_on_the_shared_loop", loop="shared")
async def work():
    child = os.fork()
    if not child:
        await asyncio.sleep(600)
    os.waitpid(child, 0)
    return "parent"

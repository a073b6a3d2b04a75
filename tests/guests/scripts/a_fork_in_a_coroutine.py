"""os.fork() in a coroutine, whose child returns: one worker, one result.

alone: run
fork: yes
times: 2
output: {"result": "parent"}
"""

import os

from user_agent_sdk import user_agent


@user_agent(agent_id="a_fork_in_a_coroutine")
async def work():
    child = os.fork()
    if child:
        os.waitpid(child, 0)
    return "parent" if child else "child"

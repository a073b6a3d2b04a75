"""os.fork() whose child returns from the function: one worker, one result.

alone: run
fork: yes
output: {"result": "parent"}
"""

import os

from user_agent_sdk import user_agent


@user_agent(agent_id="a_fork_that_returns")
def work():
    child = os.fork()
    if child:
        os.waitpid(child, 0)
    return "parent" if child else "child"

"""os.fork() whose child raises, and exits: it ends as any program.

alone: run
fork: yes
output: {"result": [1, 3]}
err: ValueError: of the child
"""

import os

from user_agent_sdk import user_agent


def ended(error):
    child = os.fork()
    if not child:
        raise error
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

@user_agent(agent_id="a_fork_whose_child_raises")
def work():
    return [ended(ValueError("of the child")), ended(SystemExit(3))]

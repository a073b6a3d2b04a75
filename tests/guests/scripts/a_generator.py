"""A generator function can't be an agent.

alone: run
exit: 6
err: generator function
"""

from user_agent_sdk import user_agent


@user_agent(agent_id="a_generator")
def work():
    yield 1

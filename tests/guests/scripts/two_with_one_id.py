"""Two functions claim one id.

alone: run
exit: 6
err: two agents have the id
"""

from user_agent_sdk import user_agent


@user_agent(agent_id="two_with_one_id")
def work():
    pass

@user_agent(agent_id="two_with_one_id")
def other():
    pass

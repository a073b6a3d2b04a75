"""Two agents in one script, each with an id of its own.

    python -m user_agent_sdk invoke examples/several_agents.py -a minus-agent -i examples/sum.json

One agent a script is easier to operate; this is for agents that share much code.
"""

from user_agent_sdk import user_agent


@user_agent(agent_id="sum-agent")
def sum_agent(num1, num2):
    return num1 + num2


@user_agent(agent_id="minus-agent", workers=2)
def minus_agent(num1, num2):
    return num1 - num2

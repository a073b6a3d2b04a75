"""Returns a set, which becomes a sorted array.

output: {"result": [1, 2, 3]}
"""

from user_agent_sdk import user_agent


@user_agent(agent_id="returns_set")
def work():
    return {3, 1, 2}

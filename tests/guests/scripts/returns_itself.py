"""Returns a list that holds itself.

status: FAILED
attempts: 1
reason: circular
"""

from user_agent_sdk import user_agent


@user_agent(agent_id="returns_itself")
def work():
    found = []
    found.append(found)
    return found

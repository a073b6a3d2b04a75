"""Calls itself without an end.

status: FAILED
reason: RecursionError
"""

from user_agent_sdk import user_agent


@user_agent(agent_id="recurses_for_ever")
def work():
    return work()

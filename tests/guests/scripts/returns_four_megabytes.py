"""Returns more than the platform passes on: said in the task's log.

log: over 3 MB
"""

from user_agent_sdk import user_agent


@user_agent(agent_id="returns_four_megabytes")
def work():
    return "x" * 4_000_000

"""Returns half of a surrogate pair, as broken file names have it.

status: FAILED
attempts: 1
reason: surrogate
"""

from user_agent_sdk import user_agent


@user_agent(agent_id="returns_half_a_character")
def work():
    return {"name": "\udc80"}

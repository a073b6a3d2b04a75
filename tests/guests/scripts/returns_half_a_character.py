"""Returns half of a surrogate pair, as broken file names have it.

output: {"name": "?"}
log: half of a surrogate pair
"""

from user_agent_sdk import user_agent


@user_agent(agent_id="returns_half_a_character")
def work():
    return {"name": "\udc80"}

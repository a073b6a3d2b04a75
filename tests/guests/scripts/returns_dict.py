"""Returns a dict: the output as it is.

output: {"a": [1, 2.5, null, true]}
"""

from user_agent_sdk import user_agent


@user_agent(agent_id="returns_dict")
def work():
    return {"a": [1, 2.5, None, True]}

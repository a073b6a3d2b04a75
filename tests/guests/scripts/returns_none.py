"""Returns nothing.

output: {"result": null}
"""

from user_agent_sdk import user_agent


@user_agent(agent_id="returns_none")
def work():
    pass

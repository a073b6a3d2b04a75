"""Parameters that have no names.

input: {"a": 1}
output: {"result": 1}
"""

from user_agent_sdk import user_agent


@user_agent(agent_id="positional_only")
def work(a, /):
    return a

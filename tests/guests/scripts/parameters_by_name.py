"""Takes parts of the input by name, one by its default.

input: {"a": 2}
output: {"result": [2, 3]}
"""

from user_agent_sdk import user_agent


@user_agent(agent_id="parameters_by_name")
def work(a, b=3):
    return [a, b]

"""``**kwargs`` gets the rest of the input.

input: {"a": 1, "b": 2}
output: {"rest": {"b": 2}}
"""

from user_agent_sdk import user_agent


@user_agent(agent_id="takes_the_rest")
def work(a, **rest):
    return {"rest": rest}

"""An object with ``__call__``.

input: {"a": 4}
output: {"result": 8}
"""

from user_agent_sdk import register_user_agent

from user_agent_sdk import user_agent


class Bot:
    def __call__(self, a):
        return a * 2

register_user_agent(Bot(), agent_id="a_callable_object")

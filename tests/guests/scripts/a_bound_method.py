"""A method of an object that keeps something.

input: {"a": 4}
output: {"result": 14}
"""

from user_agent_sdk import register_user_agent

from user_agent_sdk import user_agent


class Bot:
    base = 10

    def run(self, a):
        return self.base + a

register_user_agent(Bot().run, agent_id="a_bound_method")

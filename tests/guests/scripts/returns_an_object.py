"""Returns an object of its own: its fields.

output: {"a": 1}
"""

from user_agent_sdk import user_agent


class Thing:
    def __init__(self):
        self.a = 1


@user_agent(agent_id="returns_an_object")
def work():
    return Thing()

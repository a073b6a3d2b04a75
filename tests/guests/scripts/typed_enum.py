"""An Enum from its value, and one from its name.

input: {"first": "r", "second": "BLUE"}
output: {"result": ["RED", "BLUE"]}
"""

import enum

from user_agent_sdk import user_agent


class Color(enum.Enum):
    RED = "r"
    BLUE = "b"

@user_agent(agent_id="typed_enum")
def work(first: Color, second: Color):
    return [first.name, second.name]

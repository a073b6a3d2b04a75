"""Returns a dict with Enum keys and values.

output: {"r": "b"}
"""

import enum

from user_agent_sdk import user_agent


class Color(enum.Enum):
    RED = "r"
    BLUE = "b"

@user_agent(agent_id="returns_enum_keys")
def work():
    return {Color.RED: Color.BLUE}

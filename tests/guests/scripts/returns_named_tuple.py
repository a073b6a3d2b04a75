"""Returns a named tuple, an array.

output: {"result": [1, "a"]}
"""

from collections import namedtuple

from user_agent_sdk import user_agent


Row = namedtuple("Row", "number name")

@user_agent(agent_id="returns_named_tuple")
def work():
    return Row(1, "a")

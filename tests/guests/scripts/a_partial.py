"""functools.partial with a keyword preset.

input: {"a": 4}
output: {"result": 7}
"""

import functools
from user_agent_sdk import register_user_agent

from user_agent_sdk import user_agent


def add(a, b):
    return a + b

register_user_agent(functools.partial(add, b=3), agent_id="a_partial")

"""functools.lru_cache around the function.

input: {"a": 4}
output: {"result": 16}
"""

import functools

from user_agent_sdk import user_agent


@user_agent(agent_id="a_cached_function")
@functools.lru_cache(maxsize=None)
def work(a):
    return a * a

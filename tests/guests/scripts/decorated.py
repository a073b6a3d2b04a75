"""A decorator of the script's with functools.wraps.

input: {"a": 4}
output: {"result": [4, "wrapped"]}
"""

import functools

from user_agent_sdk import user_agent


def wrapped(func):
    @functools.wraps(func)
    def call(*args, **kwargs):
        return [func(*args, **kwargs), "wrapped"]
    return call

@user_agent(agent_id="decorated")
@wrapped
def work(a):
    return a

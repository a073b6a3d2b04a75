"""Raises an exception whose text raises.

status: FAILED
reason: can't be shown
"""

from user_agent_sdk import user_agent


class Broken(Exception):
    def __str__(self):
        raise RuntimeError("no text")

@user_agent(agent_id="raises_what_cannot_be_shown")
def work():
    raise Broken

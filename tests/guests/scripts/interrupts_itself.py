"""Raises KeyboardInterrupt.

status: FAILED
reason: KeyboardInterrupt
"""

from user_agent_sdk import user_agent


@user_agent(agent_id="interrupts_itself")
def work():
    raise KeyboardInterrupt

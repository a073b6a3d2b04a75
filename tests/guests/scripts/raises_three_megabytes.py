"""Raises with a document for a message.

status: FAILED
reason: ^ValueError: xxxx
"""

from user_agent_sdk import user_agent


@user_agent(agent_id="raises_three_megabytes")
def work():
    raise ValueError("x" * 3_000_000)

"""Raises: the try failed, with the traceback in the log.

status: FAILED
attempts: 2
reason: ^ValueError: no such row
log: in work
input: {"retries": 1}
"""

from user_agent_sdk import user_agent


@user_agent(agent_id="raises")
def work():
    raise ValueError("no such row")

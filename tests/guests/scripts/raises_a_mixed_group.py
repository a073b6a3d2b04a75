"""Raises a group with one failure that may pass.

since: 3.11
status: FAILED
attempts: 2
input: {"retries": 1}
"""

from user_agent_sdk import NonRetryableException, user_agent


@user_agent(agent_id="raises_a_mixed_group")
def work():
    raise ExceptionGroup("both", [NonRetryableException("the first"), OSError("the second")])

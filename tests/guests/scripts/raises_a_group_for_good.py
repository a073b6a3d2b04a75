"""Raises a group that holds nothing but final failures.

since: 3.11
status: FAILED
attempts: 1
reason: ^the first$
input: {"retries": 2}
"""

from user_agent_sdk import NonRetryableException, user_agent


@user_agent(agent_id="raises_a_group_for_good")
def work():
    raise ExceptionGroup("both", [NonRetryableException("the first"), NonRetryableException("the second")])

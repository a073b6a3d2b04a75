"""Raises NonRetryableException: one try.

status: FAILED
attempts: 1
reason: ^the file is no invoice$
input: {"retries": 2}
"""

from user_agent_sdk import NonRetryableException, user_agent


@user_agent(agent_id="raises_for_good")
def work():
    raise NonRetryableException("the file is no invoice")

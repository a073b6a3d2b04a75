"""Returns more than the platform takes.

status: FAILED
attempts: 1
reason: 10,485,760
"""

from user_agent_sdk import user_agent


@user_agent(agent_id="returns_eleven_megabytes")
def work():
    return "x" * 11_000_000

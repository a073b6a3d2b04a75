"""Returns a number of 300 digits.

log: fine
"""

from user_agent_sdk import user_agent


@user_agent(agent_id="returns_a_huge_number")
def work(logger):
    logger.info("fine")
    return {"digits": 10**300}

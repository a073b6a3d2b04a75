"""Five thousand lines: the middle is left out, and that is said.

output: {"result": 1}
log: lines left out
"""

from user_agent_sdk import user_agent


@user_agent(agent_id="logs_a_flood")
def work(logger):
    for number in range(5000):
        logger.info("line %d", number)
    return 1

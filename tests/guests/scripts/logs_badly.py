"""A log call whose arguments don't fit costs nothing.

output: {"result": 1}
log: arguments don't fit
"""

from user_agent_sdk import user_agent


@user_agent(agent_id="logs_badly")
def work(logger):
    logger.info("%d", "x")
    return 1

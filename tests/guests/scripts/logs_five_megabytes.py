"""One line of five megabytes, cut as the task's log is.

output: {"result": 1}
log: ^xxx
"""

from user_agent_sdk import user_agent


@user_agent(agent_id="logs_five_megabytes")
def work(logger):
    logger.info("x" * 5_000_000)
    return 1

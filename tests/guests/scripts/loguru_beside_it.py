"""loguru logs to stderr; the task goes on.

needs: loguru
output: {"result": 1}
"""

from loguru import logger as other

from user_agent_sdk import user_agent


@user_agent(agent_id="loguru_beside_it")
def work():
    other.info("from loguru")
    return 1

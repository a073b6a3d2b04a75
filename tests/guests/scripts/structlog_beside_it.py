"""structlog prints; the task goes on.

needs: structlog
output: {"result": 1}
"""

import structlog

from user_agent_sdk import user_agent


@user_agent(agent_id="structlog_beside_it")
def work():
    structlog.get_logger().info("from structlog")
    return 1

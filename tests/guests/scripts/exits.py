"""Calls sys.exit(): its try failed, the worker goes on.

status: FAILED
reason: SystemExit: 3
"""

import sys

from user_agent_sdk import user_agent


@user_agent(agent_id="exits")
def work():
    sys.exit(3)

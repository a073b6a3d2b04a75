"""A script that replaces time.sleep.

alone: run
output: {"result": 1}
"""

import time

from user_agent_sdk import user_agent


@user_agent(agent_id="replaces_sleep")
def work():
    setattr(time, "sleep", None)
    return 1

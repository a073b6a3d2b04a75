"""Closes both streams.

alone: invoke
out: ^{"result": 1}$
"""

import sys

from user_agent_sdk import user_agent


@user_agent(agent_id="closes_stdout")
def work():
    sys.stdout.close()
    sys.stderr.close()
    return 1

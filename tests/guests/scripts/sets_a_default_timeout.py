"""socket.setdefaulttimeout: the worker's own connections have deadlines of their own.

alone: run
output: {"result": 1}
"""

import socket

from user_agent_sdk import user_agent


socket.setdefaulttimeout(0.001)

@user_agent(agent_id="sets_a_default_timeout")
def work():
    return 1

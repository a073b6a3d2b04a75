"""A proxy in the environment, which never applies to this machine.

alone: run
output: {"result": 1}
"""

import os

from user_agent_sdk import user_agent


os.environ["http_proxy"] = "http://127.0.0.1:9"

@user_agent(agent_id="sets_a_proxy")
def work():
    return 1

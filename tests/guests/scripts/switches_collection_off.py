"""gc.disable() and a low recursion limit.

alone: run
output: {"result": 1}
"""

import gc
import sys

from user_agent_sdk import user_agent


@user_agent(agent_id="switches_collection_off")
def work():
    gc.disable()
    sys.setrecursionlimit(300)
    return 1

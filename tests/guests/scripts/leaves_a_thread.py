"""A thread that never ends does not keep the worker.

alone: run
output: {"result": 1}
"""

import threading

from user_agent_sdk import user_agent


@user_agent(agent_id="leaves_a_thread")
def work():
    threading.Thread(target=threading.Event().wait).start()
    return 1

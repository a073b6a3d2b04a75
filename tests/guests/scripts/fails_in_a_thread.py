"""A thread of its own raises: that is the thread's end, not the task's.

output: {"result": "done"}
"""

import threading

from user_agent_sdk import user_agent


@user_agent(agent_id="fails_in_a_thread")
def work():
    thread = threading.Thread(target=lambda: 1 / 0)
    thread.start()
    thread.join()
    return "done"

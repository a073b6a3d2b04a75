"""A plain thread has no task, and the error says what helps.

output: {"result": "AgentError"}
"""

import threading

from user_agent_sdk import current_task, user_agent


@user_agent(agent_id="a_thread_that_knows_no_task")
def work():
    found = []

    def look():
        try:
            current_task()
        except Exception as error:
            found.append(type(error).__name__)

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    return found[0]

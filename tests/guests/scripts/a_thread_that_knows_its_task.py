"""copy_context() takes the task to a thread.

output: {"result": true}
log: from the thread
"""

import contextvars
import threading

from user_agent_sdk import current_task, user_agent


@user_agent(agent_id="a_thread_that_knows_its_task")
def work(task):
    found = []

    def look():
        current_task().logger.info("from the thread")
        found.append(current_task().task_id == task.task_id)

    thread = threading.Thread(target=contextvars.copy_context().run, args=(look,))
    thread.start()
    thread.join()
    return found[0]

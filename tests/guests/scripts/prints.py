r"""print(), a library's logger and a thread with the task's context, with --capture-output: all in the task's log.

alone: run
options: --capture-output
output: {"result": "done"}
log: ^first second\nWARNING a.library: slow\nin a thread\nno end of line$
out: ^first second\nin a thread\nno end of line$
err: slow
"""

import contextvars
import logging
import threading

from user_agent_sdk import user_agent


@user_agent(agent_id="prints")
def work():
    print("first", "second")
    logging.getLogger("a.library").warning("slow")
    thread = threading.Thread(target=contextvars.copy_context().run, args=(print, "in a thread"))
    thread.start()
    thread.join()
    print("no end of line", end="", flush=True)
    return "done"

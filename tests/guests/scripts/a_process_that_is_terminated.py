"""Process.terminate() ends a child.

alone: run
fork: yes
output: {"result": -15}
"""

import multiprocessing
import threading

from user_agent_sdk import user_agent


@user_agent(agent_id="a_process_that_is_terminated")
def work():
    child = multiprocessing.get_context("fork").Process(target=threading.Event().wait)
    child.start()
    child.terminate()
    child.join()
    return child.exitcode

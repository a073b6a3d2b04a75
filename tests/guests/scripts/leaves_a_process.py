"""A process of multiprocessing that is left running does not keep the worker.

alone: run
output: {"result": 1}
"""

import multiprocessing
import os
import threading
import time

from user_agent_sdk import user_agent


def while_the_worker_lives(worker):
    until = time.monotonic() + 120
    while os.getppid() == worker and time.monotonic() < until:
        threading.Event().wait(0.1)

@user_agent(agent_id="leaves_a_process")
def work():
    multiprocessing.get_context("spawn").Process(target=while_the_worker_lives, args=(os.getpid(),)).start()
    return 1

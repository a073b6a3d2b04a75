"""ProcessPoolExecutor with a killed child: an error, and no hang.

alone: run
fork: yes
status: FAILED
reason: BrokenProcessPool
"""

import multiprocessing
import os
import signal
from concurrent.futures import ProcessPoolExecutor

from user_agent_sdk import user_agent


def die(number):
    os.kill(os.getpid(), signal.SIGKILL)

@user_agent(agent_id="an_executor_whose_child_is_killed")
def work():
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("fork")) as pool:
        return list(pool.map(die, range(4)))

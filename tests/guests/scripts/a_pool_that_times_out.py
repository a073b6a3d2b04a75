"""A child that hangs: the pool's end kills it.

alone: run
fork: yes
status: FAILED
reason: TimeoutError
"""

import multiprocessing
import threading

from user_agent_sdk import user_agent


def hang(number):
    threading.Event().wait()

@user_agent(agent_id="a_pool_that_times_out")
def work():
    with multiprocessing.get_context("fork").Pool(1) as pool:
        return pool.map_async(hang, [1]).get(timeout=0.2)

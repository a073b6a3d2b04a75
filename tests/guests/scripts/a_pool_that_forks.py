"""multiprocessing.Pool by fork: its children end by SIGTERM.

alone: run
fork: yes
output: {"result": [0, 1, 4]}
"""

import multiprocessing

from user_agent_sdk import user_agent


def square(number):
    return number * number

@user_agent(agent_id="a_pool_that_forks")
def work():
    with multiprocessing.get_context("fork").Pool(2) as pool:
        return pool.map(square, range(3))

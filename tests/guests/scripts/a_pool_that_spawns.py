"""multiprocessing.Pool by spawn: its children import the script.

alone: run
output: {"result": [0, 1, 4]}
"""

import multiprocessing

from user_agent_sdk import user_agent


def square(number):
    return number * number

@user_agent(agent_id="a_pool_that_spawns")
def work():
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        return pool.map(square, range(3))

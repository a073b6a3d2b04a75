"""``next()`` finds nothing in a coroutine: Python makes a RuntimeError of that, whose cause has the line.

status: FAILED
reason: StopIteration
log: next\\(row for row
"""

from user_agent_sdk import user_agent


@user_agent(agent_id="next_without_a_match")
async def work():
    return next(row for row in [] if row)

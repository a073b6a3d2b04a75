"""A context variable of one task is not there in the next.

times: 3
output: {"result": null}
"""

from contextvars import ContextVar

from user_agent_sdk import user_agent


mine = ContextVar("mine", default=None)

@user_agent(agent_id="a_variable_of_the_task")
def work():
    found = mine.get()
    mine.set(1)
    return found

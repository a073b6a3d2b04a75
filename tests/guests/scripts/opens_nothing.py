r"""A start hook that raises: the worker doesn't start.

alone: run
exit: 6
err: error\[agent-start\]: the start hook opens \(.*\) failed\n(.|\n)*ValueError: no such browser
"""

from user_agent_sdk import on_start, user_agent


@on_start
def opens():
    raise ValueError("no such browser")

@user_agent(agent_id="opens_nothing")
def work():
    return "not run"

"""The input lacks what it needs: no second try.

status: FAILED
attempts: 1
reason: no 'path'
input: {"other": 1}
"""

from user_agent_sdk import user_agent


@user_agent(agent_id="a_parameter_is_missing")
def work(path):
    return path

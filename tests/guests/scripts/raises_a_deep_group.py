"""Raises a group in a group, two thousand deep: a failed try.

since: 3.11
status: FAILED
reason: ^ExceptionGroup: deep
"""

from user_agent_sdk import user_agent


@user_agent(agent_id="raises_a_deep_group")
def work():
    error = ValueError("the last")
    for _ in range(2000):
        error = ExceptionGroup("deep", [error])
    raise error

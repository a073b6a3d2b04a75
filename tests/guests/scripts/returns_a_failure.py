"""Returns a TaskResult that says FAILED.

status: FAILED
reason: ^no stock$
"""

from user_agent_sdk import TaskResult, TaskStatus, user_agent


@user_agent(agent_id="returns_a_failure")
def work():
    return TaskResult(status=TaskStatus.FAILED, reason_for_incompletion="no stock")

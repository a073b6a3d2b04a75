"""Asks to be called again, and sees what it stored.

output: {"seen": 2}
"""

from user_agent_sdk import TaskResult, TaskStatus, user_agent


@user_agent(agent_id="returns_in_progress")
def work(task):
    seen = task.output_data.get("seen", 0) + 1
    if seen < 2:
        return TaskResult(status=TaskStatus.IN_PROGRESS, output_data={"seen": seen}, callback_after_seconds=0)
    return {"seen": seen}

"""current_task() has the attempt and a key.

output: {"result": [1, true, false]}
"""

from user_agent_sdk import current_task, user_agent


@user_agent(agent_id="knows_its_task")
def work(task):
    now = current_task()
    return [now.attempt, now.key.startswith(task.workflow_instance_id), now.cancelled.is_set()]

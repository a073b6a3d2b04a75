"""A parameter that is annotated as the task.

output: {"result": "typed_task"}
"""

from user_agent_sdk import Task, user_agent


@user_agent(agent_id="typed_task")
def work(job: Task):
    return job.task_def_name

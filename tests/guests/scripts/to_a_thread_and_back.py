"""asyncio.to_thread knows the task.

output: {"result": true}
"""

import asyncio

from user_agent_sdk import current_task, user_agent


@user_agent(agent_id="to_a_thread_and_back")
async def work(task):
    return await asyncio.to_thread(lambda: current_task().task_id) == task.task_id

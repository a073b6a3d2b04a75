"""No server takes such a task type.

alone: run
exit: 6
err: slash
"""

from user_agent_sdk import register_user_agent

from user_agent_sdk import user_agent


register_user_agent(lambda: 1, agent_id="a/b")

"""Returns bytes, which become base64.

output: {"result": "YWI="}
"""

from user_agent_sdk import user_agent


@user_agent(agent_id="returns_bytes")
def work():
    return b"ab"

"""An annotation that nothing can resolve.

input: {"a": "5"}
output: {"result": "5"}
"""

from __future__ import annotations

from user_agent_sdk import user_agent


@user_agent(agent_id="typed_by_nobody")
def work(a: Nonsense):
    return a

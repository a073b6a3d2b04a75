"""Returns NaN, which the platform would take and lose.

status: FAILED
attempts: 1
reason: ^\\$\\.price: nan is not a JSON number
"""

from user_agent_sdk import user_agent


@user_agent(agent_id="returns_nan")
def work():
    return {"price": float("nan")}

"""What pydantic refuses is final.

needs: pydantic
input: {"order": {"qty": "x"}, "retries": 2}
status: FAILED
attempts: 1
reason: ^\\$\\.order: .*valid integer
"""

from pydantic import BaseModel

from user_agent_sdk import user_agent


class Order(BaseModel):
    qty: int

@user_agent(agent_id="a_pydantic_misfit")
def work(order: Order):
    return order

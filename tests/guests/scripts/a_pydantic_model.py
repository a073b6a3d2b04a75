"""A model of pydantic, in and out.

needs: pydantic
input: {"order": {"qty": "2"}}
output: {"qty": 2}
"""

from pydantic import BaseModel

from user_agent_sdk import user_agent


class Order(BaseModel):
    qty: int

@user_agent(agent_id="a_pydantic_model")
def work(order: Order):
    return order

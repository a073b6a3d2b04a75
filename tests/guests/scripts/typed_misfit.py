"""What does not fit names its place; no second try.

input: {"order": {"lines": [{"qty": 1}, {"qty": "x"}]}, "retries": 2}
status: FAILED
attempts: 1
reason: ^\\$\\.order\\.lines\\[1\\]\\.qty: 'x' is not a whole number$
"""

from dataclasses import dataclass
from typing import List

from user_agent_sdk import user_agent


@dataclass
class Line:
    qty: int

@dataclass
class Order:
    lines: List[Line]

@user_agent(agent_id="typed_misfit")
def work(order: Order):
    return order.lines[0].qty

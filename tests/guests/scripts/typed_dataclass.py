"""A nested dataclass by annotation.

input: {"order": {"lines": [{"sku": "a", "qty": "2", "price": "1.50"}], "due": "2026-01-31"}}
output: {"result": ["3.00", 31]}
"""

from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import List, Optional

from user_agent_sdk import user_agent


@dataclass
class Line:
    sku: str
    qty: int
    price: Decimal

@dataclass
class Order:
    lines: List[Line]
    due: Optional[date] = None

@user_agent(agent_id="typed_dataclass")
def work(order: Order):
    return [sum(line.qty * line.price for line in order.lines), order.due.day]

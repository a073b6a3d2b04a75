"""Returns a dataclass with a Decimal in it.

output: {"net": "10.50", "lines": [{"sku": "a"}]}
"""

from dataclasses import dataclass
from decimal import Decimal

from user_agent_sdk import user_agent


@dataclass
class Line:
    sku: str

@dataclass
class Invoice:
    net: Decimal
    lines: list

@user_agent(agent_id="returns_dataclass")
def work():
    return Invoice(Decimal("10.50"), [Line("a")])

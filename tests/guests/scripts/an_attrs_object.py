"""An object of attrs.

needs: attrs
output: {"qty": 2}
"""

import attr

from user_agent_sdk import user_agent


@attr.s(auto_attribs=True)
class Order:
    qty: int

@user_agent(agent_id="an_attrs_object")
def work():
    return Order(2)

"""An Optional that the input lacks.

output: {"result": null}
"""

from typing import Optional

from user_agent_sdk import user_agent


@user_agent(agent_id="typed_optional")
def work(amount: Optional[int]):
    return amount

"""Annotations as 0.2.0's examples have them.

input: {"num1": 2}
output: {"result": ["dict", 2]}
"""

from logging import Logger

from user_agent_sdk import user_agent


@user_agent(agent_id="typed_as_in_old_scripts")
def work(input_data: dict, logger: Logger):
    return [type(input_data).__name__, input_data["num1"]]

"""The smallest agent: adds two numbers.

    python -m user_agent_sdk invoke examples/sum_agent.py -i examples/sum.json
"""

from logging import Logger

from user_agent_sdk import user_agent


@user_agent()
def sum_agent(input_data: dict, logger: Logger):
    # These lines are shown with the task on the platform.
    logger.info("Processing task input")
    num1 = input_data.get("num1", 0)
    num2 = input_data.get("num2", 0)
    return num1 + num2

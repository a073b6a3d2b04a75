"""A RootModel of a list as the whole result: an output is an object all the same.

needs: pydantic
output: {"result": [1, 2]}
"""

from pydantic import RootModel

from user_agent_sdk import user_agent


@user_agent(agent_id="a_pydantic_root")
def work():
    return RootModel[list[int]]([1, 2])

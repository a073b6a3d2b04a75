"""What of pydantic is no object or no plain text: a RootModel, an HttpUrl, a SecretStr.

needs: pydantic
output: {"root": [1, 2], "url": "https://example.com/", "secret": "**********"}
"""

from pydantic import HttpUrl, RootModel, SecretStr

from user_agent_sdk import user_agent


class Numbers(RootModel[list[int]]):
    pass

@user_agent(agent_id="pydantic_values")
def work():
    return {"root": Numbers([1, 2]), "url": HttpUrl("https://example.com"), "secret": SecretStr("secret")}

"""Raises an exception whose __getattr__ raises: a failed try, with its text.

status: FAILED
reason: ^ApiError: the api said no$
"""

from user_agent_sdk import user_agent


class ApiError(Exception):
    def __init__(self, data):
        super().__init__("the api said no")
        self.data = data

    def __getattr__(self, name):
        return self.data[name]

@user_agent(agent_id="raises_what_knows_no_attributes")
def work():
    raise ApiError({"code": 5})

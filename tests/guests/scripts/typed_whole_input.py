"""input_data as a TypedDict.

input: {"name": "Ann", "born": "2000-01-31"}
output: {"result": ["Ann", 2000]}
"""

from datetime import date
from typing import TypedDict

from user_agent_sdk import user_agent


class Person(TypedDict):
    name: str
    born: date

@user_agent(agent_id="typed_whole_input")
def work(input_data: Person):
    return [input_data["name"], input_data["born"].year]

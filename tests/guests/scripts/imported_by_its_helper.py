"""A module that it imports imports the script once more, under another name.

alone: run
output: {"result": 1}
"""

import importlib.util

from user_agent_sdk import user_agent


if __name__ != "again":
    again = importlib.util.spec_from_file_location("again", __file__)
    again.loader.exec_module(importlib.util.module_from_spec(again))

@user_agent(agent_id="imported_by_its_helper")
def work():
    return 1

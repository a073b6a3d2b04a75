"""warnings as errors, in all threads.

alone: run
output: {"result": 1}
"""

import warnings

from user_agent_sdk import user_agent


warnings.simplefilter("error")

@user_agent(agent_id="makes_warnings_errors")
def work():
    return 1

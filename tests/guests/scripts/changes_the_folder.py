"""os.chdir in the task: history and journal stay.

alone: run
options: -r --journal here
files: execution_history.db here
output: {"result": "done"}
"""

import os
import tempfile

from user_agent_sdk import user_agent


@user_agent(agent_id="changes_the_folder")
def work():
    os.chdir(tempfile.gettempdir())
    return "done"

"""A folder of its own that goes with the task.

output: {"result": false}
"""

import os
import tempfile

from user_agent_sdk import user_agent


@user_agent(agent_id="a_temporary_folder")
def work():
    with tempfile.TemporaryDirectory() as folder:
        kept = folder
    return os.path.exists(kept)

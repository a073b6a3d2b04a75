"""Puts an object with write() alone in place of stdout, and nothing in place of stderr: a clean end.

alone: run
output: {"result": 1}
err: Stopped
"""

import sys

from user_agent_sdk import user_agent


class Tee:
    def write(self, text):
        return len(text)

@user_agent(agent_id="leaves_a_stream_that_only_writes")
def work():
    sys.stdout, sys.stderr = Tee(), None
    return 1

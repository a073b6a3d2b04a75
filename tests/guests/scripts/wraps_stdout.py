"""The idiom for UTF-8 on Windows, and then a print.

alone: invoke
out: ^{"result": 1}$
"""

import io
import sys

from user_agent_sdk import user_agent


sys.stdout = io.TextIOWrapper(sys.stdout.buffer, encoding="utf-8")
sys.stderr = io.TextIOWrapper(sys.stderr.detach(), encoding="utf-8")

@user_agent(agent_id="wraps_stdout")
def work():
    print("é")
    return 1

"""subprocess.run, with a pipe.

output: {"result": "5"}
"""

import subprocess
import sys

from user_agent_sdk import user_agent


@user_agent(agent_id="starts_a_program")
def work():
    done = subprocess.run([sys.executable, "-c", "print(2 + 3)"], stdout=subprocess.PIPE, check=True)
    return done.stdout.decode().strip()

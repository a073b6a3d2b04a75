"""signal.signal works in the main thread alone, and says so.

status: FAILED
reason: main thread
"""

import signal

from user_agent_sdk import user_agent


@user_agent(agent_id="a_signal_handler_in_a_task")
def work():
    signal.signal(signal.SIGINT, signal.SIG_IGN)

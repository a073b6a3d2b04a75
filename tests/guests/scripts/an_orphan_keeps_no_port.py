"""A child that outlives the worker: the status port is free for the next one.

alone: run
fork: yes
port: yes
output: {"result": true}
"""

import os
import signal
import threading

from user_agent_sdk import user_agent


@user_agent(agent_id="an_orphan_keeps_no_port")
def work():
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        os.setsid()
        for number in (0, 1, 2, reader):
            os.close(number)
        signal.alarm(20)
        os.write(writer, b"x")
        threading.Event().wait()
    return os.read(reader, 1) == b"x"

"""A session that a start hook opens and a stop hook closes, on the loop of all tasks.

alone: run
options: --max-tasks 3
exit: 0
times: 3
output: {"result": "open"}
files: closed.txt
"""

import asyncio
from pathlib import Path

from user_agent_sdk import on_start, on_stop, user_agent


session = {}

@on_start
async def opens():
    session["state"], session["loop"] = "open", asyncio.get_running_loop()

@on_stop
async def closes():
    if session["loop"] is asyncio.get_running_loop():
        Path("closed.txt").touch()

@user_agent(agent_id="opens_and_closes", loop="shared", workers=3)
async def work():
    return session["state"] if session["loop"] is asyncio.get_running_loop() else "another loop"

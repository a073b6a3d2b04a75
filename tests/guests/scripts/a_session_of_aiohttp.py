"""One session of the module for all tasks.

needs: aiohttp
times: 4
output: {"result": false}
"""

import aiohttp

from user_agent_sdk import user_agent


kept = {}

@user_agent(agent_id="a_session_of_aiohttp", workers=2, loop="shared")
async def work():
    session = kept.setdefault("session", aiohttp.ClientSession())
    return session.closed

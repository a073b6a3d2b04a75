"""Many small waits at once: an async agent that asks several services and collects what they say.

    python -m user_agent_sdk invoke examples/async_agent.py
"""

import asyncio

from user_agent_sdk import user_agent


async def ask(name):
    await asyncio.sleep(0.05)  # stands for a request to some service
    return name, len(name)


@user_agent()
async def fan_out(logger, names=("stock", "price", "tax")):
    logger.info("asking %d services", len(names))
    return dict(await asyncio.gather(*(ask(name) for name in names)))

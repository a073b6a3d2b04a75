"""A task that takes long: its lease is kept while it runs, and it ends early when the worker stops.

    python -m user_agent_sdk invoke examples/long_agent.py

``current_task().key`` is the same over all tries of one step of a workflow: give it to a payment or an
ERP system as its idempotency key, and a retry books nothing twice.
"""

from user_agent_sdk import current_task, user_agent


@user_agent(timeout_s=3600)
def import_rows(logger, rows=100):
    task = current_task()
    logger.info("attempt %d", task.attempt)
    done = 0
    for row in range(rows):
        if task.stopping.wait(0.01):  # also the pace: a row every 10 ms
            raise RuntimeError(f"the worker is stopping; {done} of {rows} rows are done")
        logger.debug("row %d under %s/%d", row, task.key, row)
        done += 1
    return {"imported": done}

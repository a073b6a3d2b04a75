"""A database that is opened and closed in the task.

output: {"result": [[1]]}
"""

import contextlib
import sqlite3

from user_agent_sdk import user_agent


@user_agent(agent_id="sqlite_in_its_thread")
def work():
    with contextlib.closing(sqlite3.connect(":memory:")) as db:
        return db.execute("SELECT 1").fetchall()

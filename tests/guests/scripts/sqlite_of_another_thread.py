"""A connection of the main thread: sqlite's own error, which names the threads.

status: FAILED
reason: ProgrammingError.*thread
"""

import sqlite3

from user_agent_sdk import user_agent


db = sqlite3.connect(":memory:")

@user_agent(agent_id="sqlite_of_another_thread")
def work():
    return db.execute("SELECT 1").fetchall()

"""Returns dates, which become ISO text.

output: {"result": ["2026-01-31", "2026-01-31T08:00:00"]}
"""

import datetime

from user_agent_sdk import user_agent


@user_agent(agent_id="returns_tuple_of_dates")
def work():
    return (datetime.date(2026, 1, 31), datetime.datetime(2026, 1, 31, 8))

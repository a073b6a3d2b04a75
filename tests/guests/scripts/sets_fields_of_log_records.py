"""A record factory that gives every line a task_id and an agent_id of its own: the worker's lines have ours.

alone: run
options: --log-format json
times: 2
output: {"result": 1}
err: "agent_id": "sets_fields_of_log_records", "task_id": "[0-9a-f]
"""

import logging

from user_agent_sdk import user_agent


class Record(logging.LogRecord):
    def __init__(self, *given, **more):
        super().__init__(*given, **more)
        self.task_id = self.agent_id = "-"

logging.setLogRecordFactory(Record)

@user_agent(agent_id="sets_fields_of_log_records")
def work():
    return 1

"""Excel's CSV begins with a mark: utf-8-sig takes it away.

output: {"result": ["name"]}
"""

import csv
import io

from user_agent_sdk import user_agent


@user_agent(agent_id="a_csv_from_excel")
def work():
    raw = "\ufeffname\r\nAnn\r\n".encode()
    return list(csv.DictReader(io.TextIOWrapper(io.BytesIO(raw), "utf-8-sig")).fieldnames)

"""Dates, decimals, paths and ids by annotation.

input: {"day": "2026-01-31", "sum": 10.5, "file": "a/b.csv", "key": "12345678-1234-5678-1234-567812345678"}
output: {"result": [1, "21.0", "b.csv", "1234"]}
"""

from datetime import date
from decimal import Decimal
from pathlib import Path
from uuid import UUID

from user_agent_sdk import user_agent


@user_agent(agent_id="typed_scalars")
def work(day: date, sum: Decimal, file: Path, key: UUID):
    return [day.month, sum * 2, file.name, key.hex[:4]]

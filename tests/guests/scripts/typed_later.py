"""A class that is defined after the function, with postponed annotations.

input: {"box": {"size": "3"}}
output: {"result": 3}
"""

from __future__ import annotations

from dataclasses import dataclass

from user_agent_sdk import user_agent


@user_agent(agent_id="typed_later")
def work(box: Box):
    return box.size

@dataclass
class Box:
    size: int | None = None

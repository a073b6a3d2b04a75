"""Returns a Path and a UUID.

output: {"result": ["a/b", "12345678-1234-5678-1234-567812345678"]}
"""

from pathlib import PurePosixPath
from uuid import UUID

from user_agent_sdk import user_agent


@user_agent(agent_id="returns_path_and_uuid")
def work():
    return [PurePosixPath("a/b"), UUID("12345678-1234-5678-1234-567812345678")]

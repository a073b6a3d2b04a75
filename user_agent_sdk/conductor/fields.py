# SPDX-License-Identifier: Apache-2.0
"""An object of the wire read in snake case: ``task.workflow_task.name``, as Conductor's own clients have it."""

from __future__ import annotations

import re
from typing import Any

# Of a task; one that the platform left out is None. Whatever else the platform sent can be read too.
TASK_FIELDS = {
    "callback_after_seconds", "callback_from_worker", "correlation_id", "domain", "end_time", "executed",
    "execution_name_space", "external_input_payload_storage_path", "external_output_payload_storage_path",
    "first_start_time", "input_data", "isolation_group_id", "iteration", "loop_over_task", "output_data",
    "parent_task_id", "poll_count", "queue_wait_time", "rate_limit_frequency_in_seconds", "rate_limit_per_frequency",
    "reason_for_incompletion", "reference_task_name", "response_timeout_seconds", "retried", "retried_task_id",
    "retry_count", "scheduled_time", "seq", "start_delay_in_seconds", "start_time", "status", "sub_workflow_id",
    "subworkflow_changed", "task_def_name", "task_definition", "task_id", "task_type", "update_time", "worker_id",
    "workflow_instance_id", "workflow_priority", "workflow_task", "workflow_type",
}  # fmt: skip


def camel(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(map(str.capitalize, others))


def snake(name: str) -> str:
    return re.sub("[A-Z]", lambda found: "_" + found[0].lower(), name)


class Fields(dict[str, Any]):
    """A JSON object whose keys, as they came, are attributes in snake case too; what is absent is None."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        value = self.get(camel(name))
        return Fields(value) if type(value) is dict else value

    def to_dict(self) -> dict[str, Any]:
        return {snake(key): value for key, value in self.items()}

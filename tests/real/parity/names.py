# SPDX-License-Identifier: Apache-2.0
"""The names that modules of 0.2.0 and 0.3.0 have, by their own imports too: of the package, and of Conductor's models
of a task. Not those of the standard library, of rich and cyclopts, of other modules of ``conductor.client``, and the
functions of single commands, which ``app`` has."""

_MODELS = "conductor.client.http.models"
NAMES: dict[str, str] = {
    "user_agent_sdk": "user_agent register_user_agent __version__ decorators",
    "user_agent_sdk.decorators": "user_agent user_agent_registry clear_user_agent_registry register_user_agent",
    "user_agent_sdk.user_agent_runner": "AUTH_URL SERVICE_URL DEFAULT_BASE_URL AgentWorker RunnerConfig UserAgentRunner"
    " generate_auth_url generate_service_url get_logger logger user_agent_registry",
    "user_agent_sdk.agent_worker": "AgentLogHandler AgentWorker NonRetryableException Task TaskExecLog TaskResult"
    " TaskResultStatus execution_history get_logger logger",
    "user_agent_sdk.credentials": "Credentials generate_auth_url",
    "user_agent_sdk.cli": "app cli run main",
    "user_agent_sdk.cli.cli": "LogLevelType app configure_logging get_logger logger",
    "user_agent_sdk.cli.run": "get_logger logger run_command",
    "user_agent_sdk.utils.exception": "NonRetryableException",
    "user_agent_sdk.utils.logger": "LogLevelType configure_logging get_logger",
    "user_agent_sdk.utils.agent_log_handler": "AgentLogHandler",
    "user_agent_sdk.utils.execution_history": "ExecutionHistory execution_history",
    "user_agent_sdk.utils.url_generator": "generate_auth_url generate_service_url",
    _MODELS: "Task TaskExecLog TaskResult TaskResultStatus task task_exec_log task_result task_result_status",
    f"{_MODELS}.task": "Task TaskResult TaskResultStatus",
    f"{_MODELS}.task_result": "TaskExecLog TaskResult TaskResultStatus",
    f"{_MODELS}.task_exec_log": "TaskExecLog",
    f"{_MODELS}.task_result_status": "TaskExecLog TaskResult TaskResultStatus",
}

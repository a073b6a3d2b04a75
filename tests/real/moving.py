# SPDX-License-Identifier: Apache-2.0
"""The README's recipe for scripts of conductor-python, done by a program: what it does to a script is what the README
tells a reader to do, and no more. ``USERAGENT_CONDUCTOR_EXAMPLES`` names the folder ``examples`` of conductor-python
2.0.0's repository; its published packages have none."""

from __future__ import annotations

import ast
from typing import Any

OURS = {
    "worker_task": "user_agent",
    "get_task_context": "current_task",
    "TaskInProgress": "TaskResult",
    "TaskResultStatus": "TaskStatus",
    **{name: name for name in ("Task", "TaskResult", "NonRetryableException")},
}
OPTIONS = {
    "task_definition_name": "agent_id",
    "thread_count": "workers",
    "poll_interval_millis": "poll_interval",
    "domain": "domain",
    "worker_id": "worker_id",
}
CONTEXT = {
    "get_task_id": "task_id",
    "get_workflow_instance_id": "workflow_instance_id",
    "get_retry_count": "task.retry_count",
    "get_poll_count": "task.poll_count",
    "get_input": "input_data",
    "add_log": "logger.info",
}
ARGUMENTS = {"output": "output_data"}  # of a TaskInProgress


class Mover(ast.NodeTransformer):
    def __init__(self) -> None:
        self.gone: set[str] = set()  # names that were imported from conductor and are served by nobody here

    def visit_ImportFrom(self, node: ast.ImportFrom) -> Any:
        if not (node.module or "").startswith("conductor."):
            return node
        names = [alias.name for alias in node.names]
        self.gone.update(name for name in names if name not in OURS)
        kept = [ast.alias(OURS[name]) for name in names if name in OURS]
        return ast.ImportFrom("user_agent_sdk", kept, 0) if kept else None

    def visit_Name(self, node: ast.Name) -> ast.AST:
        return ast.Name(OURS.get(node.id, node.id), node.ctx)

    def visit_Call(self, node: ast.Call) -> ast.AST:
        name = node.func.id if isinstance(node.func, ast.Name) else ""
        method = node.func.attr if isinstance(node.func, ast.Attribute) else ""
        if name == "worker_task":
            node.keywords = [ast.keyword(OPTIONS[one.arg], one.value) for one in node.keywords if one.arg in OPTIONS]
        if name == "TaskInProgress":
            node.keywords = [ast.keyword(ARGUMENTS.get(one.arg or "", one.arg), one.value) for one in node.keywords]
            node.keywords.insert(0, ast.keyword("status", ast.Constant("IN_PROGRESS")))
        if method in CONTEXT:
            assert isinstance(node.func, ast.Attribute)
            node.func.attr = CONTEXT[method]
            if method != "add_log":
                return self.generic_visit(node.func)
        return self.generic_visit(node)

    def visit_FunctionDef(self, node: Any) -> ast.AST:
        """What the input may lack gets a default: conductor-python passes None for it."""
        if node.decorator_list:
            parameters = node.args.args
            while len(node.args.defaults) < len(parameters) and _is_optional(
                parameters[-1 - len(node.args.defaults)].annotation
            ):
                node.args.defaults.insert(0, ast.Constant(None))
        return self.generic_visit(node)

    visit_AsyncFunctionDef = visit_FunctionDef  # noqa: N815


def _is_optional(annotation: ast.AST | None) -> bool:
    return isinstance(annotation, ast.Subscript) and ast.unparse(annotation.value) == "Optional"


def moved(source: str) -> str:
    """The script as it runs here. What starts the workers, and all else that needs what is not served, goes."""
    mover = Mover()
    module = mover.visit(ast.parse(source))
    module.body = [one for one in module.body if not _needs(one, mover.gone)]
    return ast.unparse(ast.fix_missing_locations(module))


def _needs(statement: ast.stmt, names: set[str]) -> bool:
    """Whether it uses one of ``names``, to which what it defines is added then."""
    found = {node.id for node in ast.walk(statement) if isinstance(node, ast.Name)}
    if names.isdisjoint(found):
        return isinstance(statement, ast.If) and "__name__" in found
    if isinstance(statement, ast.Assign):
        names.update(target.id for target in statement.targets if isinstance(target, ast.Name))
    if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef)):
        names.add(statement.name)
    return True

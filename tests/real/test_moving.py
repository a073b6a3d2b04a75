# SPDX-License-Identifier: Apache-2.0
"""Scripts of conductor-python, moved by the README's recipe, complete on the real engine."""

from __future__ import annotations

import os
import shutil
import tempfile
import unittest
import uuid
from pathlib import Path
from typing import Any

from . import RealTestCase
from .moving import moved
from .worker import Worker

EXAMPLES = os.environ.get("USERAGENT_CONDUCTOR_EXAMPLES", "")
LONG_S = 90.0
SCRIPT = """
import asyncio
from dataclasses import dataclass
from typing import List, Optional, Union

from conductor.client.automator.task_handler import TaskHandler
from conductor.client.configuration.configuration import Configuration
from conductor.client.context import TaskInProgress, get_task_context
from conductor.client.http.models import Task, TaskResult
from conductor.client.http.models.task_def import TaskDef
from conductor.client.http.models.task_result_status import TaskResultStatus
from conductor.client.worker.exception import NonRetryableException
from conductor.client.worker.worker_task import worker_task

@dataclass
class Line:
    sku: str
    quantity: int

@dataclass
class Order:
    number: str
    lines: List[Line]
    note: Optional[str] = None

definition = TaskDef(name="moved-order", retry_count=3)

@worker_task(task_definition_name="moved-order", thread_count=3, task_def=definition, register_task_def=True)
async def order(order: Order, coupon: Optional[str], currency: str = "EUR") -> Order:
    await asyncio.sleep(0.01)
    order.note = f"{coupon} {currency} {sum(line.quantity for line in order.lines)}"
    return order

@worker_task(task_definition_name="moved-domain", domain="far", poll_interval_millis=100, lease_extend_enabled=True)
def in_a_domain(name: str) -> str:
    return name.upper()

@worker_task(task_definition_name="moved-task")
def whole(task: Task) -> TaskResult:
    result = task.to_task_result(TaskResultStatus.COMPLETED)
    result.add_output_data("given", task.input_data)
    return result

@worker_task(task_definition_name="moved-never")
def never():
    raise NonRetryableException("not this one")

@worker_task(task_definition_name="moved-pages", poll_timeout=200)
def pages(job: str) -> Union[dict, TaskInProgress]:
    ctx = get_task_context()
    ctx.add_log(f"{job}: page {ctx.get_poll_count()}, 100 %")
    if ctx.get_poll_count() < 3:
        return TaskInProgress(callback_after_seconds=1, output={"page": ctx.get_poll_count()})
    return {"job": ctx.get_input()["job"], "ids": [ctx.get_task_id(), ctx.get_workflow_instance_id()],
            "retries": ctx.get_retry_count()}

def start_workers(configuration):
    return TaskHandler(configuration=configuration, scan_for_annotated_workers=True)

def main():
    with start_workers(Configuration()) as handler:
        handler.start_processes()
        handler.join_processes()

if __name__ == "__main__":
    main()
"""
USER = {
    "id": 1, "name": "Ada", "username": "ada", "email": "ada@example.com", "phone": "1", "website": "example.com",
    "address": {"street": "s", "suite": "1", "city": "c", "zipcode": "z", "geo": {"lat": "1", "lng": "2"}},
    "company": {"name": "n", "catchPhrase": "c", "bs": "b"},
}  # fmt: skip
PLACE = {"street": "1 Main St", "city": "Springfield", "state": "IL", "zip_code": "62704"}
ORDER = {
    "order_id": "O-1",
    "customer_name": "Jane",
    "shipping_address": PLACE,
    "billing_address": PLACE,
    "contact": {"email": "jane@example.com", "mobile": None},
    "items": [{"sku": "S-1", "quantity": 2, "price": 19.5}, {"sku": "S-2", "quantity": 1, "price": 1}],
    "tags": ["new"],
}
HISTORY = [{"role": "user", "message": "hi"}]
MAIL = {"email": "a@example.com", "subject": "s", "body": "b"}
JOB = {"job_id": "j", "status": "completed", "result": "success", "total_time_seconds": 5, "total_polls": 5}
# Of each published example: task types, an input, and what the output must have.
Case = tuple[str, dict[str, Any], dict[str, Any]]
PUBLISHED: dict[str, list[Case]] = {
    "helloworld/greetings_worker.py": [
        ("greet", {"name": "Ada"}, {"result": "Hello, --> Ada"}),
        ("greet_sync", {"name": "Ada"}, {"result": "Hello Ada"}),
        ("greet_async", {"name": "Ada"}, {}),
    ],
    "shell_worker.py": [("task_with_retries2", {}, {"result": "hello"})],
    "dynamic_workflow.py": [
        ("get_user_email", {"userid": "ada"}, {"result": "ada@example.com"}),
        ("send_email", MAIL, {"result": None}),
    ],
    "metrics_example.py": [
        ("async_http_task", {"url": "u"}, {"url": "u", "status": "success"}),
        ("async_data_processor", {"data": "abc"}, {"processed": "ABC", "length": 3}),
        ("async_batch_processor", {"items": [1, 2]}, {"results": ["processed_1", "processed_2"]}),
        ("sync_cpu_task", {"n": 10}, {"result": 285}),
    ],
    "task_context_example.py": [
        ("task_info_example", {"data": {}}, {"retry_count": 0, "result": "processed"}),
        ("logging_example", {"order_id": "o", "items": [1, 2]}, {"items_processed": 2, "status": "completed"}),
        ("retry_aware_example", {"operation": "x"}, {"status": "success", "operation": "x"}),
        ("input_access_example", {"a": 1, "b": 2}, {"input_count": 2}),
    ],
    "worker_example.py": [
        ("fetch_user_data", {"user_id": "7"}, {"user_id": "7", "name": "User 7"}),
        ("send_notification", {"user_id": "7", "message": "m"}, {"status": "sent"}),
        ("async_returns_none", {"data": {}}, {"result": None}),
        (
            "process_image",
            {"image_url": "i", "filters": ["f"]},
            {"output_url": "i_processed", "filters_applied": ["f"]},
        ),
        ("generate_report", {"report_type": "r", "date_range": {"from": "1"}}, {"date_range": {"from": "1"}}),
        ("long_running_task", {"job_id": "j"}, JOB),
    ],
    "task_workers.py": [
        (
            "save_order",
            {"order_details": {"order_id": 1, "sku": "s", "quantity": 2, "sku_price": 1.5}},
            {"sku_price": 3.0},
        ),
    ],
    "user_example/user_workers.py": [("update_user", {"user": USER}, {"user_id": 1, "username": "ada"})],
    "workers_e2e.py": [
        ("calculate", {"n": 10}, {"result": 55}),
        ("process_complex_order", {"order": ORDER}, {"items_count": 2, "total_price": 40.0}),
        ("long_running_task", {}, {"status": "completed", "total_polls": 5}),
    ],
    "worker_discovery/my_workers/order_tasks.py": [
        ("process_order", {"order_id": "o", "amount": 1.5}, {"status": "processed", "amount": 1.5}),
        ("validate_order", {"order_id": "o", "items": [1]}, {"valid": True, "item_count": 1}),
        ("cancel_order", {"order_id": "o", "reason": "r"}, {"status": "cancelled"}),
    ],
    "worker_discovery/my_workers/payment_tasks.py": [
        ("process_payment", {"order_id": "o", "amount": 1, "payment_method": "p"}, {"transaction_id": "txn_o"}),
        ("refund_payment", {"transaction_id": "t", "amount": 1}, {"status": "refunded"}),
    ],
    "worker_discovery/other_workers/notification_tasks.py": [
        ("send_email", {"to": "t", "subject": "s", "body": "b"}, {"to": "t", "status": "sent"}),
        ("send_sms", {"phone": "1", "message": "m"}, {"phone": "1", "status": "sent"}),
    ],
    "worker_configuration_example.py": [
        ("process_order", {"order_id": "o"}, {"worker_type": "standard"}),
        ("critical_task", {"task_id": "t"}, {"task_id": "t", "priority": "critical"}),
        ("background_task", {"job_id": "j"}, {"priority": "low"}),
    ],
    "spawn_safety_probe.py": [("pickle_probe_task", {"x": 21}, {"doubled": 42})],
    "lease_extension_example.py": [("lease_heartbeat_demo_task", {"job_id": "j"}, {"status": "completed"})],
    "kitchensink.py": [("route", {"country": "US"}, {"result": "routing the packages to US"})],
    "agentic_workflow.py": [
        ("get_weather", {"city": "Miami", "units": "celsius"}, {"temperature": 29.4}),
        ("search_products", {"query": "kitchen"}, {"total_found": 1}),
        ("calculate", {"expression": "2 + 2"}, {"result": 4, "success": True}),
        ("send_notification", {"recipient": "r", "message": "m"}, {"channel": "email"}),
    ],
    "agentic_workflows/llm_chat.py": [("chat_collect_history", {"history": HISTORY}, {"result": HISTORY})],
    "agentic_workflows/multiagent_chat.py": [("build_moderator_messages", {"history": HISTORY}, {})],
    "orkes/task_status_change_audit.py": [
        ("audit_log", {"workflow_input": {"a": 1}, "status": "s", "name": "n"}, {"result": None}),
        ("simple_task_1", {}, {"result": "OK"}),
    ],
    "orkes/wait_for_webhook.py": [("send_email", MAIL, {"result": None})],
}


class Moved(RealTestCase):
    def start(self, task_type: str, given: dict[str, Any], domain: str = "") -> str:
        name = f"moved {uuid.uuid4().hex}"
        self.stack.register_task(task_type, retry_count=9, response_timeout_s=10)
        self.stack.register_workflow(name, [task_type], inputs=list(given))
        domains = {task_type: domain} if domain else {}
        wanted = {"name": name, "version": 1, "input": given, "taskToDomain": domains}
        return str(self.stack.api("POST", "/workflow", wanted))

    def ended(self, workflow_id: str, status: str = "COMPLETED") -> dict[str, Any]:
        """The last try of its task."""
        workflow = self.stack.wait(workflow_id, timeout_s=LONG_S)
        task: dict[str, Any] = workflow["tasks"][-1]
        self.assertEqual((workflow["status"], task["status"]), (status, task["status"]), task)
        return task

    def test_a_script_moved_by_the_recipe_does_what_it_did(self) -> None:
        """What conductor-python offers a function, in one script."""
        given_order = {"number": "1", "lines": [{"sku": "a", "quantity": 2}, {"sku": "b", "quantity": 3}]}
        order = self.start("moved-order", {"order": given_order})
        far = self.start("moved-domain", {"name": "ada"}, domain="far")
        whole = self.start("moved-task", {"n": 1})
        never = self.start("moved-never", {})
        pages = self.start("moved-pages", {"job": "j"})
        with Worker(moved(SCRIPT), None, "--conductor", self.stack.conductor_url) as worker:
            self.assertEqual(self.ended(order)["outputData"], {**given_order, "note": "None EUR 5"})
            self.assertEqual(self.ended(far)["outputData"], {"result": "ADA"})
            self.assertEqual(self.ended(whole)["outputData"], {"given": {"n": 1}})
            failed = self.ended(never, "FAILED")
            self.assertEqual(failed["status"], "FAILED_WITH_TERMINAL_ERROR")
            self.assertIn("not this one", failed["reasonForIncompletion"])
            task = self.ended(pages)
            self.assertEqual(task["outputData"]["ids"], [task["taskId"], pages])
            self.assertEqual((task["outputData"]["job"], task["outputData"]["retries"]), ("j", 0))
            self.assertEqual(worker.stop(), 0)
        logged = self.stack.task_logs(task["taskId"])
        self.assertEqual(logged, [f"j: page {page}, 100 %" for page in (1, 2, 3)])

    @unittest.skipUnless(EXAMPLES, "USERAGENT_CONDUCTOR_EXAMPLES names no folder of conductor-python's examples")
    def test_the_published_examples_moved_by_the_recipe_complete(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder, "examples")
            shutil.copytree(EXAMPLES, root)
            for script in PUBLISHED:
                (root / script).write_text(moved((root / script).read_text("utf-8")), "utf-8")
            for script, cases in PUBLISHED.items():
                with self.subTest(script):
                    self.run_published(root, script, cases)

    def run_published(self, root: Path, script: str, cases: list[Case]) -> None:
        domain = "dev" if "configuration" in script else ""
        ids = [self.start(task_type, given, domain) for task_type, given, _ in cases]
        worker = Worker("", None, "--conductor", self.stack.conductor_url, folder=root)
        worker.script = root / script
        with worker:
            for workflow_id, (task_type, _, wanted) in zip(ids, cases):
                task = self.ended(workflow_id)
                print(f"{script}: {task_type}: {task['status']} {task['outputData']}")
                self.assertEqual({**task["outputData"], **wanted}, task["outputData"], task_type)
            self.assertEqual(worker.stop(), 0, worker.log)

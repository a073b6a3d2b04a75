# SPDX-License-Identifier: Apache-2.0
"""Every fact of the protocol but its paths: fields, limits, and what a reply to a report means.

Rules of this file: no I/O, no clock, no thread, no logger; of ours it imports errors, fields and an encoder. Facts were
read off Conductor OSS 3.32.1 and are held by ``tests/conformance.py``, which runs against that server and against our
own sandbox; ``tests/releases.py`` tells in what others differ."""

from __future__ import annotations

import enum
import json
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import PlatformError
from ..prepared import json_encoder
from .fields import TASK_FIELDS, Fields, camel

TASKS_MAX = 10  # of a reply: each beyond the first is handed back, and a peer must not choose how much work that is
LONG_POLL_MAX_MS = 5000  # a batch poll that asks for more is a 400
LARGE_BYTES = 3 * 1024 * 1024  # by default: an output over this is kept aside, or not taken where there is no store
REASON_MAX_CHARS = 500  # the server cuts reasonForIncompletion there
ID_MAX_CHARS = 255  # the server's own columns hold no more
DEFAULT_RESPONSE_TIMEOUT_S = 3600.0  # a task definition's own default
PLATFORM_TASK_ID = "__task_id__"
PLATFORM_AGENT_ID = "__deployed_workflow_id__"

if TYPE_CHECKING:
    from typing import Literal

    StatusName = Literal["COMPLETED", "FAILED", "FAILED_WITH_TERMINAL_ERROR", "IN_PROGRESS", "CANCELED"]


class TaskStatus(str, enum.Enum):
    """The statuses that a worker may report. ``FAILED`` is retried by the platform while the
    task definition's ``retryCount`` allows; ``FAILED_WITH_TERMINAL_ERROR`` never is."""

    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    FAILED_WITH_TERMINAL_ERROR = "FAILED_WITH_TERMINAL_ERROR"
    IN_PROGRESS = "IN_PROGRESS"
    CANCELED = "CANCELED"

    def __str__(self) -> str:
        return self.value


def _text(value: object) -> str | None:
    """Ids and names: what can't stand in one line of a log (or be UTF-8: a lone surrogate) is none."""
    return value if isinstance(value, str) and len(value) <= ID_MAX_CHARS and value.isprintable() else None


def _count(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 2**31 else 0


class Task:
    """A task as the platform handed it out. The fields of the wire in snake case: those below as checked values, any
    other that the reply carried (``scheduled_time``, ``workflow_task.name``, …) as it came, ``None`` when it was
    absent; AttributeError for what is no field. ``input_data`` holds no platform key (``__name__``);
    ``platform_task_id`` and ``platform_agent_id`` have those. Times on the wire are epoch milliseconds. A test may make
    one of ``fields`` in snake case alone."""

    def __init__(self, wire: Mapping[str, Any] | None = None, **fields: Any) -> None:
        self.wire = wire = {camel(name): value for name, value in fields.items()} if wire is None else wire
        self.raw = b""  # the reply that brought this task and no other
        self.fault: str | None = None  # why the task can't be run, though its ids are known
        self.task_id = _text(wire.get("taskId")) or ""
        self.workflow_instance_id = _text(wire.get("workflowInstanceId")) or ""
        self.task_type = _text(wire.get("taskType"))
        self.task_def_name = _text(wire.get("taskDefName")) or self.task_type
        self.reference_task_name = _text(wire.get("referenceTaskName"))
        self.retried_task_id = _text(wire.get("retriedTaskId"))
        self.retry_count = _count(wire.get("retryCount"))
        self.poll_count = _count(wire.get("pollCount"))
        self.response_timeout_s = _seconds(wire.get("responseTimeoutSeconds"))
        self.input_data = own_input(wire)
        self.output_data = _object(wire.get("outputData"))
        given = _object(wire.get("inputData"))
        self.platform_task_id = _text(given.get(PLATFORM_TASK_ID))
        self.platform_agent_id = _text(given.get(PLATFORM_AGENT_ID))

    def __repr__(self) -> str:
        return f"Task(task_id={self.task_id!r}, workflow_instance_id={self.workflow_instance_id!r})"

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name == "wire" or not (name in TASK_FIELDS or camel(name) in self.wire):
            raise AttributeError(f"a task has no {name!r}")
        return Fields(self.wire).__getattr__(name)

    def to_dict(self) -> dict[str, Any]:
        """Every field that a task may have, in snake case."""
        fields = {name: getattr(self, name) for name in sorted(TASK_FIELDS)}
        return {name: value.to_dict() if isinstance(value, Fields) else value for name, value in fields.items()}

    def to_str(self) -> str:
        return str(self.to_dict())

    def to_task_result(self, status: TaskStatus | StatusName = TaskStatus.COMPLETED) -> TaskResult:
        return TaskResult(self.task_id, self.workflow_instance_id, status)

    @property
    def attempt(self) -> int:
        """1 for the first try, and one more for each retry by the platform."""
        return self.retry_count + 1

    @property
    def key(self) -> str:
        """The same over all tries of one step of one workflow: an idempotency key."""
        return f"{self.workflow_instance_id}/{self.reference_task_name or self.task_def_name or self.task_id}"


def _object(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _seconds(value: object) -> float | None:
    """A response timeout in seconds, or None for what makes no sense (absent, negative, next to nothing, text)."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if 0.01 <= value < 10**8 else None


def own_input(wire: Mapping[str, Any]) -> dict[str, Any]:
    """A task's input without the platform's keys (``__name__``); its values are the wire's own."""
    given = _object(wire.get("inputData"))
    return {k: v for k, v in given.items() if k[:2] != "__" or k[-2:] != "__"}


class LogLine(NamedTuple):
    """One line of a task's log; ``created_ms`` is epoch milliseconds."""

    log: str
    created_ms: int


class TaskResult:
    """What is reported for a task. ``output_data`` is the task's output, a JSON object.

    A function may return one to choose the status itself: with ``IN_PROGRESS`` and ``callback_after_seconds`` the
    platform stores the output and hands the task out again later."""

    def __init__(
        self, task_id: str = "", workflow_instance_id: str = "", status: TaskStatus | StatusName = TaskStatus.COMPLETED,
        output_data: Mapping[str, Any] | None = None, reason_for_incompletion: str | None = None,
        callback_after_seconds: int | None = None, worker_id: str | None = None, logs: Sequence[LogLine] = (),
        extend_lease: bool | None = None,
    ) -> None:  # fmt: skip
        self.task_id, self.workflow_instance_id, self.worker_id = task_id, workflow_instance_id, worker_id
        self.status, self.output_data, self.logs = TaskStatus(status), output_data, logs
        self.reason_for_incompletion = reason_for_incompletion
        self.callback_after_seconds = callback_after_seconds
        self.extend_lease = extend_lease
        self.encoded_output = b""  # output_data as JSON, where that is known

    def __repr__(self) -> str:
        return f"TaskResult(task_id={self.task_id!r}, status={self.status.value!r})"

    def add_output_data(self, key: str, value: Any) -> TaskResult:
        """Set one key of the output; the result itself comes back."""
        known = self.output_data if isinstance(self.output_data, dict) else {}
        self.output_data = {**known, key: value}
        return self

    def to_wire(self) -> dict[str, Any]:
        """The report's JSON object; what is None is left out (the server takes null for a value)."""
        wire: dict[str, Any] = {
            "workflowInstanceId": self.workflow_instance_id,
            "taskId": self.task_id,
            "workerId": self.worker_id,
            "status": self.status.value,
            "outputData": self.output_data,
            "reasonForIncompletion": self.reason_for_incompletion,
            "callbackAfterSeconds": self.callback_after_seconds,
            "extendLease": self.extend_lease,
        }
        if self.logs:
            wire["logs"] = [{"log": text, "taskId": self.task_id, "createdTime": at_ms} for text, at_ms in self.logs]
        return {key: value for key, value in wire.items() if value is not None}

    def to_json(self) -> bytes:
        """The report's body. Raises what :func:`encode` does, RecursionError and TypeError."""
        wire = self.to_wire()
        if not self.encoded_output:
            return encode(wire)
        del wire["outputData"]
        return b'%b,"outputData":%b}' % (encode(wire)[:-1], self.encoded_output)


def encode(value: object) -> bytes:
    """JSON as the platform takes it: compact UTF-8, and ValueError for NaN or Infinity."""
    return _encoded(value).encode("utf-8")


_encoded = json_encoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))


class Verdict(enum.Enum):
    """What a reply to a report means for that report."""

    APPLIED = "applied"
    MAYBE = "maybe applied"  # repeat a report that may be sent twice
    LATER = "not now"  # repeat the report
    REFUSED = "refused for good"
    AUTH = "not authorized"


def classify(status: int, media_type: str, body: bytes, ids: Sequence[str] = ()) -> tuple[Verdict, str]:
    """The verdict on a reply, and its reason in the peer's own words, of any length and with any secret in them.

    A 500 with ``"retryable": false`` is final (NaN, a depth over 1000, a bad status) unless it says that the server has
    no such route, which may come with a roll-out; a 404 is final only when it names one of ``ids``. The text of a 2xx
    is not checked, but an HTML page is somebody else's answer."""
    if 200 <= status < 300:
        if is_web_page(media_type, body):
            return Verdict.MAYBE, f"HTTP {status} with a web page, not the platform's reply"
        return Verdict.APPLIED, ""
    if 300 <= status < 400:
        return Verdict.LATER, f"HTTP {status}: redirects are not followed; serviceUrl must be the service's own address"
    reply = json_object(body)
    told = (reply.get(key) for key in ("message", "error_description", "error"))
    said = " ".join(filter(None, (next((text for text in told if isinstance(text, str)), ""), _details(reply))))
    reason = f"HTTP {status}: {said}" if said else f"HTTP {status}"
    if status in (401, 403):
        return Verdict.AUTH, reason
    if status == 413 or (status == 400 and reply):
        return Verdict.REFUSED, reason
    if status == 500 and reply.get("retryable") is False and not _NO_ROUTE.match(str(reply.get("message"))):
        return Verdict.REFUSED, reason
    if status == 404 and any(name and name in str(reply.get("message", "")) for name in ids):
        return Verdict.REFUSED, reason
    return Verdict.LATER, reason


def _details(reply: Mapping[str, Any]) -> str:
    """What Conductor finds wrong with single fields: three of its messages, in an order of ours, since it has none."""
    errors = reply.get("validationErrors")
    told = [_object(error).get("message") for error in errors] if isinstance(errors, list) else []
    return "; ".join(sorted(text for text in told if isinstance(text, str))[:3])


# Spring's two sentences, which Conductor hands on as a 500: the first where another method has that path (3.13).
_NO_ROUTE = re.compile(r"Request method '\w+' (is )?not supported|No static resource ")


def is_web_page(media_type: str, body: bytes) -> bool:
    """A portal's or a proxy's page: the platform itself answers in JSON or plain text."""
    return media_type == "text/html" or body[:64].lstrip()[:1] == b"<"


def json_object(body: bytes) -> dict[str, Any]:
    """Empty when the body is anything else."""
    try:
        return _object(json.loads(body))
    except (ValueError, RecursionError):
        return {}


def parse_tasks(body: bytes) -> list[Task]:
    """The tasks in a reply to a poll or an update-v2: one, several (a batch poll's array), or none.

    What is not a well-formed task but has ids that say whose it is comes back with ``fault`` set, to be failed rather
    than stranded. Of more than ``TASKS_MAX`` (one was asked for) the rest is not looked at. Raises PlatformError when
    the reply is not the platform's."""
    if not body or body.isspace():
        return []
    try:
        reply = json.loads(body)
    except (ValueError, RecursionError) as error:
        return [_salvaged(body, type(error).__name__)]
    found = [_checked(item) for item in (reply[:TASKS_MAX] if isinstance(reply, list) else [reply])]
    tasks = [task for task in found if task is not None]
    if found and not tasks:
        raise PlatformError("the reply to the poll is not a task: it has no taskId or workflowInstanceId")
    if len(found) == 1:
        tasks[0].raw = body
    return tasks  # of several tasks, those without ids can't be reported: their leases end


def _checked(item: object) -> Task | None:
    task = Task(item) if isinstance(item, dict) else None
    if task is None or not task.task_id or not task.workflow_instance_id:
        return None
    given = task.wire.get("inputData")
    if given is not None and not isinstance(given, dict):
        task.fault = f"inputData is not an object but {type(given).__name__}"
    for kept_aside, data, what in _KEPT_ASIDE:
        if task.wire.get(kept_aside) and not task.wire.get(data):
            task.fault = f"the {what} did not arrive: it is over the server's limit (3 MB by default), {_ELSEWHERE}"
    return task


_KEPT_ASIDE = (("externalInputPayloadStoragePath", "inputData", "input"),
               ("externalOutputPayloadStoragePath", "outputData", "output of its last run"))  # fmt: skip
_ELSEWHERE = "which then keeps it in a store of its own; put the data elsewhere, and pass its path or address"


def _salvaged(body: bytes, why: str) -> Task:
    """The ids of a reply that is no JSON we can read (too deep, a number too long), if there is just
    one of each: a second one may belong to somebody else's task."""
    wire = {}
    for name in ("taskId", "workflowInstanceId"):
        found = set(re.findall(rb'"%s"\s*:\s*"([^"\\]{1,200})"' % name.encode(), body))
        wire[name] = found.pop().decode("utf-8", "replace") if len(found) == 1 else None
    task = _checked(wire)
    if task is None:
        raise PlatformError(f"the reply to the poll is not JSON ({why})")
    task.fault = f"the task's JSON can't be read ({why})"
    return task

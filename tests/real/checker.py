# SPDX-License-Identifier: Apache-2.0
"""Judges a chaos run from what the outside saw: the platform's workflows, the gateway's log, the agents' own file.

A run is one line that an agent wrote when its function began; an attempt is one task id of a workflow,
as the platform has it. Nothing that the worker says of itself is asked.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

DIED = "the worker process ended while the task ran"
STRIKES = 2  # a worker must survive one lost extension, whatever it was lost to
GRACE_S = 1.5  # the platform notices a lapsed lease that late
BACK_S = 0.5  # after an outage; an extension that failed is tried again after a tenth of the lease, 0.2 s
FIGURES = (
    "attempted",
    "completed",
    "failed as meant",
    "lost",
    "stuck",
    "not as meant",
    "runs",
    "task ids run",
    "most runs of a task id",
    "duplicates",
    "FAILED attempts",
    "of them by a kill",
    "TIMED_OUT attempts",
    "of them unexcused",
    "late COMPLETED, reused",
    "late COMPLETED, run again",
    "undone in the record",
    "thrown away",
)


class Run(NamedTuple):
    """One start of an agent's function. ``at_s`` is epoch seconds."""

    kind: str
    task_id: str
    pid: int
    at_s: float


class Sent(NamedTuple):
    """One request about a task, as the gateway saw it: a report, an extension, or the poll that gave it away."""

    at_s: float
    route: str
    task_id: str
    status: int  # the platform's answer; 0: it never got there
    fault: str | None
    result: str | None  # the status that was reported


class History(NamedTuple):
    """All that is known of a chaos run. Times are epoch seconds."""

    wanted: Mapping[str, str]  # workflow id -> COMPLETED or FAILED
    workflows: Mapping[str, Mapping[str, Any]]  # workflow id -> as the platform has it at the end
    runs: Sequence[Run]
    sent: Sequence[Sent]
    killed: Mapping[int, float]  # pid -> when
    away: Sequence[tuple[float, float]]  # when the platform could not be reached, or did not answer in time
    began_s: float = 0.0


class Verdict(NamedTuple):
    """``findings`` are what must not be: empty after a good run."""

    figures: dict[str, Any]
    findings: list[str]


def read_runs(path: Path) -> list[Run]:
    """The agents' file: a line ``kind task-id pid time`` for each run."""
    lines = path.read_text("ascii").splitlines() if path.exists() else []
    return [Run(kind, task_id, int(pid), float(at)) for kind, task_id, pid, at in map(str.split, lines)]


class Checker:
    """Use once: ``Checker(history).check()``."""

    def __init__(self, history: History) -> None:
        self._history = history
        self._findings: list[str] = []
        self._figures: Counter[str] = Counter()
        self._excuses: Counter[str] = Counter()
        self._runs: dict[str, list[Run]] = {}
        for run in history.runs:
            self._runs.setdefault(run.task_id, []).append(run)
        self._sent: dict[str, list[Sent]] = {}
        for sent in history.sent:
            self._sent.setdefault(sent.task_id, []).append(sent)
        self._chains_lost = [sent.at_s for sent in history.sent if sent.route == "update-v2" and sent.fault]

    def check(self) -> Verdict:
        for workflow_id, wanted in self._history.wanted.items():
            self._figures["attempted"] += 1
            workflow = self._history.workflows.get(workflow_id)
            if workflow is None:
                self._count("lost", f"workflow {workflow_id} is unknown to the platform")
            else:
                self._workflow(workflow_id, workflow, wanted)
        self._each_task_once()
        table = {name: self._figures[name] for name in FIGURES}
        return Verdict({**table, "excuses of TIMED_OUT": dict(self._excuses)}, self._findings)

    def _count(self, figure: str, finding: str) -> None:
        self._figures[figure] += 1
        self._findings.append(f"{figure}: {finding}")

    def _each_task_once(self) -> None:
        known = {task["taskId"] for workflow in self._history.workflows.values() for task in workflow["tasks"]}
        self._figures["runs"] = len(self._history.runs)
        self._figures["task ids run"] = len(self._runs)
        self._figures["most runs of a task id"] = max(map(len, self._runs.values()), default=0)
        for task_id, runs in self._runs.items():
            if len(runs) > 1:
                where = ", ".join(f"pid {run.pid} at {run.at_s:.2f}" for run in runs)
                self._count("duplicates", f"task {task_id} ran {len(runs)} times: {where}")
            if task_id not in known:
                self._findings.append(f"task {task_id} ran, and no workflow has it")

    def _workflow(self, workflow_id: str, workflow: Mapping[str, Any], wanted: str) -> None:
        status, tries = workflow["status"], workflow["tasks"]
        about = f"{workflow_id} {[(task['status'], task['taskId']) for task in tries[-4:]]}"
        if status == wanted:
            self._figures["completed" if wanted == "COMPLETED" else "failed as meant"] += 1
        elif status == "RUNNING":
            self._count("stuck", about)
        else:
            self._count("not as meant", f"{status} instead of {wanted}: {about}")
        lost, retried = 0, {task.get("retriedTaskId") for task in tries}
        for task in tries:
            # What is retried was given up, whatever a report that came at that moment made of it.
            lost += task["status"] in ("FAILED", "TIMED_OUT") or task["taskId"] in retried
            self._attempt(task, workflow)
        runs = sum(len(self._runs.get(task["taskId"], ())) for task in tries)
        if runs > 1 + lost:
            self._count("duplicates", f"{runs} runs of a workflow with {lost} lost attempts: {about}")
        if status == "COMPLETED":
            self._result(workflow, about)

    def _result(self, workflow: Mapping[str, Any], about: str) -> None:
        """The output names the task id whose run made it."""
        tries, made_by = workflow["tasks"], _made_by(workflow)
        if made_by not in self._runs or made_by not in {task["taskId"] for task in tries}:
            self._count("not as meant", f"its output is of no run of it ({made_by}): {about}")
        elif made_by != tries[-1]["taskId"]:
            self._figures["late COMPLETED, reused"] += 1
        if tries[-1]["status"] != "COMPLETED":
            # It counted; then Conductor stored an extension on top that it had worked on all the while.
            self._figures["undone in the record"] += 1

    def _attempt(self, task: Mapping[str, Any], workflow: Mapping[str, Any]) -> None:
        task_id, status = task["taskId"], task["status"]
        runs = self._runs.get(task_id, [])
        if status == "FAILED":
            self._figures["FAILED attempts"] += 1
            if DIED in (task.get("reasonForIncompletion") or ""):
                self._figures["of them by a kill"] += 1
                if runs and not any(run.pid in self._history.killed for run in runs):
                    self._findings.append(f"task {task_id} was given up for pid {runs[0].pid}, which was not killed")
        excuse = None
        if status == "TIMED_OUT":
            self._figures["TIMED_OUT attempts"] += 1
            excuse = self._excuse(task, runs)
            self._excuses[excuse or "none"] += 1
            if excuse is None:
                self._count("of them unexcused", f"the lease of {self._trail(task, runs)} was lost")
        if status != "COMPLETED" and self._was_taken(task_id, "COMPLETED"):
            counted = _made_by(workflow) == task_id
            if not counted and excuse is None:
                self._count("thrown away", f"COMPLETED was sent for {self._trail(task, runs)}")
            elif not counted:
                self._figures["late COMPLETED, run again"] += 1

    def _trail(self, task: Mapping[str, Any], runs: Sequence[Run]) -> str:
        """What is known of an attempt, for whoever looks for the cause; seconds count from its schedule, and that is
        told in seconds of the run."""
        from_s = task["scheduledTime"] / 1000
        steps = [(run.at_s, f"run by pid {run.pid}") for run in runs]
        steps += [(one.at_s, f"{one.route} {one.fault or one.status}") for one in self._sent.get(task["taskId"], ())]
        steps.append(((task.get("endTime") or 0) / 1000, str(task["status"])))
        told = ", ".join(f"{at_s - from_s:.2f} {what}" for at_s, what in sorted(steps))
        at_s = from_s - self._history.began_s
        return f"{task['taskDefName']} task {task['taskId']} of {task['workflowInstanceId']} at {at_s:.1f} s ({told})"

    def _was_taken(self, task_id: str, result: str) -> bool:
        """The platform said 200 to such a report, whether the worker heard it or not."""
        return any(sent.status == 200 and sent.result == result for sent in self._sent.get(task_id, ()))

    def _excuse(self, task: Mapping[str, Any], runs: Sequence[Run]) -> str | None:
        """Why a lease could not be kept; None when the worker alone is to blame."""
        from_s = (task.get("startTime") or task["scheduledTime"]) / 1000
        to_s = (task.get("endTime") or task.get("updateTime") or 0) / 1000
        sent = self._sent.get(task["taskId"], [])
        if _overlaps(from_s, to_s, self._history.away):
            return "the platform was away"
        if any(run.pid in self._history.killed for run in runs):
            return "its process was killed"
        if not runs and any(one.route == "poll" and one.fault for one in sent):
            return "the reply of the poll was lost"
        if not runs and any(abs(at_s - from_s) < GRACE_S for at_s in self._chains_lost):
            return "the reply of an update-v2 was lost, which may have brought it"
        polled_s = min([from_s - GRACE_S, *[one.at_s for one in sent if one.route == "poll"]])  # a poll may be kept
        if not runs and any(polled_s < at_s < to_s for at_s in self._history.killed.values()):
            return "a process was killed that may have polled it"
        if sum(one.fault is not None and one.route != "poll" for one in sent) >= STRIKES:
            return "its requests were struck"
        return None


def _made_by(workflow: Mapping[str, Any]) -> str | None:
    """The run whose result the workflow has: Conductor's default is its last task's output, as it was then."""
    output = workflow.get("output") or workflow["tasks"][-1].get("outputData") or {}
    run: str | None = output.get("run")
    return run


def _overlaps(from_s: float, to_s: float, spans: Iterable[tuple[float, float]]) -> bool:
    return any(begin < to_s and from_s < end + BACK_S for begin, end in spans)

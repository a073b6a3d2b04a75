# SPDX-License-Identifier: Apache-2.0
"""The platform's calls: poll, report, report-and-poll, extend. One attempt each; whoever calls decides
what to repeat, by the verdict that comes back."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, NamedTuple

from .. import logs
from ..errors import AuthRefusedError, PlatformError
from .paths import MAYBE_NO_ROUTE, NO_ROUTE_OF_3_13, Dialect, segment
from .reply import Response, TransportError
from .wire import Task, Verdict, classify, encode, is_web_page, json_object, parse_tasks

if TYPE_CHECKING:
    from .auth import TokenSource
    from .transport import Transport

log = logging.getLogger(__name__)

Ids = tuple[str, ...]  # of a task and its workflow

SHORT_POLL_HOLD_S = 0.1  # how long the server keeps a plain poll that finds nothing
POLL_SLACK_S = 10.0
REPORT_TIMEOUT_S = 30.0
RETRY_AFTER_MAX_S = 60.0
_ACCEPT = {"Accept": "application/json, text/plain"}
_ACCEPT_AND_CONTENT = {**_ACCEPT, "Content-Type": "application/json"}


class PollError(PlatformError):
    """A poll got no usable answer; ``retry_after_s`` is the server's wish, or None; the code is ``auth-refused``
    when it was the credentials or the token."""

    def __init__(self, message: str, retry_after_s: float | None = None, code: str | None = None) -> None:
        super().__init__(message, code=code)
        self.retry_after_s = retry_after_s


class Outcome(NamedTuple):
    """What became of a report, why in one line, how long the server asked us to wait, and the reply's HTTP status
    (0 without a reply)."""

    verdict: Verdict
    reason: str = ""
    retry_after_s: float | None = None
    status: int = 0


class Client:
    """Speaks one dialect to one base URL (``…/api``); safe to share between threads. Raises ConfigError when nothing
    can be sent there; later calls raise no such thing."""

    def __init__(self, transport: Transport, dialect: Dialect, base_url: str, auth: TokenSource | None) -> None:
        transport.check(base_url)
        self.transport, self.base_url, self.auth = transport, base_url, auth
        self._dialect = dialect
        self.can_wait = dialect.batch_poll is not None
        self.can_report_and_poll = dialect.report_and_poll is not None
        self.can_look = dialect.task is not None

    def send_poll(self, agent_id: str, worker_id: str, domain: str | None, wait_ms: int = 0) -> PollExchange:
        """Ask for a task, which is waited for in the server up to ``wait_ms`` (at most LONG_POLL_MAX_MS, and only where
        :attr:`can_wait`).

        The reply must be fetched, never cut short: the server gives the task away before it answers."""
        path = self._dialect.poll_path(agent_id, worker_id, domain, wait_ms)
        exchange = PollExchange(self, path, None, (wait_ms / 1000 or SHORT_POLL_HOLD_S) + POLL_SLACK_S)
        exchange.hold_s = wait_ms / 1000  # a plain one may give a task away at once
        return exchange

    def report(self, report: bytes, ids: Ids, timeout_s: float = REPORT_TIMEOUT_S) -> Outcome:
        """Send an encoded TaskResult; ``ids`` are its task's and workflow's, by which a 404 is told
        from a missing route. Never raises for what the platform or the network does."""
        return self.send_report(report, ids, timeout_s).fetch()

    def send_report(self, report: bytes, ids: Ids, timeout_s: float = REPORT_TIMEOUT_S) -> ReportExchange:
        """The first half of :meth:`report`."""
        return ReportExchange(self, self._dialect.report, report, timeout_s, ids)

    def report_and_poll(self, report: bytes, ids: Ids) -> tuple[Outcome, list[Task]]:
        """Report, and take the agent's next task in the same exchange. Must not be repeated: a repeat
        takes one more task. Servers older than 3.20 lack the route, and each says so in its own way: when a reply
        may mean that, the plain report follows at once; when that one is taken, only plain ones are sent from then
        on. When it fares no better, the report or the server was at fault and not the route."""
        path = self._dialect.report_and_poll if self.can_report_and_poll else None
        if path is None:
            return self.report(report, ids), []
        exchange = ReportExchange(self, path, report, REPORT_TIMEOUT_S, ids)
        outcome, reply = exchange.fetch(), exchange.reply
        is_of_the_task = outcome.status == 404 and outcome.verdict is Verdict.REFUSED
        if reply is not None and reply.status in MAYBE_NO_ROUTE and not is_of_the_task:
            refused, outcome = outcome, self.report(report, ids)
            if outcome.verdict is Verdict.APPLIED and self.can_report_and_poll:
                self.can_report_and_poll = False
                self.can_wait &= not refused.reason.startswith(NO_ROUTE_OF_3_13)
                text = "This server takes no update-v2 (%s); from now on plain reports"
                log.info(text, refused.reason, extra={"action": "no_update_v2"})
            return outcome, []
        if reply is None or outcome.verdict is not Verdict.APPLIED:
            return outcome, []
        try:
            return outcome, _in_time(parse_tasks(reply.body), exchange.age_s)
        except PlatformError as error:
            log.warning("A next task was lost to its lease: %s", error, extra={"action": "next_task_lost"})
            return outcome, []

    def extend(self, task_id: str, workflow_id: str, worker_id: str, timeout_s: float) -> Outcome:
        """Restart a running task's response timeout. Stores nothing else."""
        wire = {"workflowInstanceId": workflow_id, "taskId": task_id, "workerId": worker_id}
        body = encode({**wire, "status": "IN_PROGRESS", "extendLease": True})
        return ReportExchange(self, self._dialect.report, body, timeout_s, (task_id, workflow_id), urgent=True).fetch()

    def status_of(self, task_id: str, timeout_s: float) -> str:
        """What the platform says of a task (``IN_PROGRESS``, ``CANCELED``, …); empty without an answer. A gateway that
        has no such route is not asked again."""
        if self._dialect.task is None or not self.can_look:
            return ""
        try:
            reply = Exchange(self, self._dialect.task + segment(task_id), None, timeout_s, urgent=True).receive()
        except PlatformError:
            return ""
        if 400 <= reply.status < 500 and reply.status not in (401, 408, 429) and task_id.encode() not in reply.body:
            self.can_look = False
            log.info("Tasks can't be looked at here (HTTP %d)", reply.status, extra={"action": "no_look"})
        return str(json_object(reply.body).get("status", "")) if reply.status == 200 else ""


class Exchange:
    """One call of the platform, sent when it is made; a subclass's ``fetch`` awaits what comes of it. Both in one
    thread, which may have other exchanges under way meanwhile. ``hold_s``: how long the server may keep the request
    before it gives a task away."""

    hold_s = 0.0

    def __init__(
        self, client: Client, path: str, body: bytes | None, timeout_s: float, ids: Ids = (), *, urgent: bool = False
    ) -> None:
        self._ids = ids  # that a reply to a report may name
        self._client, self._url, self._body = client, client.base_url + path, body
        self._timeout_s, self._is_urgent = timeout_s, urgent
        self._failure: PlatformError | None = None  # of the sending, raised by the fetching
        self.send()

    def send(self) -> None:
        auth, transport = self._client.auth, self._client.transport
        method, headers = ("GET", _ACCEPT) if self._body is None else ("POST", _ACCEPT_AND_CONTENT)
        try:
            self._token = auth.headers(urgent=self._is_urgent) if auth is not None else {}
            self._connection = transport.send(
                method, self._url, headers={**headers, **self._token}, body=self._body, timeout_s=self._timeout_s
            )
        except PlatformError as error:
            self._failure = error

    def receive(self) -> Response:
        """The reply. A refused token is replaced once and the request, which had no effect, made again. Raises the
        PlatformError of either half."""
        reply, auth = self._fetched(), self._client.auth
        if reply.status in (401, 403) and auth is not None and auth.refused(self._token):
            self.send()
            reply = self._fetched()
        return reply

    def _fetched(self) -> Response:
        if self._failure is not None:
            raise self._failure
        return self._connection.fetch()

    @property
    def age_s(self) -> float:
        """How long ago the platform may have given away what the reply brings, at most: it may have come long before it
        was read, or have been long on its way."""
        return max(self._connection.age_s, time.monotonic() - self._connection.sent_at - self.hold_s)


class PollExchange(Exchange):
    def fetch(self) -> list[Task]:
        """The tasks that the platform gave away. Raises PollError."""
        try:
            reply = self.receive()
            if reply.status == 200 and not is_web_page(reply.media_type, reply.body):
                return _in_time(parse_tasks(reply.body), self.age_s)
        except PlatformError as error:
            raise PollError(str(error), code=error.code) from None
        if reply.status == 204:
            return []
        verdict, reason = classify(reply.status, reply.media_type, reply.body)
        said = logs.redactor.brief(reason) or f"HTTP {reply.status} is no answer to a poll"
        code = AuthRefusedError.code if verdict is Verdict.AUTH else None
        raise PollError(said, retry_after_s(reply), code)


class ReportExchange(Exchange):
    """A report; ``reply`` is the platform's, once it is fetched, or None."""

    reply: Response | None = None

    def fetch(self) -> Outcome:
        """The outcome of the report. Raises nothing for what the platform or the network does."""
        try:
            reply = self.reply = self.receive()
        except TransportError as error:
            return Outcome(Verdict.MAYBE if error.sent else Verdict.LATER, str(error))
        except PlatformError as error:
            return Outcome(Verdict.AUTH, error.message)
        verdict, reason = classify(reply.status, reply.media_type, reply.body, self._ids)
        if verdict is Verdict.APPLIED:
            return Outcome(verdict, "", None, reply.status)
        return Outcome(verdict, logs.redactor.brief(reason), retry_after_s(reply), reply.status)


def _in_time(tasks: list[Task], age_s: float) -> list[Task]:
    """The tasks whose leases are not over: while this process was stopped, or the computer slept, a reply may have
    waited here for so long that the platform gave its task to somebody else."""
    in_time = []
    for task in tasks:
        if task.response_timeout_s is None or age_s < task.response_timeout_s:
            in_time.append(task)
        else:
            text = "Task %s came up to %.0f s ago, and its response timeout is %g s: it is left to the platform"
            extra = {"action": "came_too_late", "task_id": task.task_id}
            log.warning(text, task.task_id, age_s, task.response_timeout_s, extra=extra)
    return in_time


def retry_after_s(reply: Response, wall: float | None = None) -> float | None:
    """Retry-After in seconds, of a number or an HTTP date, between 0 and a minute; None without one."""
    given = reply.headers.get("retry-after")
    if given is None:
        return None
    try:
        wait_s = float(given)
    except ValueError:
        from email.utils import parsedate_to_datetime  # urllib has loaded it
        try:
            wait_s = parsedate_to_datetime(given).timestamp() - (time.time() if wall is None else wall)
        except (TypeError, ValueError, OverflowError, IndexError, OSError):
            return None
    return min(max(wait_s, 0.0), RETRY_AFTER_MAX_S) if wait_s == wait_s else None

# SPDX-License-Identifier: Apache-2.0
"""The platform's calls: poll, report, report-and-poll, extend. One attempt each; whoever calls decides
what to repeat, by the verdict that comes back."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from email.utils import parsedate_to_datetime
from functools import partial
from typing import Callable, NamedTuple

from .. import logs
from ..errors import PlatformError
from .auth import TokenSource
from .transport import Response, Transport, TransportError
from .wire import MAYBE_NO_ROUTE, Dialect, Task, Verdict, classify, encode, is_web_page, parse_tasks

log = logging.getLogger(__name__)

SHORT_POLL_HOLD_S = 0.1  # how long the server keeps a plain poll that finds nothing
POLL_SLACK_S = 10.0
REPORT_TIMEOUT_S = 30.0
RETRY_AFTER_MAX_S = 60.0


class PollError(PlatformError):
    """A poll got no usable answer; ``retry_after_s`` is the server's wish, or None."""

    def __init__(self, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Outcome(NamedTuple):
    """What became of a report, why in one line, how long the server asked us to wait, and the reply's HTTP status
    (0 without a reply)."""

    verdict: Verdict
    reason: str = ""
    retry_after_s: float | None = None
    status: int = 0


class Client:
    """Speaks one dialect to one base URL (``…/api``); safe to share between threads.

    Raises ConfigError when nothing can be sent there; later calls raise no such thing.
    """

    def __init__(self, transport: Transport, dialect: Dialect, base_url: str, auth: TokenSource | None) -> None:
        transport.check(base_url)
        self._transport = transport
        self._dialect = dialect
        self._base_url = base_url
        self.auth = auth
        self.can_wait = dialect.batch_poll is not None
        self.can_report_and_poll = dialect.report_and_poll is not None

    def begin_poll(
        self, agent_id: str, worker_id: str, domain: str | None, wait_ms: int = 0
    ) -> Callable[[], list[Task]]:
        """Ask for a task, which is waited for in the server up to ``wait_ms`` where the dialect can.

        What is returned awaits the reply and raises PollError, for what failed here too. It must be called, in this
        thread, which may make other calls meanwhile; never cut short: the server gives the task away before it answers.
        """
        waiting = self._dialect.batch_poll_path(agent_id, worker_id, domain, wait_ms) if wait_ms else None
        path = waiting or self._dialect.poll_path(agent_id, worker_id, domain)
        hold_s = wait_ms / 1000 if waiting else SHORT_POLL_HOLD_S
        return partial(_tasks_in, self._begin(path, None, hold_s + POLL_SLACK_S))

    def report(self, report: bytes, ids: tuple[str, ...], timeout_s: float = REPORT_TIMEOUT_S) -> Outcome:
        """Send an encoded TaskResult; ``ids`` are its task's and workflow's, by which a 404 is told
        from a missing route. Never raises for what the platform or the network does."""
        return self.begin_report(report, ids, timeout_s)()

    def begin_report(
        self, report: bytes, ids: tuple[str, ...], timeout_s: float = REPORT_TIMEOUT_S
    ) -> Callable[[], Outcome]:
        """The first half of :meth:`report`, as :meth:`begin_poll`."""
        fetch = self._begin(self._dialect.report, report, timeout_s)
        return lambda: _outcome(fetch, ids)[0]

    def report_and_poll(self, report: bytes, ids: tuple[str, ...]) -> tuple[Outcome, list[Task]]:
        """Report, and take the agent's next task in the same exchange. Must not be repeated: a repeat
        takes one more task. Servers older than 3.20 lack the route, and each says so in its own way: when a reply
        may mean that, the plain report follows at once; when that one is taken, only plain ones are sent from then
        on. When it fares no better, the report or the server was at fault and not the route."""
        path = self._dialect.report_and_poll if self.can_report_and_poll else None
        if path is None:
            return self.report(report, ids), []
        outcome, reply = _outcome(self._begin(path, report, REPORT_TIMEOUT_S), ids)
        if reply is not None and reply.status in MAYBE_NO_ROUTE and not _names_the_task(outcome):
            refused, outcome = outcome, self.report(report, ids)
            if outcome.verdict is Verdict.APPLIED and self.can_report_and_poll:
                self.can_report_and_poll = False
                text = "This server takes no update-v2 (%s); from now on plain reports"
                log.info(text, refused.reason, extra={"action": "no_update_v2"})
            return outcome, []
        if reply is None or outcome.verdict is not Verdict.APPLIED:
            return outcome, []
        try:
            return outcome, parse_tasks(reply.body)
        except PlatformError as error:
            log.warning("A next task was lost to its lease: %s", error, extra={"action": "next_task_lost"})
            return outcome, []

    def extend(self, task_id: str, workflow_id: str, worker_id: str, timeout_s: float) -> Outcome:
        """Restart a running task's response timeout. Stores nothing else."""
        wire = {"workflowInstanceId": workflow_id, "taskId": task_id, "workerId": worker_id}
        body = encode({**wire, "status": "IN_PROGRESS", "extendLease": True})
        fetch = self._begin(self._dialect.report, body, timeout_s, urgent=True)
        return _outcome(fetch, (task_id, workflow_id))[0]

    def _begin(self, path: str, body: bytes | None, timeout_s: float, urgent: bool = False) -> Callable[[], Response]:
        """Send a request. What is returned fetches its reply, or raises the PlatformError of either half; a
        refused token is replaced once and the request, which had no effect, made again."""
        auth, url = self.auth, self._base_url + path
        method, headers = "GET", {"Accept": "application/json, text/plain"}
        if body is not None:
            method, headers["Content-Type"] = "POST", "application/json"

        def send() -> tuple[Callable[[], Response], dict[str, str]]:
            token = auth.headers(urgent=urgent) if auth is not None else {}
            sent = {**headers, **token}
            return self._transport.begin(method, url, headers=sent, body=body, timeout_s=timeout_s), token

        def fetch() -> Response:
            if failure is not None:
                raise failure
            reply = receive()
            if reply.status in (401, 403) and auth is not None and auth.refused(token):
                reply = send()[0]()
            return reply

        failure: PlatformError | None = None
        try:
            receive, token = send()
        except PlatformError as error:
            failure = error
        return fetch


def _outcome(fetch: Callable[[], Response], ids: Sequence[str]) -> tuple[Outcome, Response | None]:
    """What became of a report; the reply, if there is one."""
    try:
        reply = fetch()
    except TransportError as error:
        return Outcome(Verdict.MAYBE if error.sent else Verdict.LATER, error.message), None
    except PlatformError as error:
        return Outcome(Verdict.AUTH, error.message), None
    verdict, reason = classify(reply.status, reply.media_type, reply.body, ids)
    return Outcome(verdict, logs.redactor.brief(reason), retry_after_s(reply), reply.status), reply


def _names_the_task(outcome: Outcome) -> bool:
    """A 404 that is about the task: no missing route."""
    return outcome.status == 404 and outcome.verdict is Verdict.REFUSED


def _tasks_in(fetch: Callable[[], Response]) -> list[Task]:
    """The tasks in a poll's reply. Raises PollError."""
    try:
        reply = fetch()
        if reply.status == 200 and not is_web_page(reply.media_type, reply.body):
            return parse_tasks(reply.body)
    except PlatformError as error:
        raise PollError(error.message) from None
    if reply.status == 204:
        return []
    _, reason = classify(reply.status, reply.media_type, reply.body)
    raise PollError(logs.redactor.brief(reason) or f"HTTP {reply.status} is no answer to a poll", retry_after_s(reply))


def retry_after_s(reply: Response, wall: float | None = None) -> float | None:
    """Retry-After in seconds, of a number or an HTTP date, between 0 and a minute; None without one."""
    given = reply.headers.get("retry-after")
    if given is None:
        return None
    try:
        wait_s = float(given)
    except ValueError:
        try:
            wait_s = parsedate_to_datetime(given).timestamp() - (time.time() if wall is None else wall)
        except (TypeError, ValueError, OverflowError, IndexError, OSError):
            return None
    return min(max(wait_s, 0.0), RETRY_AFTER_MAX_S) if wait_s == wait_s else None

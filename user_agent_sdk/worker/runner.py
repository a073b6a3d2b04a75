# SPDX-License-Identifier: Apache-2.0
"""Builds a worker from settings and agents, runs it, drains it, stops it.

Stop order: polls first, then running functions, then deliveries; leases last, since a task that runs
or a result that waits needs its lease to the end.
"""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import random
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from typing import TYPE_CHECKING, Callable
from urllib.parse import urlsplit

from ..agents import Agent
from ..conductor.transport import is_loopback
from ..conductor.wire import LONG_POLL_MAX_MS, TaskResult, TaskStatus, Verdict, segment
from ..errors import EXIT_INTERRUPTED, EXIT_OK, EXIT_UNDELIVERED, AuthRefusedError, PlatformError
from ..logs import counted
from ..settings import AgentSettings, Settings
from . import signals
from .connect import connect
from .keeping import journal_file
from .keeping.adopt import take_over
from .keeping.delivery import Delivery
from .keeping.jobs import Execution, Job, Jobs
from .keeping.journal import Journal
from .keeping.lease import LeaseKeeper
from .keeping.timetable import Timetable
from .polling.backoff import CAP_S, LOCAL_CAP_S
from .polling.budget import Budget
from .polling.gate import Gate
from .polling.intake import Intake
from .slots import Services, Slot, finished
from .watched import Watch

if TYPE_CHECKING:
    from ..watching.waits import Waits

log = logging.getLogger(__name__)

STOP, LOOK = 0, -1  # among the numbers of signals: stop() was called, a slot has ended
LOOK_S = 0.5  # how long the main thread waits at a time: Windows does not interrupt a lock wait
SWEEP_S = 0.5
ADOPT_S = 60.0
OPEN_POLL_S = LONG_POLL_MAX_MS / 1000 + 1.0  # what a drain grants an open poll: cut off, it would still take a task
LAST_REPORT_S = 2.0
OVERTIME_S = 5.0  # after the drain timeout the process ends, whatever hangs


class Runner:
    """One worker: all slots of all agents of a script, against one platform.

    ``on_execution`` hears of each run after its report. ``owns_process``: a stop that can't be clean
    (a second signal, a drain that hangs) may end the process at once, without returning.
    """

    def __init__(
        self,
        settings: Settings,
        agents: Sequence[Agent],
        *,
        on_execution: Callable[[Execution], None] | None = None,
        watch: Watch | None = None,
        owns_process: bool = False,
    ) -> None:
        self._settings = settings
        self._owns_process = owns_process
        self._numbers: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._target = connect(settings)
        self._is_checking = True  # the credentials, which comes before all else
        self._budget = Budget(settings.max_tasks, self._wake_gates, len(agents) > 1)
        # Whose journal it is: a result must never reach another platform or tenant.
        whose = (settings.platform, settings.service_url, settings.client_id or "")
        folder = settings.journal_dir and journal_file.folder_of(settings.journal_dir, *whose)
        self._journal = Journal(folder, settings.journal_sync)
        leases = LeaseKeeper(self._target.client, self._back)
        self.watch = watch or Watch()
        jobs, counts = Jobs(), self.watch.counts
        self._services = Services(
            client=self._target.client,
            journal=self._journal,
            leases=leases,
            delivery=Delivery(
                self._target.client, self._journal, leases, jobs.release, on_contact=self._heard, counts=counts
            ),
            jobs=jobs,
            upkeep=Timetable("upkeep", lambda job: job(), 1),
            stopping=threading.Event(),
            counts=counts,
            on_execution=on_execution,
        )
        self._slots: list[Slot] = []
        self._gates: list[Gate] = []
        self.watch.attach(self._services, self._gates)
        for agent in agents:
            self._add(agent, settings.resolve(agent))
        self._futures: list[Future[None]] = []
        self._overtime: threading.Timer | None = None
        self._pool: ThreadPoolExecutor | None = None
        self._deadline: float | None = None  # of the drain, on the clock

    def _add(self, agent: Agent, own: AgentSettings) -> None:
        agent_id = own.agent_id or agent.name
        segment(agent_id)  # raises for what could never be polled for
        interval_s = own.poll_interval_ms / 1000
        cap_s = LOCAL_CAP_S if is_loopback(urlsplit(self._settings.service_url).hostname or "") else CAP_S
        intake = Intake(own.workers, interval_s, random.random, self._target.client.can_wait, cap_s)
        gate = Gate(
            self._target.client,
            agent_id,
            own.worker_id,
            own.domain,
            intake,
            self._services.stopping,
            self._budget,
            self._back,
            counts=self.watch.counts,
        )
        self._gates.append(gate)
        self.watch.counts.known(agent_id)
        self._slots += [Slot(agent, gate, own.timeout_s, self._services) for _ in range(own.workers)]

    # -- running -----------------------------------------------------------------------------------

    def run(self) -> int:
        """Work until told to stop; the exit code: 0, or 7 when something is undelivered or was cut off.

        Raises AuthRefusedError when the credentials are refused at the start.
        """
        with signals.into(self._numbers, breaks=lambda: self._is_checking):
            try:
                self._check_credentials()
            except KeyboardInterrupt:  # by a signal: nothing was begun that could be drained
                self._target.transport.close()
                return EXIT_OK
            finally:
                self._is_checking = False
            try:
                self._start()
                self._serve()
                return self._drain()
            finally:
                self._close()

    def stop(self, limit_s: float | None = None) -> None:
        """Begin to drain, or with ``limit_s`` end a drain sooner than its timeout would. From any thread."""
        if limit_s is not None:
            self._deadline = time.monotonic() + limit_s
        self._numbers.put(STOP)

    def close_status(self) -> None:
        """Give the status port free, for a successor."""
        self.watch.close()

    @property
    def running(self) -> int:
        return len(self._services.jobs.running())

    def waits(self) -> Waits:
        """What is waited for just now."""
        from ..watching.waits import Waits  # here: only those in there ask for it, and they may be left out

        services = self._services
        return Waits(
            self._pool is None and self._target.client.auth is not None,
            services.stopping.is_set(),
            len(services.jobs.running()),
            len(services.delivery),
            self._deadline,
            min((gate.next_at for gate in self._gates if gate.is_failing), default=None),
            services.delivery.next_at,
            any(gate.is_failing and gate.is_refused for gate in self._gates),
        )

    def _check_credentials(self) -> None:
        """A refusal now is a mistake that somebody should see; an outage is not, and is waited out."""
        auth = self._target.client.auth
        try:
            if auth is not None:
                auth.headers()
        except AuthRefusedError:
            self._target.transport.close()
            raise
        except PlatformError as error:
            log.warning("There is no token yet: %s; trying again", error, extra={"action": "no_token"})

    def _start(self) -> None:
        services = self._services
        if self._settings.status_port is not None:
            self.watch.open(self._settings.status_port)
        left = self._journal.open()
        services.leases.start()
        services.delivery.start()
        services.upkeep.start()
        take_over(services, left)
        services.upkeep.put("adopt", self._adopt, 0.0)
        services.upkeep.put("sweep", self._sweep, SWEEP_S)
        self._pool = ThreadPoolExecutor(max_workers=len(self._slots), thread_name_prefix="slot")
        for slot in self._slots:
            self._futures.append(self._pool.submit(slot.run))
            self._futures[-1].add_done_callback(lambda _: self._numbers.put(LOOK))

    def _serve(self) -> None:
        is_ready = False
        while not self._is_over():
            self.watch.beat("main")
            is_ready = is_ready or self._is_ready()
            with contextlib.suppress(queue.Empty):
                if self._numbers.get(timeout=LOOK_S) != LOOK:
                    return

    def _is_ready(self) -> bool:
        """Say once that every agent's poll was answered: nothing else tells a worker that waits from one that hangs."""
        if any(gate.polled_at is None for gate in self._gates):
            return False
        level = logging.INFO if self._owns_process else logging.DEBUG
        names = ", ".join(gate.agent_id for gate in self._gates)
        log.log(level, "Ready: waiting for tasks of %s; Ctrl+C ends it", names, extra={"action": "ready"})
        return True

    def _is_over(self) -> bool:
        """Every slot has ended (--max-tasks) or is stuck."""
        is_over = self._slots_at_work(0) <= 0
        if is_over and self._services.jobs.stuck:
            log.error("Every slot is stuck in a function past its timeout; stopping", extra={"action": "all_stuck"})
        return is_over

    def _wake_gates(self) -> None:
        for gate in self._gates:
            gate.wake()

    def _heard(self) -> None:
        """The platform took a result: polls need not wait out an outage. On the way of every task."""
        for gate in self._gates:
            if gate.is_failing:
                gate.wake()

    def _back(self) -> None:
        """The platform answers again: nobody need wait."""
        self._services.delivery.hurry()
        self._heard()

    # -- upkeep ----------------------------------------------------------------------------------------

    def _adopt(self) -> float:
        take_over(self._services, self._journal.adopt())
        return ADOPT_S

    def _sweep(self) -> float:
        self._journal.sweep()
        self.watch.beat("upkeep")
        return SWEEP_S

    # -- stopping ------------------------------------------------------------------------------------

    def _drain(self) -> int:
        services, limit_s = self._services, self._settings.drain_timeout_s or None
        if limit_s is not None and self._deadline is None:
            self._deadline = time.monotonic() + limit_s
        self._arm(limit_s)
        services.stopping.set()
        self._wake_gates()
        level = logging.INFO if self._owns_process else logging.DEBUG
        log.log(level, "Stopping; %s", counted(len(services.jobs.running()), "running task"), extra=_DRAIN_STARTED)
        self._await_slots()
        cut_off = self._cut_off()
        self._await_deliveries()
        left = self._undelivered()
        if left:
            fate = "kept in the journal" if self._journal.save() else "there is no journal: lost"
            log.error("Undelivered: %s; %s", counted(left, "result"), fate, extra={"action": "undelivered"})
        else:
            log.log(level, "Stopped", extra={"action": "stopped"})
        return EXIT_UNDELIVERED if left or cut_off or services.jobs.stuck else EXIT_OK

    def _arm(self, limit_s: float | None) -> None:
        """Whatever hangs, a stop ends. The timer takes no lock that somebody could hold."""
        if self._owns_process and limit_s is not None:
            self._overtime = threading.Timer(limit_s + OVERTIME_S, os._exit, (EXIT_UNDELIVERED,))
            self._overtime.name, self._overtime.daemon = "drain-limit", True
            self._overtime.start()

    def _is_late(self) -> bool:
        return self._deadline is not None and time.monotonic() >= self._deadline

    def _await_slots(self) -> None:
        polls_until = time.monotonic() + OPEN_POLL_S
        while self._slots_at_work(0.05) > 0:
            if self._is_late():
                return
            if time.monotonic() >= polls_until and not self._services.jobs.running() and not self._undelivered():
                return
            self._heed_signals()

    def _slots_at_work(self, wait_s: float) -> int:
        """How many slots have not ended, after a wait for that; those that are stuck never will."""
        return len(wait_for(self._futures, wait_s).not_done) - self._services.jobs.stuck

    def _undelivered(self) -> int:
        return sum(entry.is_pending for entry in self._journal.live().values())

    def _await_deliveries(self) -> None:
        self._services.delivery.hurry()
        while not self._services.delivery.flush(0.05):
            if self._is_late():
                return
            self._heed_signals()

    def _heed_signals(self) -> None:
        self.watch.beat("main")
        number = STOP
        with contextlib.suppress(queue.Empty):
            while number in (STOP, LOOK):
                number = self._numbers.get_nowait()
        if number not in (STOP, LOOK) and self._owns_process:
            log.warning("Stopped at once; what is undelivered is in the journal", extra={"action": "stopped_at_once"})
            os._exit(EXIT_INTERRUPTED)

    def _cut_off(self) -> int:
        """Report each task that still runs as failed: one attempt, all at once; how many there were."""
        jobs = [job for job in self._services.jobs.running() if job.give_up(_stopped(job))]
        if jobs:
            what = "Past the drain timeout: %s given up" if self._owns_process else "Stopped while %s ran"
            log.error(what, counted(len(jobs), "task"), extra={"action": "cut_off"})
            with ThreadPoolExecutor(max_workers=min(len(jobs), 32), thread_name_prefix="last-report") as pool:
                reports = [pool.submit(self._report_last, job) for job in jobs]
                while wait_for(reports, 0.05).not_done:
                    self._heed_signals()
        return len(jobs)

    def _report_last(self, job: Job) -> None:
        entry = finished(job, job.result or _stopped(job))
        self._services.leases.drop(job.lease)
        self._journal.replace(job.row, entry)
        sent_at = time.monotonic()
        outcome = self._target.client.report(entry.body, (entry.task_id, entry.workflow_id), LAST_REPORT_S)
        # An extension on its way may undo it: then the next worker reports it once more.
        if outcome.verdict is Verdict.APPLIED and job.lease.quiet_at <= sent_at:
            self._journal.free(job.row)

    def _close(self) -> None:
        self._services.stopping.set()
        self.close_status()
        for table in (self._services.upkeep, self._services.delivery, self._services.leases):
            table.close()
        for table in (self._services.upkeep, self._services.delivery, self._services.leases):
            table.join(1.0)
        if self._pool is not None:
            self._pool.shutdown(wait=not self.has_stragglers)
        self._journal.close()
        self._target.transport.close()
        if self._overtime is not None:
            self._overtime.cancel()  # a script may go on after its run()

    @property
    def has_stragglers(self) -> bool:
        """A thread of a function, or of a poll that hangs, is still there: it would block the exit."""
        return bool(wait_for(self._futures, 0).not_done)


def _stopped(job: Job) -> TaskResult:
    reason = "the worker was stopped while the task ran"
    return TaskResult(status=TaskStatus.FAILED, reason_for_incompletion=reason, worker_id=job.lease.worker_id)


_DRAIN_STARTED = {"action": "drain_started"}

# SPDX-License-Identifier: Apache-2.0
"""Builds a worker from settings and agents, runs it, drains it, stops it. Stop order: polls first, then running
functions, then deliveries; leases last, since a task that runs or a result that waits needs its lease to the end."""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import threading
import time
from collections.abc import Sequence
from typing import Callable
from urllib.parse import urlsplit

from ..agents import Agent
from ..conductor.client import Client
from ..conductor.paths import segment
from ..credentials import is_loopback
from ..errors import EXIT_INTERRUPTED, EXIT_OK, EXIT_UNDELIVERED, AuthRefusedError, PlatformError
from ..logs import counted, settle
from ..settings import AgentSettings, Settings
from . import signals
from .drain import Crew, Drain, keep_limit, no_threads
from .keeping import journal_file
from .keeping.custody import Custody
from .keeping.held import Run
from .keeping.journal import Journal
from .keeping.timetable import Timetable
from .polling.backoff import CAP_S, LOCAL_CAP_S, chance
from .polling.gate import Budget, Gate
from .polling.intake import Intake
from .running.context import AGENT_LOG, BY_NAME
from .running.event_loop import GRACE_S, SharedLoop
from .running.hooks import Hooks
from .slots import Services, Slot
from .watched import Watch

log = logging.getLogger(__name__)

STOP, LOOK = 0, -1  # among the numbers of signals: stop() was called, a slot has ended
LOOK_S = 0.5  # how long the main thread waits at a time: Windows does not interrupt a lock wait
SWEEP_S = 0.5
ADOPT_S = 60.0
OVERTIME_S = GRACE_S + 5.0  # after the drain timeout the process ends, whatever hangs


class Runner:
    """One worker: all slots of all agents of a script, against one platform: that of the settings, but for a ``client``
    of another. ``on_execution`` hears of each run after its report. ``owns_process``: a stop that can't be clean (a
    second signal, a drain that hangs) may end the process at once, without returning."""

    def __init__(
        self, settings: Settings, agents: Sequence[Agent], *, on_execution: Callable[[Run], None] | None = None,
        watch: Watch | None = None, owns_process: bool = False, client: Client | None = None,
    ) -> None:  # fmt: skip
        AGENT_LOG.addHandler(BY_NAME)
        self._settings, self._owns_process = settings, owns_process
        self._level = logging.INFO if owns_process else logging.DEBUG  # of the lines about its start and its end
        self._numbers: queue.SimpleQueue[int] = queue.SimpleQueue()
        if client is None:
            from .connect import connect
            client = connect(settings)[1]
        self.client = client
        self.is_checking = True  # the credentials, which comes before all else
        self._budget = Budget(settings.max_tasks, self._wake_gates, len(agents) > 1)
        # The journal's folder is named after these: a result must never reach another platform or tenant.
        whose = (settings.platform, settings.service_url, settings.client_id or "")
        folder = settings.journal_dir and journal_file.folder_of(settings.journal_dir, *whose)
        self._journal = Journal(folder, settings.journal_sync)
        self.watch = watch or Watch()
        stopping, counts = threading.Event(), self.watch.counts
        self._custody = Custody(
            self.client, self._journal, stopping, counts, on_run=on_execution,
            on_contact=self._heard, workers=sum(settings.resolve(agent).workers for agent in agents),
        )  # fmt: skip
        upkeep: Timetable[Callable[[], float | None]] = Timetable("upkeep", lambda job: job(), 1)
        self.services = Services(self.client, self._custody, upkeep, stopping, counts, SharedLoop())
        self._slots: list[tuple[int, Slot]] = []
        self.gates: list[Gate] = []
        self.watch.attach(self.services, self.gates)
        for agent in agents:
            self._add(agent, settings.resolve(agent))
        self._crew = Crew(on_end=lambda: self._numbers.put(LOOK))
        self.drain = Drain(self._crew, self._custody, self._heed_signals)
        self.hooks = Hooks(self.services.shared_loop.run)
        self._limits_s: queue.SimpleQueue[float | None] = queue.SimpleQueue()  # of a stop

    def _add(self, agent: Agent, own: AgentSettings) -> None:
        agent_id = own.agent_id or agent.name
        segment(agent_id)  # raises for an id that no address can hold
        cap_s = LOCAL_CAP_S if is_loopback(urlsplit(self._settings.service_url).hostname or "") else CAP_S
        intake = Intake(own.workers, own.poll_interval_ms / 1000, chance, cap_s)
        gate = Gate(
            self.client, agent_id, own.worker_id, own.domain, intake, self.services.stopping, self._budget,
            self._custody.contact, self.watch.counts, self._custody.held_up_s,
        )  # fmt: skip
        self.gates.append(gate)
        self.watch.counts.known(agent_id)
        # By number: where threads are short each agent gets one slot before any gets a second.
        self._slots += [(number, Slot(agent, gate, own.timeout_s, self.services)) for number in range(own.workers)]

    def run(self) -> int:
        """Work until told to stop; the exit code: 0, or 7 when something is undelivered or was cut off. Raises
        AuthRefusedError when the credentials are refused at the start, AgentError for a start hook."""
        settle()  # for the loggers of modules that were imported since the script was
        with signals.into(self._numbers):
            try:
                is_signalled = self._check_credentials()
                self.is_checking = False
                if is_signalled:  # nothing was begun that could be drained
                    return EXIT_OK
                self._start()
                self.drain.insist(self._serve)
                return self._end()
            finally:
                self._close()

    def stop(self, limit_s: float | None = None) -> None:
        """Begin to drain, or with ``limit_s`` end a drain sooner than its timeout would. From any thread."""
        if limit_s is not None:
            self.drain.deadline = time.monotonic() + limit_s
        self._numbers.put(STOP)

    @property
    def running(self) -> int:
        return len(self._custody.register.running())

    def _check_credentials(self) -> bool:
        """A refusal now is a mistake that somebody should see; an outage is not, and is waited out. True when a signal
        came meanwhile. The token is fetched by another thread, since Windows interrupts no connect()."""
        auth = self.client.auth
        if auth is None:
            return False
        errors: list[BaseException] = []

        def fetch() -> None:
            try:
                auth.headers()
            except BaseException as error:
                errors.append(error)
            self._numbers.put(LOOK)

        try:
            threading.Thread(target=fetch, name="credentials", daemon=True).start()
        except (RuntimeError, MemoryError) as error:
            raise no_threads(error) from None
        numbers: list[int] = []
        while LOOK not in numbers:
            with contextlib.suppress(queue.Empty):
                numbers.append(self._numbers.get(timeout=LOOK_S))
            if max(numbers, default=LOOK) > STOP:
                return True
        if STOP in numbers:  # what an ended process left is delivered before that
            self.stop()
        for failure in errors:
            if isinstance(failure, AuthRefusedError) or not isinstance(failure, PlatformError):
                raise failure
            log.warning("There is no token yet: %s; trying again", failure, extra={"action": "no_token"})
        return False

    def _start(self) -> None:
        services = self.services
        if self._settings.status_port is not None:
            self.watch.open(self._settings.status_port)
        left = self._journal.open()
        try:
            if self._owns_process:
                threading.Thread(target=keep_limit, args=(self._limits_s,), name="drain-limit", daemon=True).start()
            for table in (self._custody.leases, self._custody.delivery, services.upkeep):
                table.start()
        except (RuntimeError, MemoryError) as error:
            raise no_threads(error) from None
        self._custody.take_over(left)
        services.upkeep.put(self._adopt, 0.0)
        services.upkeep.put(self._sweep, SWEEP_S)
        if not self.hooks.start(self._is_told_to_stop):
            return
        if self._settings.capture_output:  # after the hooks, which may set up logging
            from .running import capture

            capture.start()
        self._crew.start([slot.run for _, slot in sorted(self._slots, key=lambda each: each[0])])

    def _is_told_to_stop(self) -> bool:
        """Asked while start hooks run: the first signal begins the drain, a second one ends the process."""
        if self.services.stopping.is_set():
            self._heed_signals()
        elif not self._numbers.empty():
            self._numbers.get()
            self.services.stopping.set()
        self.watch.beat("main")
        return self.services.stopping.is_set()

    def _serve(self) -> None:
        is_ready = False
        while not self._is_over():
            self.watch.beat("main")
            if not is_ready and all(gate.polled_at is not None for gate in self.gates):
                is_ready = True  # said once: nothing else tells a worker that waits from one that hangs
                names = ", ".join(gate.agent_id for gate in self.gates)
                log.log(self._level, "Ready: waiting for tasks of %s; Ctrl+C ends it", names, extra={"action": "ready"})
            with contextlib.suppress(queue.Empty):
                if self._numbers.get(timeout=LOOK_S) != LOOK:
                    return

    def _is_over(self) -> bool:
        """Every slot has ended (--max-tasks) or is stuck."""
        stuck = self._custody.register.stuck
        is_over = self._crew.at_work <= stuck
        if is_over and stuck:
            log.error("Every slot is stuck in a function past its timeout; stopping", extra={"action": "all_stuck"})
        return is_over

    def _wake_gates(self) -> None:
        for gate in self.gates:
            gate.wake()

    def _heard(self) -> None:
        """The platform answers: polls need not wait out an outage. On the way of every task."""
        for gate in self.gates:
            if gate.intake.is_failing:
                gate.wake()

    def _adopt(self) -> float:
        self._custody.take_over(self._journal.adopt())
        return ADOPT_S

    def _sweep(self) -> float:
        self._custody.watch()
        self._journal.sweep()
        self.watch.beat("upkeep")
        return SWEEP_S

    def _end(self) -> int:
        drain, limit_s = self.drain, self._settings.drain_timeout_s or None
        if limit_s is not None:
            drain.deadline = drain.deadline or time.monotonic() + limit_s
            self._limits_s.put(limit_s + OVERTIME_S)
        self.services.stopping.set()
        self._wake_gates()
        log.log(self._level, "Stopping; %s", counted(self.running, "running task"), extra={"action": "drain_started"})
        drain.insist(drain.await_slots)
        cut_off = drain.insist(drain.cancel_coroutines) + drain.insist(drain.cut_off)
        drain.insist(drain.await_deliveries)
        left = len(self._custody.register.pending())
        if left:
            fate = "kept in the journal" if self._journal.sweep(at_once=True) else "there is no journal: lost"
            log.error("Undelivered: %s; %s", counted(left, "result"), fate, extra={"action": "undelivered"})
        else:
            log.log(self._level, "Stopped", extra={"action": "stopped"})
        return EXIT_UNDELIVERED if left or cut_off or self._custody.register.stuck else EXIT_OK

    def _heed_signals(self) -> None:
        self.watch.beat("main")
        if signals.is_second(self._numbers) and self._owns_process:
            log.warning("Stopped at once; what is undelivered is in the journal", extra={"action": "stopped_at_once"})
            os._exit(EXIT_INTERRUPTED)

    def _close(self) -> None:
        self.services.stopping.set()
        if self.hooks.stop_s:
            self._limits_s.put(self.hooks.stop_s + 2 * OVERTIME_S)
            self.hooks.stop(self._heed_signals)
        self.watch.close()
        tables = (self.services.upkeep, self._custody.delivery, self._custody.leases)
        for table in tables:
            table.close()
        for table in tables:
            table.join(1.0)
        if not self._crew.at_work:
            self._crew.join(1.0)
        self.services.shared_loop.close()
        self._journal.close()
        self.client.transport.close()
        self._limits_s.put(None)  # a script may go on after its run()

    @property
    def has_stragglers(self) -> bool:
        """A thread of a function is still there, or of a report, not of a poll alone: it may block the exit."""
        return self._crew.at_work > sum(gate.intake.polling + gate.intake.riding for gate in self.gates)

# SPDX-License-Identifier: Apache-2.0
"""A supervisor's questions to a worker: is it alive, is it ready, what has it counted."""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Callable

from .._version import __version__, digest
from ..logs import counted
from ..worker.keeping.held import State
from ..worker.keeping.journal_file import ONCE, REJECTED, RESULT, TAKEN
from ..worker.watched import Watch
from .metrics import Metrics
from .server import StatusServer

if TYPE_CHECKING:
    from ..worker.polling.gate import Gate
    from ..worker.slots import Services

SILENT_S = 120.0  # a loop that is overdue by this hangs: the longest poll takes 90 s, on a slow line
ANSWERED_S = 30.0  # failing polls make a worker unready only when the last answer is older


class Status(Watch):
    """Counts what one worker does, and answers at the status port by asking its parts."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.counts: Metrics = Metrics()
        self.server: StatusServer | None = None
        self._clock = clock
        self._beats: dict[str, float] = {}  # when each of the worker's loops last came round, on the clock

    def attach(self, services: Services, gates: Sequence[Gate]) -> None:
        self._services, self._gates = services, gates

    def open(self, address: str) -> None:
        self.server = StatusServer(address, self.answer)

    def close(self) -> None:
        if self.server is not None:
            self.server.close()

    def beat(self, loop: str) -> None:
        self._beats[loop] = self._clock()

    def illness(self) -> list[str]:
        """Why the process should be replaced. An outage that only the platform can mend is no reason."""
        now = self._clock()
        found = [f"the {loop} loop hangs" for loop, at in list(self._beats.items()) if now - at > SILENT_S]
        found += [f"polling for {gate.agent_id} hangs" for gate in self._gates if gate.intake.overdue_s(now) > SILENT_S]
        stuck = self._services.custody.register.stuck
        return [*found, *([f"{counted(stuck, 'slot')} stuck in functions past their timeout"] if stuck else [])]

    def hindrances(self) -> list[str]:
        """Why tasks don't come, or don't end, just now."""
        now, auth = self._clock(), self._services.client.auth
        found = ["stopping"] if self._services.stopping.is_set() else []
        if auth is not None and not auth.left_s:
            found.append("there is no valid token")
        for gate in self._gates:
            intake = gate.intake
            if gate.polled_at is None:
                found.append(f"no poll for {gate.agent_id} was answered yet")
            elif (intake.is_failing and now - gate.polled_at > ANSWERED_S) or intake.overdue_s(now) > ANSWERED_S:
                found.append(f"no poll for {gate.agent_id} was answered for {now - gate.polled_at:.0f} s")
        return found

    def metrics(self) -> str:
        register, journal = self._services.custody.register, self._services.custody.journal
        active = Counter(held.entry.agent_id for held in register.running())
        rows = Counter(entry.state for entry in journal.live().values())
        gauges: dict[tuple[str, ...], float] = {("active_workers", g.agent_id): active[g.agent_id] for g in self._gates}
        gauges.update({("journal_depth", state): rows[state] for state in (TAKEN, RESULT, ONCE, REJECTED)})
        now, wall = self._clock(), time.time()
        for gate in self._gates:
            gauges["worker_slots", gate.agent_id] = gate.intake.workers
            answered_s = 0.0 if gate.polled_at is None else wall - (now - gate.polled_at)
            gauges["last_contact_timestamp_seconds", gate.agent_id] = answered_s
        auth = self._services.client.auth
        if auth is not None:
            gauges["token_expiry_timestamp_seconds",] = wall + auth.left_s if auth.left_s else 0.0
        ended = [held for held in register.pending() if held.state not in (State.TAKEN, State.RUNNING)]
        since = min((held.ended_s or held.started_s for held in ended), default=wall)
        gauges["oldest_undelivered_seconds",] = max(0.0, wall - since)
        gauges["stuck_workers",] = register.stuck
        gauges["journal_on_disk",] = int(journal.is_on_disk)
        gauges["user_agent_sdk_info", __version__, digest()] = 1
        return self.counts.render({**gauges, **_process()})

    def answer(self, path: str) -> tuple[str, str, str]:
        """The HTTP status, media type and body for a path."""
        if path == "/metrics":
            return "200 OK", "text/plain; version=0.0.4; charset=utf-8", self.metrics()
        if path not in ("/healthz", "/readyz"):
            return "404 Not Found", "text/plain", "/healthz, /readyz and /metrics are here\n"
        problems = self.illness() if path == "/healthz" else self.hindrances()
        body = json.dumps({"ok": not problems, "problems": problems}) + "\n"
        return "503 Service Unavailable" if problems else "200 OK", "application/json", body


_STARTED_AT = time.time()  # the module is loaded with the worker


def _process() -> dict[tuple[str, ...], float]:
    """What Prometheus' own clients tell of a process; memory and descriptors on Linux alone."""
    found: dict[tuple[str, ...], float] = {("process_start_time_seconds",): _STARTED_AT}
    found["process_cpu_seconds",] = time.process_time()
    with suppress(OSError, ValueError, IndexError):
        resident_kb = Path("/proc/self/status").read_text("utf-8", "replace").partition("VmRSS:")[2].split()[0]
        found["process_resident_memory_bytes",] = int(resident_kb) * 1024
        found["process_open_fds",] = len(os.listdir("/proc/self/fd"))
    return found

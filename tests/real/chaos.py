# SPDX-License-Identifier: Apache-2.0
"""A seeded chaos run against the real servers: workers are killed, the gateway fails, Conductor is stopped and started.

    python -m tests.real.chaos [--workflows 1000] [--seed N] [--processes 4] [--minutes M]

Prints what was done when, how often each fault struck, and the figures of ``checker.py``; exit 1 when
anything was lost, stuck, thrown away or run twice. ``--short`` is the form of ``test_chaos.py``; with
``--dialect conductor`` the workers talk to Conductor itself, as with ``--conductor``; ``--peer PYTHON`` runs
conductor-python, of that interpreter, in their place.
"""

from __future__ import annotations

import argparse
import contextlib
import heapq
import http.client
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from . import chaos_agents, servers
from .checker import Checker, History, Sent, Verdict, read_runs
from .faults import AFTER, BEFORE
from .stack import ENDED, ApiError, Stack, wait_until
from .worker import Worker

STRIKES_LEAST = 3  # of each fault
RETRIES = 100 if servers.VERSION != "3.13.8" else 10  # which allows no more
FAULTS = ("503", "reset", "hang", "half-reply", "lost-reply")
SETTLE_S = 180.0  # until the last workflow must have ended, after the last fault
PROBE_EVERY_S, PROBE_LIMIT_S = 0.25, 0.5


class Options(NamedTuple):
    workflows: int = 1000
    seed: int = 1
    processes: int = 4
    span_s: float = 600.0  # how long workflows are started and faults made
    kill_every_s: tuple[float, float] = (8.0, 20.0)
    restarts: int = 3  # of Conductor; every other one is a crash
    dialect: str = "akabot"
    peer: str | None = None  # the interpreter that has conductor-python


SHORT = Options(workflows=150, seed=20261, span_s=100.0, kill_every_s=(6.0, 9.0), restarts=1)


class Event(NamedTuple):
    at_s: float  # since the start
    action: str  # a method of Chaos
    value: Any


def planned(options: Options) -> list[Event]:
    """What will happen when; the same for the same options."""
    rand, span_s, events = random.Random(options.seed), options.span_s, []
    for number in range(options.workflows):
        events.append(Event(rand.uniform(0, span_s), "begin", (rand.choice(chaos_agents.MIX), number)))
    at_s = rand.uniform(*options.kill_every_s)
    while at_s < span_s:
        events.append(Event(at_s, "kill", (rand.randrange(2 * options.processes), rand.uniform(0, 1.5))))
        at_s += rand.uniform(*options.kill_every_s)
    for number in range(options.restarts):
        at_s = span_s * (number + rand.uniform(0.3, 0.6)) / options.restarts
        events.append(Event(at_s, "restart", number % 2 == 1))
    at_s, names = 0.0, list(FAULTS)
    has_joint = options.dialect == "conductor" and servers.VERSION != "3.13.8"
    report = "update-v2" if has_joint else "report"
    while at_s < span_s:
        rand.shuffle(names)
        for name in names:
            route = rand.choice((report, report, "report", "extend", "poll"))
            events.append(Event(at_s, "fault", (name, route, rand.randint(1, 3))))
            at_s += rand.uniform(0.5, 2.0)
    for at_s in range(12, int(span_s), 30):
        events.append(Event(at_s, "fault", ("away", "token", rand.randint(4, 10))))
        events.append(Event(at_s + rand.uniform(5, 15), "dark", rand.uniform(2, 6)))
    return sorted(events)


class Process(Worker):
    """A worker of the run; of conductor-python, the whole family of its processes."""

    def __init__(self, script: str, credentials: dict[str, str] | None, *options: str, folder: Path, peer: str | None):
        super().__init__(script, credentials, *options, folder=folder)
        self._peer = peer

    def start(self) -> None:
        if self._peer is None:
            super().start()
            return
        with open(self.folder / "peer.log", "ab") as log:
            command = [self._peer, str(self.script)]
            self._process = subprocess.Popen(  # type: ignore[assignment]
                command, cwd=self.folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )

    def kill(self) -> None:
        if self._peer is not None:
            os.killpg(self.pid, signal.SIGKILL)  # its children would live on
        super().kill()

    def stop(self) -> int:
        if self._peer is None:
            return super().stop()
        self.kill()
        return 0

    def has_ended(self) -> int | None:
        return self._process.poll() if self._process is not None else None


class Probe:
    """Asks Conductor something small all the time: when it does not answer in time, no lease can be kept. Nor can one
    when the machine gives nobody a turn for so long, this thread neither."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._over = threading.Event()
        self.away: list[tuple[float, float]] = []  # epoch seconds
        self._thread = threading.Thread(target=self._run, name="probe", daemon=True)

    def __enter__(self) -> Probe:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(70)

    def _run(self) -> None:
        slept_s = time.time()
        while not self._over.wait(PROBE_EVERY_S):
            asked_s, answered = time.time(), False
            if asked_s - slept_s > PROBE_EVERY_S + PROBE_LIMIT_S:
                self.away.append((slept_s, asked_s))
            with contextlib.suppress(OSError, http.client.HTTPException, ApiError):
                self._stack.api("GET", "/metadata/taskdefs/warm-up")
                answered = True
            if not answered or time.time() - asked_s > PROBE_LIMIT_S:
                self.away.append((asked_s, time.time() + PROBE_EVERY_S))
            slept_s = time.time()


class Chaos:
    """One run, in ``folder``; the stack's gateway must be this run's alone."""

    def __init__(self, stack: Stack, options: Options, folder: Path) -> None:
        self._stack = stack
        self._options = options
        self._folder = folder
        self._agents = chaos_agents.names(f"chaos-{options.seed}-{os.getpid()}-{time.monotonic_ns()}")
        self._wanted: dict[str, str] = {}
        self._killed: dict[int, float] = {}
        self._unlit: list[tuple[float, float]] = []  # epoch seconds
        self._performed: Counter[str] = Counter()
        self._findings: list[str] = []
        self._serving = threading.Lock()  # held while Conductor is away: what the run itself asks of it waits
        self._threads: list[threading.Thread] = []
        (folder / "bodies.py").write_text(chaos_agents.bodies(), "utf-8")
        self._processes = [self._process() for _ in range(options.processes)]

    def run(self) -> Verdict:
        self._register()
        self._stack.gateway.forget()
        with Probe(self._stack) as probe:
            try:
                for process in self._processes:
                    process.start()
                self._play(planned(self._options))
                workflows = self._settle()
            finally:
                self._stack.gateway.clear()
                started = [process for process in self._processes if process.is_started]
                codes = [process.stop() for process in started if process.has_ended() is None]
        if self._options.peer is None and any(codes):
            self._findings.append(f"a worker that was told to stop ended with {codes}")
        for process in self._processes:
            self._findings += [f"in a log: {line[:300]}" for line in process.log if " CRITICAL " in line]
        history = History(
            self._wanted,
            workflows,
            read_runs(self._folder / chaos_agents.RUNS),
            self._sent(),
            self._killed,
            [*probe.away, *self._unlit],
            began_s=time.time() - (time.monotonic() - self._started),
        )
        figures, findings = Checker(history).check()
        if findings:
            self._show_logs()
        return Verdict({**self._struck(), **figures}, self._findings + findings)

    def _show_logs(self) -> None:
        """Of what the workers complained, for whoever looks for the cause of a finding."""
        for number, process in enumerate(self._processes):
            for line in process.log:
                if " WARNING " in line or " ERROR " in line:
                    print(f"process {number}: {line[:200]}")

    # -- before and after ----------------------------------------------------------------------------

    def _process(self) -> Process:
        stack, peer = self._stack, self._options.peer
        if peer is not None:
            script = chaos_agents.peer_script(self._agents, stack.gateway.conductor_url)
            return Process(script, None, folder=self._folder, peer=peer)
        script, first = chaos_agents.script(self._agents), next(iter(self._agents.values()))
        if self._options.dialect == "conductor":
            options = ("--conductor", stack.gateway.conductor_url)
            return Process(script, None, *options, folder=self._folder, peer=None)
        return Process(script, stack.credentials(first, lifespan_s=20), folder=self._folder, peer=None)

    def _register(self) -> None:
        for agent_id in self._agents.values():
            self._stack.register_task(agent_id, retry_count=RETRIES, retry_delay_s=0, response_timeout_s=2)
            self._stack.register_workflow(agent_id, [agent_id], inputs=["number"])

    def _settle(self) -> dict[str, dict[str, Any]]:
        """No more faults; every workflow once it has ended, or as it is when it does not."""
        self._stack.gateway.clear()
        for thread in self._threads:
            thread.join()
        self._say("no more faults")
        left, deadline = set(self._wanted), time.monotonic() + SETTLE_S

        def all_ended() -> bool:
            for workflow_id in sorted(left):
                if self._stack.api("GET", f"/workflow/{workflow_id}?includeTasks=false")["status"] in ENDED:
                    left.discard(workflow_id)
            return not left

        while left and time.monotonic() < deadline:
            wait_until(all_ended, 10.0)
            self._say(f"{len(left)} workflows have not ended {sorted(left)[:3]}")
        return {workflow_id: self._stack.workflow(workflow_id) for workflow_id in self._wanted}

    def _sent(self) -> list[Sent]:
        to_epoch_s = time.time() - time.monotonic()
        return [
            Sent(seen.at_s + to_epoch_s, seen.route, seen.task_id or "", seen.status, seen.fault, seen.result)
            for seen in self._stack.gateway.seen()
            if seen.task_id or seen.fault
        ]

    def _struck(self) -> dict[str, Any]:
        gateway = self._stack.gateway
        struck = {name: gateway.count(fault=name) for name in (*BEFORE, *AFTER) if name in (*FAULTS, "away")}
        for name, times in struck.items():
            if times < STRIKES_LEAST and not (name == "away" and self._options.dialect == "conductor"):
                self._findings.append(f"the fault {name} struck {times} times only: this run shows too little")
        return {"faults struck": struck, **{f"times of {name}": n for name, n in sorted(self._performed.items())}}

    # -- the events ----------------------------------------------------------------------------------

    def _play(self, events: list[Event]) -> None:
        self._started = time.monotonic()
        never, queue = threading.Event(), list(events)
        heapq.heapify(queue)
        while queue:
            event = heapq.heappop(queue)
            wait_s = self._started + event.at_s - time.monotonic()
            if wait_s > 0:
                never.wait(wait_s)
            for later in getattr(self, f"_{event.action}")(event.value):
                heapq.heappush(queue, later)

    def _say(self, text: str) -> None:
        print(f"{time.monotonic() - self._started:7.1f} s  {text}", flush=True)

    def _in(self, delay_s: float, action: str, value: Any = None) -> Event:
        return Event(time.monotonic() - self._started + delay_s, action, value)

    def _begin(self, value: tuple[str, int]) -> Iterator[Event]:
        kind, number = value
        if not self._serving.acquire(blocking=False):
            yield self._in(1.0, "begin", value)
            return
        try:
            workflow_id = self._stack.start_workflow(self._agents[kind], {"number": number})
        finally:
            self._serving.release()
        self._wanted[workflow_id] = "FAILED" if kind == "meant" else "COMPLETED"

    def _kill(self, value: tuple[int, float]) -> Iterator[Event]:
        number, pause_s = value
        if number >= len(self._processes):
            number = self._busiest(number)
        process = self._processes[number]
        if not process.is_started:  # the machine is so slow that its last kill has just been
            yield self._in(1.0, "kill", value)
            return
        code = process.has_ended()
        if code is not None:
            self._findings.append(f"a worker ended by itself with {code}: {process.log[-3:]}")
        self._performed["kill -9"] += 1
        pid = process.pid
        process.kill()
        self._killed[pid] = time.time()
        self._say(f"kill -9 of process {number}, pid {pid}; it starts again after {pause_s:.1f} s")
        yield self._in(pause_s, "start", number)

    def _busiest(self, number: int) -> int:
        """Every other kill hits the process that began the last run."""
        pids = [process.pid if process.is_started else 0 for process in self._processes]
        last = [run.pid for run in read_runs(self._folder / chaos_agents.RUNS)[-1:]]
        return pids.index(last[0]) if last and last[0] in pids else number % len(pids)

    def _start(self, number: int) -> Iterator[Event]:
        self._processes[number].start()
        yield from ()

    def _fault(self, value: tuple[str, str, int]) -> Iterator[Event]:
        name, route, count = value
        self._stack.gateway.fault(name, route=route, count=count)
        self._say(f"{name} for the next {count} of {route}")
        yield from ()

    def _dark(self, lasts_s: float) -> Iterator[Event]:
        """Nobody listens, as when a proxy is deployed anew."""
        self._performed["gateway not listening"] += 1
        self._say(f"the gateway does not listen for {lasts_s:.1f} s")
        self._stack.gateway.stop()
        self._unlit.append((time.time(), time.time() + lasts_s))
        yield self._in(lasts_s, "light")

    def _light(self, _: None) -> Iterator[Event]:
        self._stack.gateway.start()
        yield from ()

    def _restart(self, is_crash: bool) -> Iterator[Event]:
        thread = threading.Thread(target=self._restart_conductor, args=(is_crash,), daemon=True)
        thread.start()
        self._threads.append(thread)
        yield from ()

    def _restart_conductor(self, is_crash: bool) -> None:
        with self._serving:
            self._performed["restart of Conductor"] += 1
            self._say(f"Conductor is told to {'die' if is_crash else 'stop'}")
            try:
                self._stack.stop_conductor(kill=is_crash)
                self._say("Conductor has ended, and is started")
                self._stack.start_conductor()
            except Exception as error:
                self._findings.append(f"Conductor did not come back: {error}")
            self._say("Conductor is back")


def report(verdict: Verdict) -> str:
    """The figures, a line each, and what must not be."""
    lines = [f"{name:32} {value}" for name, value in verdict.figures.items()]
    return "\n".join([*lines, *(f"FAILED {finding}" for finding in verdict.findings)])


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.real.chaos", description=__doc__, allow_abbrev=False)
    parser.add_argument("--workflows", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--minutes", type=float, default=10.0, help="how long faults are made")
    parser.add_argument("--dialect", choices=("akabot", "conductor"), default="akabot")
    parser.add_argument("--peer", metavar="PYTHON", help="run conductor-python of this interpreter instead")
    parser.add_argument("--short", action="store_true", help="150 workflows in 100 s, more kills; --seed alone counts")
    given = parser.parse_args()
    restarts = max(1, round(given.minutes / 3))
    long = Options(given.workflows, given.seed, given.processes, given.minutes * 60, restarts=restarts)
    dialect = "conductor" if given.peer else given.dialect
    options = (SHORT if given.short else long)._replace(seed=given.seed, dialect=dialect, peer=given.peer)
    print(options, flush=True)
    with Stack(indexing=False) as stack, tempfile.TemporaryDirectory() as folder:
        verdict = Chaos(stack, options, Path(folder)).run()
    print(report(verdict))
    return 1 if verdict.findings else 0


if __name__ == "__main__":
    sys.exit(main())

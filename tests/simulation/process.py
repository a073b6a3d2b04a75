# SPDX-License-Identifier: Apache-2.0
"""A worker's process: what ``runner.py`` builds of ``polling`` and ``keeping``, and what ``slots.py`` does with it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from .disk import FOLDER, Path, disk
from .loading import part
from .network import EXTENSION, REPORT, Connection, Response, Transport
from .slot import TICK_S, Slot
from .world import NEVER, Crash, Event, chance, world

if TYPE_CHECKING:
    from .checker import Checker
    from .histories import Setting
    from .platform import Platform

wire, paths, clients = (part(f"conductor.{name}") for name in ("wire", "paths", "client"))
gates, intakes = part("worker.polling.gate"), part("worker.polling.intake")
custodies, journals = (part(f"worker.keeping.{name}") for name in ("custody", "journal"))
helds, watched = part("worker.keeping.held"), part("worker.watched")
TaskStatus = wire.TaskStatus

SWEEP_S, IDLE_SWEEP_S, ADOPT_S = 0.5, 2.0, 5.0
DRAIN_S, OPEN_POLL_S, LAST_REPORT_S = 30.0, 6.0, 2.0
LINGER_S = 10.0  # the platform may work so long on an extension that it did not answer
WAKING_S = 0.001


class Gate(gates.Gate):  # type: ignore[misc]
    """The real one, but the reply to a poll of :meth:`take` is awaited by the slot."""

    def fetch(self, sent: Any) -> Any:
        return sent

    def fetched(self, sent: Any) -> Any:
        return super().fetch(sent)


class Stopping(Event):
    """Seems to be set while a slot that has no turn comes back from the gate."""

    is_unwinding = False

    def is_set(self) -> bool:
        return self.flag or self.is_unwinding


class Table:
    """A timetable, and as many of its threads as were started."""

    def __init__(self, table: Any) -> None:
        self.table = table
        self.threads = self.active = 0
        self.due = NEVER

    def turn(self, process: Process) -> None:
        """One of its threads sees to one item."""
        self.due = NEVER
        if self.active < self.threads:
            self.active += 1
            process.look()  # another thread, at what is due next
            try:
                self.table._turn(0.0)
            except Exception as error:
                process.stumbled("a thread failed", error)
            finally:
                self.active -= 1


class Process:
    def __init__(
        self, name: str, setting: Setting, platform: Platform, checker: Checker, on_end: Callable[[], None]
    ) -> None:
        self._on_end = on_end
        self.name, self.setting, self._platform, self.checker = name, setting, platform, checker
        self.is_dead = self.is_stopped = self.is_draining = False
        self.slept_s = self.wall_off_s = 0.0
        self.stops: list[tuple[float, float]] = []  # when it was stopped
        self.trouble_until = 0.0  # for its leases
        self.any_trouble_until = 0.0
        self.steps, self.dies_at = 0, -1
        self.taking: Slot | None = None
        self.stepping: Slot | None = None
        self.said: dict[str, str] = {}
        self.tables: dict[int, Table] = {}
        self.acked: dict[str, float] = {}  # by task: when the report was sent that was acknowledged
        self.in_the_air: set[str] = set()  # tasks of which an extension is
        self.quiet: dict[str, float] = {}  # by task: from when on the platform works on no extension
        self.last_hit = self.last_empty = self.hits_since = 0.0
        self._sweeps = 0
        self.postponed = 0  # slots that wait until nobody else does
        self.stopping = Stopping()
        world.at(world.now, self, self._boot)

    def _boot(self) -> None:
        setting = self.setting
        world.tell("starts")
        self.transport = Transport(self, self._platform)
        dialect = paths.AKABOT if setting.is_akabot else paths.CONDUCTOR
        if setting.is_old:  # Conductor before 3.20
            dialect = dialect._replace(report_and_poll=None)
        self.client = clients.Client(self.transport, dialect, "http://platform/api", None)
        self.journal = journals.Journal(Path(FOLDER) / "target", setting.sync)
        counts = watched.Counts()
        on_run = self.checker.recorded if setting.has_history else None
        self.custody = custodies.Custody(
            self.client, self.journal, self.stopping, counts, workers=setting.workers, on_run=on_run,
            on_contact=self._heard,
        )  # fmt: skip
        self.is_asking, self._asks = False, self.custody._is_there
        self.custody._is_there = self._is_there
        left = self.journal.open()
        intake = intakes.Intake(setting.workers, setting.interval_s, chance.random, 2.0)
        self.gate = Gate(
            self.client, "agent", self.name, None, intake, self.stopping, gates.Budget(None), self.custody.contact,
            counts, self.custody.held_up_s,
        )  # fmt: skip
        self.custody.leases.start()
        self.custody.delivery.start()
        self.checker.adopts(self)
        self.custody.take_over(left)
        self._adopt()
        self.hasten()
        self.slots = [Slot(self, number) for number in range(setting.workers)]
        for slot in self.slots:
            world.at(world.now, self, slot.step)

    # -- what runner.py does ---------------------------------------------------------------------------

    def _is_there(self, earlier: Any) -> bool:
        self.is_asking = True
        try:
            return bool(self._asks(earlier))
        finally:
            self.is_asking = False

    def _heard(self) -> None:
        if self.gate.intake.is_failing:
            self.gate.wake()

    def _adopt(self) -> None:
        if self.setting.has_two:
            self.checker.adopts(self)
        self.custody.take_over(self.journal.adopt())
        world.at(world.now + ADOPT_S, self, self._adopt)

    def hasten(self) -> None:
        """Upkeep comes twice a second; while nothing is to be done it may come later, unless something happens."""
        self._sweeps += 1
        world.at(world.now + SWEEP_S, self, partial(self._sweep, self._sweeps))

    def _sweep(self, number: int) -> None:
        if number != self._sweeps:
            return
        self.custody.watch()
        self.journal.sweep()
        is_quiet = disk.is_sound and not self.custody.register.pending()
        world.at(world.now + (IDLE_SWEEP_S if is_quiet else SWEEP_S), self, partial(self._sweep, number))

    def drain(self) -> None:
        """SIGTERM."""
        if not self.is_dead and not self.is_draining and self.steps:
            world.tell("is told to stop")
            self.is_draining = True
            self._main = self._drains()
            self._goes_on()

    def _goes_on(self) -> None:
        for seconds in self._main:
            world.at(world.now + seconds, self, self._goes_on)
            return

    def _drains(self) -> Iterator[float]:
        custody, register, began = self.custody, self.custody.register, world.now
        deadline = began + DRAIN_S
        self.stopping.set()
        self.gate.wake()
        while any(not slot.has_ended for slot in self.slots) and world.now < deadline:
            if world.now >= began + OPEN_POLL_S and not register.pending():
                break
            yield 0.05 + 0.2 * (world.now - began)
        is_cut = False
        for held in register.running():
            if custody.give_up(held, helds.failure(held, TaskStatus.FAILED, "the worker was stopped")) is not None:
                is_cut = True
                custody.delivery.post(held)
        until = world.now + LAST_REPORT_S
        while is_cut and not custody.delivery.flush(0) and world.now < until:
            yield 0.05
        custody.delivery.hurry()
        while not custody.delivery.flush(0) and world.now < deadline:
            yield 0.05
        left = len(register.pending())
        is_kept = bool(left) and self.journal.sweep(at_once=True)
        self.checker.stopped(self, began, left, is_kept)
        custody.delivery.close()
        custody.leases.close()
        self.journal.close()
        world.tell("ends")
        self.end()

    # -- what the world does with it -----------------------------------------------------------------------

    def step(self) -> None:
        """Where it may be killed."""
        if self.dies_now():
            self.die()
            raise Crash

    def dies_now(self) -> bool:
        if self.is_dead:
            raise Crash
        self.steps += 1
        return self.steps == self.dies_at

    def die(self) -> None:
        world.tell("is killed")
        self.end()
        self.checker.died(self)

    def end(self) -> None:
        self.is_dead = True
        disk.died(self)
        self._on_end()

    def stop(self, seconds: float, is_sleep: bool) -> None:
        """SIGSTOP, or the computer sleeps, and SIGCONT."""
        if self.is_dead or self.is_stopped:
            return
        began = world.now
        world.tell("%s is stopped for %.1f s", self.name, seconds)
        self.is_stopped = True
        before, world.process = world.process, None
        world.run(began + seconds)
        world.process = before
        world.resume(self)
        self.slept_s += seconds if is_sleep else 0.0
        self.stops.append((began, world.now))
        if disk.hurt_until > began:
            disk.hurt(1.2)
        self.checker.all_late()

    @property
    def is_held_up(self) -> bool:
        """By the world, and not by the worker's code."""
        return self.is_stopped or self.postponed > 0

    def trouble(self, seconds: float) -> None:
        """Something happens to it that may cost a lease."""
        self.trouble_until = max(self.trouble_until, world.now + seconds)
        self.any_trouble_until = max(self.any_trouble_until, self.trouble_until)

    def heard(self, reply: Connection) -> None:
        if reply.kind == EXTENSION:
            self.in_the_air.discard(reply.task_id)
            quiet_at = world.now + (0.0 if isinstance(reply.result, Response) else LINGER_S)
            self.quiet[reply.task_id] = max(quiet_at, self.quiet.get(reply.task_id, 0.0))
        elif reply.kind == REPORT and isinstance(reply.result, Response) and reply.result.status < 300:
            if reply.is_final and not reply.is_beside and not reply.is_question:
                self.acked[reply.task_id] = reply.sent_at
        elif isinstance(reply.result, Response):
            if reply.jobs:
                if self.last_hit <= self.last_empty:
                    self.hits_since = world.now
                self.last_hit = world.now
            else:
                self.last_empty = world.now

    def stumbled(self, text: str, error: BaseException | None) -> None:
        self.checker.fail("a bug", f"{self.name}: {text}: {error!r}")

    def thread_started(self, target: Any) -> None:
        table = target.__self__
        if id(table) not in self.tables:
            self.tables[id(table)] = Table(table)
        self.tables[id(table)].threads += 1

    def look(self) -> None:
        """See to it that tables are turned when something is due there."""
        for each in self.tables.values():
            heap = each.table._heap
            if heap and each.active < each.threads and heap[0][0] + self.slept_s < each.due:
                each.due = heap[0][0] + self.slept_s
                at = max(each.due + TICK_S, world.now + WAKING_S)  # whoever is done waiting goes on before
                world.at(at, self, partial(each.turn, self))

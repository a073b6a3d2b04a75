# SPDX-License-Identifier: Apache-2.0
"""Faults that the worker once had, or that its tests once let live, planted one at a time into the simulated copy.

A simulation that does not find them again proves nothing.
"""

from __future__ import annotations

from typing import Any, NamedTuple
from unittest import mock

from .disk import os
from .histories import History, draw, run
from .loading import part

WITHIN = 2000  # histories

clients, wire, private = part("conductor.client"), part("conductor.wire"), part("private")
gates, intakes = part("worker.polling.gate"), part("worker.polling.intake")
custodies, deliveries, helds, journals, leases, log_files, retries, tables = (
    part(f"worker.keeping.{name}")
    for name in ("custody", "delivery", "held", "journal", "lease", "log_file", "retries", "timetable")
)


class Patch(NamedTuple):
    place: Any
    name: str
    value: Any


class Found(NamedTuple):
    history: History
    rule: str
    histories: int  # until then


def _read_after_writing(self: Any, read: Any = log_files.LogFile.read) -> Any:
    with os.fdopen(private.open_own(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), "ab", 0) as stream:
        stream.write(b"")
    return read(self)


def _copy_came(self: Any, held: Any) -> None:
    held.lease.echoes += 1
    copies = sum(each.lease.echoes for each in self._table.items())
    if copies >= 2:
        self._off_until = float("inf")


def _refused(self: Any, held: Any, outcome: Any, now: float, refused: Any = deliveries.Delivery._refused) -> Any:
    return refused(self, held, outcome._replace(status=400), now)


def _long_poll_beside(self: Any, poll: Any, send: Any = gates.Gate.send) -> Any:
    return send(self, poll._replace(lead=poll.lead or poll.rides))


def _cut_is_damage(data: bytes, decode: Any = log_files.decode) -> Any:
    found = decode(data)
    return found._replace(damaged=found.end) if found.damaged is None and found.end < len(data) else found


def _hurry(self: Any, *keys: Any) -> None:
    now = self._clock()
    for key in keys or list(self._items):
        if key in self._items and (self._items[key][1] > now or key in self._acting):
            self._push(key, now)


def _named_alone(register: Any, held: Any, task: Any, *rest: Any, case_of: Any = retries.case_of) -> Any:
    case, earlier = case_of(register, held, task, *rest)
    is_named = earlier is None or earlier.entry.task_id == task.retried_task_id
    return (case, earlier) if is_named else (retries.Case.NEW, None)


def _attempts_of_all(self: Any, held: Any) -> Any:
    others = [one for one in (*self._held.values(), *self._left) if one.ids != held.ids]
    return sorted(others, key=lambda one: one.entry.taken_ms, reverse=True)


def _starts_without_row(self: Any, held: Any, starts: Any = deliveries.Delivery.attempt_starts) -> None:
    self._journal.free(held.row)
    starts(self, held)


def _starts_without_lease(self: Any, held: Any, starts: Any = deliveries.Delivery.attempt_starts) -> None:
    starts(self, held)
    self._leases.drop(held)


def _added_in_memory(self: Any, entry: Any, row: int = 0, write: Any = journals.Journal.write) -> int:
    if row:
        return int(write(self, entry, row))
    row = next(self._ids)
    self._live[row] = entry
    return int(row)


def _opened_for_nobody(self: Any, opens: Any = journals.Journal.open) -> dict[int, Any]:
    opens(self)
    return {}


PLANTED: dict[str, tuple[Patch, ...]] = {
    "a removed journal is not noticed": (Patch(log_files.LogFile, "is_there", lambda self: True),),
    "four senders for any number of leases": (Patch(leases, "SENDERS_MOST", leases.SENDERS),),
    "reading a journal needs writing": (Patch(log_files.LogFile, "read", _read_after_writing),),
    "two copies end all extensions": (Patch(leases.LeaseKeeper, "copy_came", _copy_came),),
    "what was read just now is new": (
        Patch(clients, "_in_time", lambda tasks, age_s: tasks),
        Patch(clients.Exchange, "age_s", 1.0),
    ),
    "a reply's age is that of its coming": (
        Patch(clients.Exchange, "age_s", property(lambda self: self._connection.age_s)),
    ),
    "as many tasks as a reply has": (Patch(wire, "TASKS_MAX", 1000),),
    "a result whose task is gone is sent again": (Patch(deliveries.Delivery, "_refused", _refused),),
    "a long poll beside a report": (Patch(gates.Gate, "send", _long_poll_beside),),
    "a record cut by a kill is damage": (Patch(log_files, "decode", _cut_is_damage),),
    "what is being sent is hurried": (Patch(tables.Timetable, "hurry", _hurry),),
    "turns and silence a hundred times as long": (
        Patch(intakes, "SHORT_S", 100 * intakes.SHORT_S),
        Patch(intakes, "SILENT_S", 100 * intakes.SILENT_S),
    ),
    "a late result is forgotten": (
        Patch(deliveries.Delivery, "_delivered", lambda self, held, is_late: self.forget(held)),
    ),
    "a report beside an extension is believed": (
        Patch(deliveries.Delivery, "_unsure_s", lambda self, held, now: None),
    ),
    "a retry of what runs is run": (Patch(helds.Register, "inherit", lambda self, earlier, retry: False),),
    "a retry answers the attempt that it names alone": (Patch(retries, "case_of", _named_alone),),
    "a retry is answered with a result of before a restart": (
        Patch(custodies.Custody, "_is_there", lambda self, earlier: True),
        Patch(helds.Register, "begin_anew", lambda self, held, is_first: []),
    ),
    "any retry is the same work": (Patch(helds.Register, "attempts", _attempts_of_all),),
    "a row goes before its report": (Patch(deliveries.Delivery, "attempt_starts", _starts_without_row),),
    "a lease ends with the first report": (Patch(deliveries.Delivery, "attempt_starts", _starts_without_lease),),
    "a task is written down when it has ended": (Patch(journals.Journal, "write", _added_in_memory),),
    "what an ended process left is not adopted": (Patch(journals.Journal, "open", _opened_for_nobody),),
}


def found(name: str, first_seed: int = 1) -> Found | None:
    """The first history in which a planted fault shows; None when none does."""
    with planted(name):
        for number in range(WITHIN):
            history = draw(first_seed + number)
            violations = run(history).violations
            if violations:
                return Found(history, violations[0].rule, number + 1)
    return None


class planted:  # noqa: N801 - reads as a verb
    """While this lasts, the simulated copy has the fault."""

    def __init__(self, name: str) -> None:
        self._patches = [mock.patch.object(*each) for each in PLANTED[name]]

    def __enter__(self) -> None:
        for patch in self._patches:
            patch.start()

    def __exit__(self, *error: object) -> None:
        for patch in self._patches:
            patch.stop()

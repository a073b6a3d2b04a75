# SPDX-License-Identifier: Apache-2.0
"""Writes executions down, beside the worker and never in its way.

``record`` runs on a slot's thread, after the report: it puts the execution's row in a bounded queue. One thread
writes, a few commits a second. A database that is locked or full is said once and tried again; one that is damaged
or not ours is said once and left alone.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from datetime import datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any, Callable

from ..conductor.wire import Task, TaskResult, TaskStatus, json_object, own_input
from ..errors import StorageError
from ..logs import counted
from ..storage import Connection, Error, is_damage, open_shared
from ..values import utf8
from . import shape, times
from .store import COLUMNS, FACTS, INSTANTS, prepare, prune

logger = logging.getLogger(__name__)

QUEUE_MAX_ROWS = 10_000
QUEUE_MAX_BYTES = 64 * 1024 * 1024
BATCH_ROWS = 1000  # a commit: a reader, or another writer, never waits long
# Up to eleven values each: SQLite may take 999. A statement for each row would contend for the interpreter; and few
# sizes, since each statement that is kept compiled takes 100 kB.
STATEMENT_ROWS = (90, 10, 1)
GATHER_S = 0.2
RETRY_S = 1.0
PRUNE_EVERY_S = 86400.0
CLOSE_S = 6.0  # a little more than SQLite waits for a lock
_FINE = (TaskStatus.COMPLETED, TaskStatus.IN_PROGRESS)  # an IN_PROGRESS asks to be called again

Row = tuple[Any, ...]  # COLUMNS but for the id, FACTS, INSTANTS, then about how many bytes it takes in memory
_COLUMNS = len(COLUMNS) - 1


class Recorder:
    """The queue of one process and the thread that empties it, ``history``."""

    def __init__(self, path: Path, redact: Iterable[str] = (), keep_s: float | None = None) -> None:
        self._path = path
        self._keep_s = keep_s
        self._prune_at = 0.0  # monotonic
        self._secret_keys = frozenset(key.casefold() for key in redact)
        self.instead: Callable[..., object] | None = None
        self._changed = threading.Condition()  # guards the four below
        self._rows: deque[Row] = deque()
        self._bytes = 0
        self._lost = 0
        self._closed = False  # also when the file is not ours to write
        self._db: Connection | None = None  # the thread's own, as are the next two
        self._file: os.stat_result | None = None  # which file that is
        self._trouble = ""  # the last trouble that was logged
        self._thread = threading.Thread(target=self._run, name="history", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def record(
        self, agent_id: str, worker_id: str, task: Task, result: TaskResult, started_s: float, ended_s: float
    ) -> None:
        """Take one execution; it returns at once. Times are epoch seconds. From any thread.

        Texts and numbers are kept, no objects: the function may go on to change its own values.
        """
        if self._closed:
            return
        came, encoded = own_input(task.wire), result.encoded_output
        if any(isinstance(value, (dict, list)) for value in came.values()):  # which the function may have changed
            came = own_input(json_object(task.raw)) or came
        given, given_done = shape.shaped(came, self._secret_keys)
        output, output_done = shape.shaped(json_object(encoded) if encoded else result.output_data, self._secret_keys)
        logs, logs_done = shape.shaped([{"log": line.log, "created_ms": line.created_ms} for line in result.logs])
        done = {"input": given_done, "output": output_done, "logs": logs_done}
        altered = " ".join([f"{name}-{what}" for name, what in done.items() if what]) or None
        reason = result.reason_for_incompletion
        error = reason and utf8(shape.cut(str(reason), shape.VALUE_MAX_BYTES))
        ended_s = max(started_s, ended_s)  # a clock may be set back
        status, kept = "success" if result.status in _FINE else "error", None if output == "null" else output
        local_times = times.local(started_s), times.local(ended_s)
        ids = task.platform_task_id, task.platform_agent_id, utf8(agent_id)
        columns = *ids, *local_times, status, given, kept, error
        if self.instead is not None:
            self.instead(**dict(zip(COLUMNS[1:], columns)))
            return
        wire_ids = task.workflow_instance_id, task.task_id
        duration_ms, platform_status = round((ended_s - started_s) * 1000), result.status.value
        facts = duration_ms, task.attempt, utf8(worker_id), *wire_ids, platform_status, logs, altered
        size_bytes = 1000 + len(given) + len(output) + len(error or "") + len(logs)
        row = *columns, *facts, round(started_s * 1e6), round(ended_s * 1e6), size_bytes
        with self._changed:
            if len(self._rows) < QUEUE_MAX_ROWS and self._bytes + row[-1] < QUEUE_MAX_BYTES:
                self._rows.append(row)
                self._bytes += row[-1]
                if len(self._rows) == 1:
                    self._changed.notify()
                return
            self._lost += 1
            if self._lost > 1:
                return
        text = "The history can't keep up: executions go unrecorded until it does"
        logger.error(text, extra={"action": "history_overflow"})

    def close(self) -> None:
        """Write what is left, for at most CLOSE_S."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join(CLOSE_S)
        with self._changed:
            lost = self._lost + len(self._rows)
        if lost:
            logger.error("Not recorded: %s", counted(lost, "execution"), extra={"action": "history_lost"})

    def _run(self) -> None:
        pause_s = GATHER_S
        while True:
            with self._changed:
                while not self._rows and not self._closed:
                    self._changed.wait()
                if not self._rows:
                    break
                is_last_try = self._changed.wait_for(lambda: self._closed, pause_s)
                batch = list(islice(self._rows, BATCH_ROWS))
            is_written = self._write(batch)
            if is_last_try and not is_written:
                break
            if is_written and self._keep_s is not None and time.monotonic() >= self._prune_at:
                self._prune(self._keep_s)
            pause_s = RETRY_S if not is_written else GATHER_S if len(batch) < BATCH_ROWS else 0.0
        self._drop_connection()

    def _prune(self, keep_s: float) -> None:
        self._prune_at = time.monotonic() + PRUNE_EVERY_S
        try:
            count = prune(self._path, datetime.now().astimezone() - timedelta(seconds=keep_s), False)
        except (StorageError, OverflowError) as error:
            logger.warning("Old executions stay in the history: %s", error, extra={"action": "history_pruned"})
            return
        if count:
            logger.info("Taken out of the history: %s", counted(count, "execution"), extra={"action": "history_pruned"})

    def _write(self, batch: list[Row]) -> bool:
        """Commit the oldest rows; False when they stay in the queue."""
        try:
            self._insert(batch)
        except (Error, OSError, StorageError) as error:
            self._drop_connection()
            trouble = "Executions are not recorded now, and are tried again: %s: %s"
            if isinstance(error, StorageError) or is_damage(error):
                trouble = "Executions are not recorded: %s can't be used: %s"
                with self._changed:
                    self._closed = True
                    self._rows.clear()
            if trouble != self._trouble:
                logger.error(trouble, self._path, error, extra={"action": "history_failed"})
            self._trouble = trouble
            return False
        with self._changed:
            for row in batch:
                self._rows.popleft()
                self._bytes -= row[-1]
        if self._trouble:
            logger.warning("Executions are recorded again", extra={"action": "history_recovered"})
        self._trouble = ""
        return True

    def _insert(self, batch: list[Row]) -> None:
        found = None
        with suppress(FileNotFoundError):
            found = os.stat(self._path)
        is_same = found and self._file and os.path.samestat(found, self._file)
        if self._db is None or not is_same:  # somebody may have moved or replaced the file
            self._drop_connection()
            self._file = found  # before it is opened: one that takes its place meanwhile is noticed
            self._db = open_shared(self._path)
            prepare(self._db)
        db = self._db
        db.execute("BEGIN IMMEDIATE")
        rest = batch
        while rest:
            size = next(size for size in STATEMENT_ROWS if size <= len(rest))
            rows, rest = rest[:size], rest[size:]
            columns = [value for row in rows for value in row[:_COLUMNS]]
            last_id = db.execute(_insertion("execution_history", COLUMNS[1:], len(rows)), columns).lastrowid
            assert last_id is not None  # AUTOINCREMENT, in one transaction: the ids are in a row
            ids = range(last_id - len(rows) + 1, last_id + 1)
            facts = [value for row_id, row in zip(ids, rows) for value in (row_id, *row[_COLUMNS:-1])]
            db.execute(_insertion("execution_facts", ("id", *FACTS, *INSTANTS), len(rows)), facts)
        db.execute("COMMIT")

    def _drop_connection(self) -> None:
        if self._db is not None:
            self._db.close()  # rolls back
            self._db = None


@contextmanager
def recording(
    path: Path, redact: Iterable[str], keep_s: float | None = None, instead: Callable[..., object] | None = None
) -> Iterator[Callable[[Any], None]]:
    """What a ``worker.runner.Runner`` takes as ``on_execution``. ``instead`` of being written, rows are given to it."""
    recorder = Recorder(path, redact, keep_s)
    recorder.instead = instead
    recorder.start()
    with closing(recorder):
        yield lambda execution: recorder.record(*execution)


def _insertion(table: str, names: Sequence[str], count: int) -> str:
    values = ", ".join([f"({', '.join('?' * len(names))})"] * count)
    return f"INSERT INTO {table} ({', '.join(names)}) VALUES {values}"  # noqa: S608 - our own names

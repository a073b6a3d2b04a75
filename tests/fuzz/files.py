# SPDX-License-Identifier: Apache-2.0
"""Files that somebody else wrote, or that a disk has changed: credentials and journals."""

from __future__ import annotations

import contextlib
import json
import shutil
import sqlite3
import ssl
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any, NamedTuple
from unittest import mock

from user_agent_sdk import settings
from user_agent_sdk.conductor import connection
from user_agent_sdk.errors import ConfigError
from user_agent_sdk.worker.keeping import journal_file
from user_agent_sdk.worker.keeping.adopt import take_over
from user_agent_sdk.worker.keeping.journal import Journal
from user_agent_sdk.worker.runner import Runner, connect

from . import mutate
from .core import Target, Wrong


class CredentialsFiles(Target):
    """A credentials file makes settings with which a connection can be made, or a ConfigError."""

    name = "credentials"
    SECRET = "s3cret-never-shown"
    SAMPLES: tuple[dict[str, Any], ...] = (
        {
            "clientId": "client-1",
            "clientSecret": SECRET,
            "agentId": "0c9e#user-agent",
            "baseUrl": "https://next.akabot.io",
            "debug": True,
        },
        {
            "clientId": "client-1",
            "clientSecret": SECRET,
            "serviceUrl": "http://127.0.0.1:8088/api",
            "authUrl": "http://[::1]:8088/token",
            "proxy": "http://user:pa%20ss@proxy:3128",
            "caFile": "credentials.json",
        },
        {"platform": "conductor", "serviceUrl": "https://conductor:8080/api", "agentId": "reader"},
        {"clientId": "client-1", "clientSecretFile": "secret.txt", "clientCert": "c.pem", "clientKey": "k.pem"},
    )

    def __enter__(self) -> CredentialsFiles:
        super().__enter__()
        self.path = self.folder / "credentials.json"
        (self.folder / "secret.txt").write_text(self.SECRET)
        # The system's authorities take 20 ms to read.
        self.enter_context(
            mock.patch.object(ssl, "create_default_context", lambda **_: ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
        )
        return self

    def make(self, rng: Random) -> bytes:
        return mutate.json_bytes(rng, rng.choice(self.SAMPLES))

    def run(self, case: bytes) -> None:
        self.path.write_bytes(case)
        self.path.chmod(0o600)
        try:
            found = settings.load({}, environ={"USERAGENT_CONFIG_FILE": str(self.path)})
            repr(found)
            connect(found).transport.close()
        except ConfigError as error:
            told = " ".join([error.message, *error.hints])
            if error.exit_code != 3:
                raise Wrong(f"exit code {error.exit_code} for a credentials file") from error
            if self.SECRET in told and self._is_in_its_place(case):
                raise Wrong(f"the secret is told: {told}") from error
            return
        if found.client_secret and found.client_secret in repr(found) and self._is_in_its_place(case):
            raise Wrong("the secret is in a repr")

    def _is_in_its_place(self, case: bytes) -> bool:
        return case.count(self.SECRET.encode()) == 1 and f'"clientSecret": "{self.SECRET}"'.encode() in case


class Kept(NamedTuple):
    """The files of a journal: the main one, SQLite's write-ahead log, and the log of what is not settled."""

    db: bytes = b""
    wal: bytes = b""
    log: bytes = b""


class JournalFiles(Target):
    """A damaged journal never stops a worker, and no row that can be read is lost: it is delivered, kept
    for a human, or still in a file."""

    name = "journals"
    _ODD = (None, 0, -1, 2**63 - 1, 1e308, float("inf"), "", "x", b"", b"\xff\xfe", "é" * 9, b'{"a":1}', "{}", "[]")

    def __enter__(self) -> JournalFiles:
        super().__enter__()
        (self.folder / "made").mkdir()
        self.samples = [self._made(rows) for rows in (1, 2, 5)]
        given = settings.load({"conductor": "http://127.0.0.1:9/api"}, environ={})
        self.settings = replace(given, journal_dir=self.folder / "journal")
        self.journal = journal_file.folder_of(self.folder / "journal", "conductor", given.service_url, "")
        self.enter_context(mock.patch.object(connection, "_connect", refused))
        return self

    def _entry(self, number: int) -> journal_file.Entry:
        state = (journal_file.TAKEN, journal_file.RESULT, journal_file.ONCE, journal_file.REJECTED)[number % 4]
        task = {"taskId": f"task-{number}", "workflowInstanceId": "flow", "inputData": {"é": number}}
        report = {**task, "status": "COMPLETED", "outputData": {"result": number}}
        return journal_file.Entry(
            state,
            f"task-{number}",
            "flow",
            "reader",
            "worker-1",
            status="COMPLETED",
            body=json.dumps(report).encode(),
            input_hash="ab" * 32,
            taken_ms=1763776800000,
            lease_until_ms=1763776860000,
            lease_s=60.0,
            reason="HTTP 400: no" if state == journal_file.REJECTED else "",
            task=json.dumps(task).encode() if number % 2 else b"",
        )

    def _made(self, rows: int) -> Kept:
        folder = self.folder / "made" / str(rows)
        journal = Journal(folder)
        journal.open()
        for number in range(rows):
            journal.add(self._entry(number))
        log = (folder / "1.db-log").read_bytes()
        late = self._entry(1)._replace(task_id="late-1")
        journal.keep_late(journal.add(late), late)
        journal.sweep()
        wal = (folder / "1.db-wal").read_bytes()
        journal.close()
        return Kept((folder / "1.db").read_bytes(), wal, log)

    def make(self, rng: Random) -> Kept:
        sample, other = rng.choice(self.samples), rng.choice(self.samples)
        kind = rng.randrange(12)
        if kind < 4:
            return Kept(self._with_odd_values(rng, sample.db))
        if kind < 7:
            return Kept(damaged(rng, sample.db, [other.db]))
        if kind < 9:
            return Kept(wal=damaged(rng, sample.wal, [other.wal]))
        if kind < 11:
            return Kept(other.db, log=damaged(rng, sample.log, [other.log]))
        return Kept(damaged(rng, sample.db, []), damaged(rng, sample.wal, []), damaged(rng, sample.log, []))

    def _with_odd_values(self, rng: Random, data: bytes) -> bytes:
        path = self.folder / "made" / "odd.db"
        path.write_bytes(data)
        db = sqlite3.connect(str(path), isolation_level=None)
        db.execute("PRAGMA journal_mode=OFF")
        db.execute("PRAGMA synchronous=OFF")
        for _ in range(rng.choice((1, 1, 3))):
            names = [row[1] for row in db.execute("PRAGMA table_info(entry)")]
            value = rng.choice(self._ODD)
            cast = "CAST(? AS TEXT)" if isinstance(value, bytes) and rng.random() < 0.5 else "?"
            step = rng.choice((1, 2))
            attempt(db, f"UPDATE entry SET {rng.choice(names)} = {cast} WHERE rowid % ? = 0", (value, step))
        if rng.random() < 0.1:
            attempt(db, rng.choice(("PRAGMA user_version=7", "PRAGMA application_id=1", "PRAGMA user_version=1",
                                 "DROP TABLE entry", "ALTER TABLE entry ADD COLUMN more",
                                 "CREATE TABLE t(x)")))  # fmt: skip
        db.close()
        return path.read_bytes()

    def run(self, case: Kept) -> None:
        with contextlib.ExitStack() as stack:
            self._run(case, stack)

    def _run(self, case: Kept, stack: contextlib.ExitStack) -> None:
        shutil.rmtree(self.journal.parent, ignore_errors=True)
        self.journal.mkdir(parents=True)
        path = self.journal / "1.db"
        path.write_bytes(case.db)
        if case.wal:
            (self.journal / "1.db-wal").write_bytes(case.wal)
        (self.journal / "1.db-log").write_bytes(case.log)
        before = self._readable(path, case)
        first = Runner(self.settings, [])
        stack.callback(_closed, first._journal)
        found = first._journal.open()
        take_over(first._services, found)
        take_over(first._services, first._journal.adopt())
        for one in first._journal.live().values():
            first._journal.find_result(one.task_id, self._entry(1))
        first._journal.keep_late(first._journal.add(self._entry(1)), self._entry(1))
        first._journal.add(self._entry(5))
        first._journal.sweep()
        live = first._journal.live()
        aside = any(self.journal.glob("1.db.corrupt-*"))
        if before is not None and not aside and first._journal._path == path and not set(found) >= before:
            raise Wrong(f"rows {before} were in the file, {set(found)} were found")
        self._deliver(first)
        on_disk = first._journal.is_on_disk
        first._journal.close()
        if on_disk:
            again = Journal(self.journal)
            stack.callback(_closed, again)
            again.open()
            again.adopt()
            left = [entry.task_id for entry in again.live().values()]
            again.close()
            lost = {entry.task_id for entry in live.values()} - set(left)
            if lost:
                raise Wrong(f"{lost} were in the journal, and are gone from its file")
        self._look()

    def _readable(self, path: Path, case: Kept) -> set[int] | None:
        """The ids that SQLite alone reads in an undamaged file; None where it is damaged."""
        if case.wal or case.log:
            return None  # looking would change it, or the log may change the rows
        db = sqlite3.connect(path.as_uri() + "?immutable=1", uri=True)
        db.text_factory = bytes
        try:
            if db.execute("PRAGMA quick_check").fetchall() != [(b"ok",)]:
                return None
            if db.execute("PRAGMA application_id").fetchone()[0] != journal_file.APPLICATION_ID:
                return None
            if db.execute("PRAGMA user_version").fetchone()[0] > journal_file.SCHEMA:
                return None
            return {row[0] for row in db.execute("SELECT * FROM entry").fetchall()}
        except (sqlite3.Error, UnicodeDecodeError):
            return None
        finally:
            db.close()

    def _deliver(self, runner: Runner) -> None:
        """One attempt with each parcel, which reaches nobody."""
        delivery = runner._services.delivery
        for _, _, parcel in list(delivery._table._items.values()):
            if delivery._send(parcel) is None:
                raise Wrong(f"{parcel.entry.task_id} was given up")

    def _look(self) -> None:
        """``useragent journal``, which reads the same file."""
        from user_agent_sdk.cli import journal as command

        found = journal_file.leftovers(self.folder / "journal")
        for left in found.rows:
            json.dumps(command._fields(left))
        journal_file.task_of(self._entry(1))


def _closed(journal: Journal) -> None:
    """However its case ended."""
    if journal._file is not None:
        journal._file.close()


def attempt(db: sqlite3.Connection, statement: str, values: Sequence[Any] = ()) -> None:
    with contextlib.suppress(sqlite3.Error):
        db.execute(statement, values)


def damaged(rng: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """SQLite pages are changed in place, or shifted."""
    if rng.random() < 0.5:
        return mutate.raw(rng, data, others)
    changed = bytearray(data)
    for _ in range(rng.choice((1, 3, 10))):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def refused(*_: object) -> Any:
    raise ConnectionRefusedError(111, "Connection refused")



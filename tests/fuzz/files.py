# SPDX-License-Identifier: Apache-2.0
"""Files that somebody else wrote, or that a disk has changed: credentials and journals."""

from __future__ import annotations

import contextlib
import json
import shutil
import ssl
import zlib
from collections.abc import Sequence
from random import Random
from typing import Any
from unittest import mock

from user_agent_sdk import settings
from user_agent_sdk.conductor import connection
from user_agent_sdk.conductor.wire import Task
from user_agent_sdk.errors import ConfigError
from user_agent_sdk.worker.connect import connect
from user_agent_sdk.worker.keeping import journal_file
from user_agent_sdk.worker.keeping.held import Held
from user_agent_sdk.worker.keeping.journal import Journal
from user_agent_sdk.worker.keeping.lease import Lease
from user_agent_sdk.worker.keeping.leftovers import leftovers
from user_agent_sdk.worker.keeping.retries import case_of
from user_agent_sdk.worker.runner import Runner

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
            connect(found)[0].close()
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


class JournalFiles(Target):
    """A damaged journal never stops a worker, and no row that can be read is lost: it is delivered, kept
    for a human, or still in a file."""

    name = "journals"
    _ODD = (None, 0, -1, 2**63 - 1, 1e308, float("inf"), "", "x", "\ud800", "é" * 9, {}, [[]], True, "result")

    def __enter__(self) -> JournalFiles:
        super().__enter__()
        (self.folder / "made").mkdir()
        self.samples = [self._made(rows) for rows in (1, 2, 5)]
        given = settings.load({"conductor": "http://127.0.0.1:9/api"}, environ={})
        self.settings = given._replace(journal_dir=self.folder / "journal")
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
            work_hash="ab" * 32,
            taken_ms=1763776800000,
            lease_until_ms=1763776860000,
            lease_s=60.0,
            reason="HTTP 400: no" if state == journal_file.REJECTED else "",
            task=json.dumps(task).encode() if number % 2 else b"",
        )

    def _made(self, rows: int) -> bytes:
        folder = self.folder / "made" / str(rows)
        journal = Journal(folder)
        journal.open()
        for number in range(rows):
            journal.write(self._entry(number))
        late = self._entry(1)._replace(task_id="late-1")
        journal.write(late._replace(state=journal_file.LATE))
        log = (folder / "1.log").read_bytes()
        journal.close()
        return log

    def make(self, rng: Random) -> bytes:
        sample, other = rng.choice(self.samples), rng.choice(self.samples)
        if rng.random() < 0.4:
            return self._with_odd_values(rng, sample)
        return damaged(rng, sample, [other])

    def _with_odd_values(self, rng: Random, data: bytes) -> bytes:
        """Records whose checksums are right and whose content nobody wrote."""
        header, *records = data.split(journal_file._MARK)
        number = rng.randrange(len(records))
        line, _, rest = records[number][journal_file._HEAD.size :].partition(b"\n")
        fields = json.loads(line)
        for _ in range(rng.choice((1, 1, 3))):
            fields[rng.randrange(len(fields))] = rng.choice(self._ODD)
        if rng.random() < 0.1:
            del fields[rng.randrange(len(fields)) :]
        line = json.dumps(fields).encode() if rng.random() < 0.9 else mutate.raw(rng, line)
        content = line + b"\n" + (rest if rng.random() < 0.8 else mutate.raw(rng, rest))
        records[number] = journal_file._HEAD.pack(zlib.crc32(content), len(content)) + content
        return journal_file._MARK.join([header, *records])

    def run(self, case: bytes) -> None:
        with contextlib.ExitStack() as stack:
            self._run(case, stack)

    def _run(self, case: bytes, stack: contextlib.ExitStack) -> None:
        shutil.rmtree(self.journal.parent, ignore_errors=True)
        self.journal.mkdir(parents=True)
        path = self.journal / "1.log"
        path.write_bytes(case)
        path.chmod(0o600)
        before = self._whole(case)
        first = Runner(self.settings, [])
        stack.callback(_closed, first._journal)
        found = first._journal.open()
        if first._journal._file is not None and first._journal._file.path == path and not set(found) >= before:
            raise Wrong(f"rows {before} were in the file, {set(found)} were found")
        first._custody.take_over(found)
        first._custody.take_over(first._journal.adopt())
        for one in first._journal.live().values():
            retry = Held(one._replace(task_id="retry"), Lease(9.0))
            case_of(first._custody.register, retry, Task({"retriedTaskId": one.task_id}), 0.0, 0.0, bool)
        first._journal.write(self._entry(5))
        first._journal.sweep()
        live = first._journal.live()
        self._deliver(first)
        if not first._journal.is_on_disk:
            raise Wrong("the journal is in memory only")
        first._journal.close()
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

    def _whole(self, data: bytes) -> set[int]:
        """The rows that stand before the first damage, read one after the other by their lengths, where no mark
        follows: later records might take them back."""
        at, rows = len(journal_file.HEADER), set()
        if not data.startswith(journal_file.HEADER):
            return set()
        mark, head = journal_file._MARK, journal_file._HEAD
        while data[at : at + len(mark)] == mark and len(data) >= at + len(mark) + head.size:
            checksum, length = head.unpack_from(data, at + len(mark))
            content = data[at + len(mark) + head.size :][:length]
            if len(content) < length or zlib.crc32(content) != checksum:
                break
            parsed = journal_file._row(content)
            if parsed is None:
                break
            (rows.add if parsed[1] is not None else rows.discard)(parsed[0])
            at += len(mark) + head.size + length
        return rows if mark not in data[at:] else set()

    def _deliver(self, runner: Runner) -> None:
        """One attempt with each result, which reaches nobody."""
        delivery = runner._custody.delivery
        for held in delivery._table.items():
            if delivery._send(held) is None:
                raise Wrong(f"{held.entry.task_id} was given up")

    def _look(self) -> None:
        """``useragent journal``, which reads the same file."""
        from user_agent_sdk.cli import journal as command

        found = leftovers(self.folder / "journal")
        for left in found.rows:
            json.dumps(command._fields(left))
        journal_file.task_of(self._entry(1))


def _closed(journal: Journal) -> None:
    """However its case ended."""
    if journal._file is not None:
        journal._file.close()


def damaged(rng: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """Bytes that were changed in place, or shifted."""
    if rng.random() < 0.5:
        return mutate.raw(rng, data, others)
    changed = bytearray(data)
    for _ in range(rng.choice((1, 3, 10))):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def refused(*_: object) -> Any:
    raise ConnectionRefusedError(111, "Connection refused")



# SPDX-License-Identifier: Apache-2.0
"""The content of a journal's log: records of rows, each with its checksum and its length. No I/O.

A record is a mark, the CRC-32 and the length of what follows, a line of JSON, the report and the task. The JSON is
the row's number alone when the row is done with. The last record of a row is what counts.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import struct
import zlib
from pathlib import Path
from typing import Any, NamedTuple

from ...conductor.wire import Task, parse_tasks
from ...errors import PlatformError, StorageError
from ...prepared import json_encoder
from ...values import utf8

TAKEN, RESULT, ONCE, LATE, REJECTED = "taken", "result", "once", "late", "rejected"
STATES = (TAKEN, RESULT, ONCE, LATE, REJECTED)
HEADER = b"useragent journal 1\n"  # with the version of the format
_VERSION = re.compile(rb"useragent journal (\d+)\n")
_MARK = b"\xffrow\0"  # begins a record; neither JSON nor a report can contain these bytes
_HEAD = struct.Struct(">II")  # CRC-32 and length of a record's content
_FILE_NAME = re.compile(r"(\d+)\.log(\.new)?")
_json = json_encoder(separators=(",", ":"))


class Entry(NamedTuple):
    """One task's row. ``body`` is the encoded TaskResult; times are epoch milliseconds; ``task`` is the
    platform's reply that brought the task, kept while it runs only if its history will be wanted.

    ``state``: ``taken`` (the function was started), ``result`` (it ended, the report is not acknowledged),
    ``once`` (being sent, and never to be sent again), ``late`` (the platform has it and may have ignored it, since
    ``taken_ms``) or ``rejected`` (refused for good, kept for a human).
    """

    state: str
    task_id: str
    workflow_id: str
    agent_id: str
    worker_id: str
    status: str = ""
    body: bytes = b""
    work_hash: str = ""
    taken_ms: int = 0
    lease_until_ms: int = 0
    lease_s: float | None = None
    reason: str = ""
    task: bytes = b""

    @property
    def is_pending(self) -> bool:
        """Something is still to be done for the platform."""
        return self.state not in (LATE, REJECTED)


_BODY, _TASK = Entry._fields.index("body"), Entry._fields.index("task")
_TYPES: tuple[Any, ...] = (*(str,) * 6, bytes, str, int, int, (int, float, type(None)), str, bytes)


class Decoded(NamedTuple):
    """What a log holds: the newest entry of each row; how many records; where the first damage is, in bytes, or None;
    and where the last whole record ends."""

    rows: dict[int, Entry]
    records: int
    damaged: int | None
    end: int


def encode(row: int, entry: Entry | None) -> bytes:
    """The record of a row; of one that is done with (None)."""
    if entry is None:
        content = b"[%d]\n" % row
    else:
        task = b"" if _MARK in entry.task else entry.task  # a reply in UTF-16 might: then the history lacks the input
        fields: list[Any] = [row, *entry]
        fields[1 + _BODY], fields[1 + _TASK] = len(entry.body), len(task)
        content = _json(fields).encode("ascii") + b"\n" + entry.body + task
    return _MARK + _HEAD.pack(zlib.crc32(content), len(content)) + content


def decode(data: bytes) -> Decoded:
    """Read a log; the time is that of one look at each byte, whatever is damaged. Raises StorageError for a newer
    release's, which is to be left alone. Records are told apart by their marks alone: a length is compared with what is
    there, since random bytes can claim gigabytes. A record shorter than its length was cut off by a kill, or for want
    of room: that is no damage."""
    preamble, *records = data.split(_MARK)
    version = _VERSION.match(preamble)
    if version is not None and version[0] != HEADER:
        raise StorageError("it was written by a newer version")
    is_whole = preamble == HEADER or (not records and (HEADER + _MARK).startswith(preamble))
    rows: dict[int, Entry] = {}
    damaged = None if is_whole else 0
    count, at = 0, len(preamble)
    end = len(HEADER) if preamble.startswith(HEADER) else 0
    for record in records:
        content, length = _content(record)
        found = _row(content) if content is not None else None
        rest = record[_HEAD.size + len(content or b"") :]
        at += len(_MARK) + len(record)
        if found is not None:
            row, entry = found
            rows.pop(row, None)
            if entry is not None:
                rows[row] = entry
            count, end = count + 1, at - len(rest)
            is_sound = len(content or b"") == length and _MARK.startswith(rest)
        else:
            is_sound = content is None and len(record) - _HEAD.size < length
        if not is_sound and damaged is None:
            damaged = at - len(record) - len(_MARK)
    return Decoded(rows, count, damaged, end)


def _content(record: bytes) -> tuple[bytes | None, int]:
    """The content that the checksum is of, None if there is none; and the length that was written."""
    if len(record) < _HEAD.size:
        return None, _HEAD.size
    checksum, length = _HEAD.unpack_from(record)
    for size in (length, len(record) - _HEAD.size):  # the second: only the length is damaged
        content = record[_HEAD.size : _HEAD.size + size]
        if zlib.crc32(content) == checksum:
            return content, length
    return None, length


def _row(content: bytes) -> tuple[int, Entry | None] | None:
    """The row's number, and its entry unless it is done with; None for what no release has written."""
    line, _, rest = content.partition(b"\n")
    try:
        row, *fields = json.loads(line)
        if fields:
            body_bytes = fields[_BODY]
            fields[_BODY], fields[_TASK] = rest[:body_bytes], rest[body_bytes:]
        entry = Entry(*map(utf8, fields)) if fields else None
        is_known = isinstance(row, int) and (entry is None or _is_known(entry))
        return (row, entry) if is_known else None
    except (ValueError, TypeError, IndexError, RecursionError):
        return None


def _is_known(entry: Entry) -> bool:
    """Whether a release of this package may have written the entry: readers expect no other values."""
    if entry.state not in STATES or not all(isinstance(*pair) for pair in zip(entry, _TYPES)):
        return False
    is_in_time = 0 <= entry.taken_ms < 2**44 and 0 <= entry.lease_until_ms < 2**63  # the year 2527
    is_lease = entry.lease_s is None or 0 < entry.lease_s < 10**8
    return is_in_time and is_lease


def task_of(entry: Entry) -> Task:
    """An entry's task as it was handed out; one with the ids alone when that was not kept."""
    with contextlib.suppress(PlatformError):
        for task in parse_tasks(entry.task):
            if task.task_id == entry.task_id:
                return task
    return Task({"taskId": entry.task_id, "workflowInstanceId": entry.workflow_id, "taskType": entry.agent_id})


def folder_of(root: Path, *identity: str) -> Path:
    """The subfolder for one target (dialect, base URL, client): results never reach another."""
    import hashlib  # urllib has loaded it
    return root / hashlib.sha256("\0".join(identity).encode("utf-8")).hexdigest()[:12]


def files_of(folder: Path) -> list[Path]:
    """The logs in a target's folder, lowest number first. One may be missing while the one that was to replace it is
    there: the process was killed between setting a damaged log aside and that. Raises OSError."""
    numbers = {int(match[1]) for name in os.listdir(folder) if (match := _FILE_NAME.fullmatch(name))}
    return [folder / f"{number}.log" for number in sorted(numbers)]

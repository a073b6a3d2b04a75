# SPDX-License-Identifier: Apache-2.0
"""The made-up disk, and what Python's ``os``, ``fcntl``, ``pathlib`` and ``sys`` are on it.

What was written survives a kill; each operation is a step at which a process may be killed, a write after some of its
bytes. The disk may be full or read-only for a while, and somebody may remove what is on it.
"""

from __future__ import annotations

import errno
import stat
import sys as real_sys
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from .world import Crash, world

if TYPE_CHECKING:
    from .process import Process

RDONLY, WRONLY, RDWR, CREAT, EXCL, APPEND = 0, 1, 2, 0o100, 0o200, 0o2000
FOLDER = "/j"  # of all journals, which is never removed itself


class Node:
    """A file, which lives while it has a name or is open."""

    def __init__(self, number: int) -> None:
        self.st_ino, self.st_dev, self.st_uid, self.st_gid = number, 1, 0, 0
        self.st_nlink, self.st_mode = 1, stat.S_IFREG | 0o600
        self.data = bytearray()
        self.locked_by: int | None = None  # a descriptor

    @property
    def st_size(self) -> int:
        return len(self.data)


_FOLDER = Node(0)
_FOLDER_STAT = SimpleNamespace(st_uid=0, st_mode=stat.S_IFDIR | 0o700, st_ino=0, st_dev=1)


class Disk:
    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.names: dict[str, Node] = {}
        self.folders = {FOLDER}
        self.open: dict[int, tuple[Node, int, Process]] = {}
        self.is_full = self.is_read_only = False
        self.hurt_until = 0.0  # on the world's clock: until then something may be missing on it
        self.is_damaged = False  # by somebody's hand
        self.count = 0

    def number(self) -> int:
        self.count += 1
        return self.count

    @property
    def is_sound(self) -> bool:
        """It has been well for so long that every process has noticed."""
        return not self.is_full and not self.is_read_only and world.now >= self.hurt_until

    def hurt(self, seconds: float) -> None:
        self.hurt_until = max(self.hurt_until, world.now + seconds)

    def remove(self, folder: bool) -> None:
        for name in list(self.names):
            self.names.pop(name).st_nlink = 0
        if folder:
            self.folders = {FOLDER}

    def died(self, process: Process) -> None:
        for descriptor, (node, _, owner) in list(self.open.items()):
            if owner is process:
                del self.open[descriptor]
                if node.locked_by == descriptor:
                    node.locked_by = None

    def has(self, mark: bytes) -> bool:
        """Whether some log that a next process finds has these bytes."""
        return any(mark in node.data for name, node in self.names.items() if name.endswith((".log", ".new")))


disk = Disk()


def _step() -> Process:
    """A process does something with the disk; it may be killed before."""
    process = world.process
    assert process is not None
    process.step()
    return process


def _error(number: int, path: object = None) -> OSError:
    return OSError(number, errno.errorcode[number], path)


def _node(path: str) -> Node:
    node = disk.names.get(path)
    if node is None:
        raise FileNotFoundError(errno.ENOENT, "no such file", path)
    return node


def _writable(path: object = None) -> None:
    if disk.is_read_only:
        raise _error(errno.EROFS, path)


def _parent(path: str) -> str:
    return path.rpartition("/")[0]


def _open(path: str, flags: int, mode: int = 0o777) -> int:
    process = _step()
    node = disk.names.get(path) or (_FOLDER if path in disk.folders else None)
    if flags & 3:
        _writable(path)
    if node is None:
        if not flags & CREAT or _parent(path) not in disk.folders:
            raise FileNotFoundError(errno.ENOENT, "no such file", path)
        if disk.is_full:
            raise _error(errno.ENOSPC, path)
        node = disk.names[path] = Node(disk.number())
    elif flags & EXCL:
        raise FileExistsError(errno.EEXIST, "exists", path)
    descriptor = 1000 + disk.number()
    disk.open[descriptor] = (node, flags, process)
    return descriptor


_NONE = (None, 0, None)  # a kill has closed it


def _close(descriptor: int) -> None:
    node, _, _ = disk.open.pop(descriptor, _NONE)
    if node is not None and node.locked_by == descriptor:
        node.locked_by = None


class File:
    """What fdopen() makes."""

    def __init__(self, descriptor: int, mode: str = "rb", buffering: int = -1) -> None:
        self._descriptor = descriptor
        self._node = disk.open[descriptor][0]

    def __enter__(self) -> File:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def fileno(self) -> int:
        return self._descriptor

    def read(self) -> bytes:
        return bytes(self._node.data)

    def flush(self) -> None:
        pass

    def write(self, data: bytes) -> int:
        process = world.process
        assert process is not None
        if process.dies_now():
            self._node.data += data[: int(world.rand.random() * (len(data) + 1))]
            process.die()
            raise Crash
        _writable()
        if disk.is_full:
            room = int(world.rand.random() * len(data)) if world.rand.random() < 0.3 else 0
            if not room:
                raise _error(errno.ENOSPC)
            self._node.data += data[:room]
            return room
        self._node.data += data
        return len(data)

    def truncate(self, size: int) -> int:
        _step()
        _writable()
        del self._node.data[size:]
        return size

    def close(self) -> None:
        if self._descriptor in disk.open:
            _close(self._descriptor)


def _replace(source: str, target: str) -> None:
    _step()
    _writable(target)
    node = _node(source)
    if target in disk.names:
        disk.names[target].st_nlink = 0
    disk.names[target] = node
    del disk.names[source]


def _unlink(path: str) -> None:
    _step()
    _writable(path)
    _node(path).st_nlink = 0
    del disk.names[path]


def _mkdir(path: str, mode: int = 0o777) -> None:
    _step()
    _writable(path)
    disk.folders.add(path)


def _stat(path: str) -> Any:
    return _FOLDER_STAT if path in disk.folders else _node(path)


def _fstat(descriptor: int) -> Node:
    return disk.open[descriptor][0]


def _flock(descriptor: int, how: int) -> None:
    node = disk.open[descriptor][0]
    if node.locked_by is not None:
        raise BlockingIOError(errno.EAGAIN, "locked")
    node.locked_by = descriptor


class Path(str):
    """As much of pathlib's as the journal uses."""

    __slots__ = ()

    def __truediv__(self, name: str) -> Path:
        return Path(f"{self}/{name}")

    @property
    def name(self) -> str:
        return self.rpartition("/")[2]

    @property
    def parent(self) -> Path:
        return Path(_parent(self))

    def with_name(self, name: str) -> Path:
        return Path(f"{_parent(self)}/{name}")

    def with_suffix(self, suffix: str) -> Path:
        return Path(self.rpartition(".")[0] + suffix)


def _listdir(folder: str) -> list[str]:
    return [name[len(folder) + 1 :] for name in disk.names if name.startswith(f"{folder}/")]


os = SimpleNamespace(
    O_RDONLY=RDONLY, O_WRONLY=WRONLY, O_RDWR=RDWR, O_CREAT=CREAT, O_EXCL=EXCL, O_APPEND=APPEND,
    O_NOFOLLOW=0, O_NONBLOCK=0, O_CLOEXEC=0,
    open=_open, close=_close, fdopen=File, fstat=_fstat, lstat=_stat, stat=_stat, replace=_replace, unlink=_unlink,
    mkdir=_mkdir, listdir=_listdir, chmod=lambda path, mode: None,
    fsync=lambda descriptor: None, register_at_fork=lambda **calls: None,
    geteuid=lambda: 0, getegid=lambda: 0, getgroups=lambda: [0], getpid=lambda: 1,
    path=SimpleNamespace(
        isdir=lambda path: path in disk.folders, islink=lambda path: False,
        lexists=lambda path: path in disk.names or path in disk.folders,
        samestat=lambda one, other: one.st_ino == other.st_ino,
    ),
)  # fmt: skip
fcntl = SimpleNamespace(flock=_flock, LOCK_EX=2, LOCK_NB=4)
pathlib = SimpleNamespace(Path=Path)
sys = SimpleNamespace(platform="linux", _current_frames=dict, getsizeof=real_sys.getsizeof, modules={})

# SPDX-License-Identifier: Apache-2.0
"""Files and folders of our own: made for their owner alone, and never trusted for their names."""

from __future__ import annotations

import errno
import os
import stat
import sys
from datetime import datetime, timezone
from pathlib import Path

from .errors import StorageError

# A planted link is not followed, a planted FIFO does not hang, and no child process gets the descriptor.
if sys.platform == "win32":
    _SAFE = os.O_BINARY | os.O_NOINHERIT
else:
    _SAFE = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NO_FILE = (errno.ELOOP, errno.EMLINK, errno.ENXIO)  # open() met a symlink, on FreeBSD a symlink, a FIFO or device


def make_folder(path: Path) -> None:
    """Make a folder, and those above it that are missing, for the owner alone, whatever the umask. Raises OSError,
    StorageError where :func:`check_folder` would."""
    _refuse_links(path)
    if not os.path.isdir(path):
        if path.parent != path and not os.path.isdir(path.parent):  # a drive or share that is not there has no parent
            make_folder(path.parent)
        try:
            os.mkdir(path, 0o700)
            os.chmod(path, 0o700)
            return
        except FileExistsError:
            if not os.path.isdir(path):  # else another process made it just now
                raise
    if check_folder(path) & 0o077:
        os.chmod(path, 0o700)


def check_folder(path: Path) -> int:
    """The mode of a folder that is ours, 0 on Windows; changes nothing. Raises OSError, StorageError for another
    user's folder, or one that another user's link leads to."""
    if sys.platform == "win32":
        return 0
    _refuse_links(path)
    found = os.stat(path)
    if found.st_uid != os.geteuid():
        raise StorageError(f"{path} belongs to user {found.st_uid}, not to {os.geteuid()}")
    return found.st_mode


def _refuse_links(path: Path) -> None:
    """Another user's link, here or in the place of .useragent or of a folder in it, leads where that user likes."""
    for place in (path, path.parent, path.parent.parent):
        is_own = place == path or ".useragent" in (place.name, place.parent.name)
        if is_own and os.path.islink(place) and is_foreign(found := os.lstat(place)):
            raise StorageError(f"{place} is a link of user {found.st_uid}")


def is_foreign(link: os.stat_result) -> bool:
    return sys.platform != "win32" and link.st_uid not in (0, os.geteuid())


def open_own(path: str | Path, flags: int) -> int:
    """A descriptor of a regular file that is ours alone; with O_CREAT one that is missing is made so. Raises OSError,
    StorageError for what somebody else has, or may have put, under that name."""
    try:
        descriptor = os.open(path, flags | _SAFE, 0o600)
    except OSError as error:
        if error.errno in _NO_FILE:
            raise StorageError(f"{path} is no regular file") from None
        raise
    if fault := _fault(os.fstat(descriptor)):
        os.close(descriptor)
        raise StorageError(f"{path} {fault}")
    return descriptor


def _fault(found: os.stat_result, or_roots: bool = False) -> str:
    """Why a file is not trusted. Kubernetes lets a volume's group write all that is in it: a group of ours."""
    if not stat.S_ISREG(found.st_mode):
        return "is no regular file"
    if sys.platform == "win32":
        return ""
    if found.st_uid != os.geteuid() and not (or_roots and found.st_uid == 0):
        return f"belongs to user {found.st_uid}, not to {os.geteuid()}"
    if found.st_nlink > 1:
        return "has a second name (a hard link)"
    is_ours = found.st_gid in (os.getegid(), *os.getgroups())
    return "can be written by others" if found.st_mode & (0o002 if is_ours else 0o022) else ""


def aside(path: Path) -> Path:
    """A name for a damaged file that nothing has yet."""
    stamp = datetime.now(timezone.utc).strftime("%Y%m%dT%H%M%SZ")
    target, number = path.with_name(f"{path.name}.corrupt-{stamp}"), 1
    while os.path.lexists(target):
        number += 1
        target = path.with_name(f"{path.name}.corrupt-{stamp}-{number}")
    return target


def check_own(path: Path, or_roots: bool = False) -> None:
    """The same for a file that is opened by its name, as SQLite does; our own links are followed. What is only read may
    be root's, too, with ``or_roots``. Raises OSError, StorageError."""
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return
    if stat.S_ISLNK(found.st_mode) and not is_foreign(found):
        found = os.stat(path)
    if fault := _fault(found, or_roots):
        raise StorageError(f"{path} {fault}")

"""What the system does for a socket that the standard library has no call for, or too many.

Each call that may wait gives the interpreter away, and with eight slots another takes it: four such calls an
exchange, where two would do, cost a tenth of the tasks/s. So where the kernel can do without one, it is asked.
"""

from __future__ import annotations

import math
import select
import socket
import struct
import sys
from typing import Any, Callable

_TIMEVAL = struct.Struct("@ll")
_TCP_INFO: int | None = getattr(socket, "TCP_INFO", None)  # Linux
_ESTABLISHED, _BYTES_RECEIVED = b"\x01", slice(128, 136)  # in its struct tcp_info, the latter since 4.1


def patient_send(sock: socket.socket) -> Callable[[Any], int] | None:
    """Make ``sock`` one whose receive waits and reads in one call, for as long as :func:`be_patient` says. The
    answer sends without waiting; None where that can't be had."""
    if sys.platform == "win32":
        return None
    try:
        be_patient(sock, 1.0)
    except OSError:  # a C library whose times have another size
        return None
    sock.setblocking(True)
    return lambda data: sock.send(data, socket.MSG_DONTWAIT)


def be_patient(sock: socket.socket, wait_s: float) -> None:
    wait = _TIMEVAL.pack(*divmod(int(wait_s * 1e6) + 1, 1_000_000))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, wait)


def all_is_read(sock: socket.socket, received: int) -> bool:
    """The connection stands, and no byte came but those ``received``. False also where the kernel can't say so."""
    if _TCP_INFO is None:
        return False
    try:
        info = sock.getsockopt(socket.IPPROTO_TCP, _TCP_INFO, _BYTES_RECEIVED.stop)
    except OSError:
        return False
    return info[:1] == _ESTABLISHED and int.from_bytes(info[_BYTES_RECEIVED], sys.byteorder) == received


def poller(sock: socket.socket) -> Callable[[bool, float], Any]:
    """A call that waits so many seconds until ``sock`` can be written to, or read from; falsy when it can't.
    select() alone can't watch descriptors over 1023."""
    if sys.platform != "win32" and hasattr(select, "poll"):
        readable, writable = select.poll(), select.poll()
        readable.register(sock, select.POLLIN)
        writable.register(sock, select.POLLOUT)
        return lambda writes, wait_s: (writable if writes else readable).poll(math.ceil(wait_s * 1000))
    return lambda writes, wait_s: any(select.select(() if writes else (sock,), (sock,) if writes else (), (), wait_s))

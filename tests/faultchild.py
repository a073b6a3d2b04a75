# SPDX-License-Identifier: Apache-2.0
"""A worker process for the fault tests: ``python -m tests.faultchild JSON``.

It tells of each started function in a line on stdout, and kills itself where it is told to; the
product itself knows nothing of that.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any, Callable

from user_agent_sdk import settings as settings_module
from user_agent_sdk.agents import REGISTRY, register_user_agent
from user_agent_sdk.conductor.client import Client
from user_agent_sdk.conductor.wire import TaskResult
from user_agent_sdk.worker import slots
from user_agent_sdk.worker.keeping.delivery import Delivery
from user_agent_sdk.worker.keeping.journal import Journal
from user_agent_sdk.worker.polling.gate import Gate
from user_agent_sdk.worker.runner import Runner

KILL = getattr(signal, "SIGKILL", 9)
ORDER = json.loads(sys.argv[1]) if __name__ == "__main__" else {}


def tell(text: str) -> None:
    os.write(1, f"{text}\n".encode())


def end(number: int) -> None:
    """This process gets the signal, as from outside. On Windows kill() would end it, whichever it is."""
    if os.name == "nt" and number != KILL:
        signal.raise_signal(number)
    else:
        os.kill(os.getpid(), number)


def heed_stdin() -> None:
    """On Windows nobody can send a signal to a single process: each line on stdin is the number of one."""
    left = b""
    while True:
        left += os.read(0, 4096) or os._exit(1)  # whoever started this is gone
        *numbers, left = left.split(b"\n")
        for number in numbers:
            signal.raise_signal(int(number))


def kill(
    owner: Any,
    name: str,
    when: Callable[[Any, Any], bool] = lambda args, reply: True,
    before: bool = False,
    number: int = KILL,
) -> None:
    """Die before or after a call of ``owner.name`` for which ``when(args, reply)`` is true."""
    real = getattr(owner, name)

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        if before and when(args, None):
            end(number)
        reply = real(*args, **kwargs)
        if not before and when(args, reply):
            end(number)
        return reply

    setattr(owner, name, wrapped)


def is_result(args: Any, _: Any) -> bool:
    return args[1].state == "result"


POINTS: dict[str, Callable[[], None]] = {
    "polled": lambda: kill(Gate, "_answered", lambda args, _: bool(args[2]), before=True),
    "journaled": lambda: kill(slots, "execute", before=True),
    "ran": lambda: kill(slots, "execute"),
    "committed": lambda: kill(Journal, "write", is_result),
    "stopped while committing": lambda: kill(Journal, "write", is_result, before=True, number=signal.SIGTERM),
    "posted": lambda: kill(Delivery, "attempt_ended", before=True),
    "marked": lambda: kill(Client, "report", before=True),
    "put-back": lambda: kill(Client, "report"),
}


def quick(task: Any, n: int = 0) -> Any:
    handle, _ = tempfile.mkstemp(prefix=f"{task.task_id}.", dir=ORDER["runs"])  # two that append lose lines on Windows
    os.close(handle)
    tell("started")
    if ORDER.get("point") in ("marked", "put-back"):
        return TaskResult(status="IN_PROGRESS", callback_after_seconds=0)
    return n + 1


def waits(task: Any, seconds: float = 0) -> float:
    tell("started")
    threading.Event().wait(seconds)
    return seconds


def spins(seconds: float) -> str:
    import time

    tell("started")
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass
    return "done"


def closes_stdout() -> str:
    tell("started")
    os.close(1)
    return "done"


def takes_all(seconds: float, what: str) -> str:
    """Leaves no thread, or no descriptor, for anybody else, and goes on for a while."""
    if what == "threads":

        def start(self: threading.Thread) -> None:
            raise RuntimeError("can't start new thread")

        threading.Thread.start = start  # type: ignore[method-assign]
    else:
        import resource

        next_one = os.open(os.devnull, os.O_RDONLY)
        os.close(next_one)
        resource.setrlimit(resource.RLIMIT_NOFILE, (next_one, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    tell("started")
    threading.Event().wait(seconds)
    return what


def main() -> int:
    given = ORDER["credentials"]
    plain = settings_module.load({}, environ={}, target=False)
    settings = plain.on_sandbox(given, Path(ORDER["journal"]))._replace(
        poll_interval_ms=20, **ORDER.get("settings", {})
    )
    if "max_file_bytes" in ORDER:
        import resource

        # up to 3.13.0 Python keeps a compiled file that was cut at the limit, which no later process can import
        sys.dont_write_bytecode = True
        resource.setrlimit(resource.RLIMIT_FSIZE, (ORDER["max_file_bytes"], resource.RLIM_INFINITY))
    if os.name == "nt":
        threading.Thread(target=heed_stdin, daemon=True).start()
    if "point" in ORDER:
        POINTS[ORDER["point"]]()
    register_user_agent(globals()[ORDER["agent"]], given["agentId"])
    runner = Runner(settings, REGISTRY, owns_process=True)
    code = runner.run()
    if runner.has_stragglers:
        os._exit(code)
    return code


if __name__ == "__main__":
    sys.exit(main())

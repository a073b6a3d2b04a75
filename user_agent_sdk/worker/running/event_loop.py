# SPDX-License-Identifier: Apache-2.0
"""An event loop for one slot's async functions, kept between tasks."""

from __future__ import annotations

import logging
from collections.abc import Awaitable
from contextlib import closing
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio

LEFTOVER_WAIT_S = 5.0  # what a function left running gets to end, once cancelled

log = logging.getLogger(__name__)


class AsyncRunner:
    """Runs awaitables on a loop of its own. One thread owns it; asyncio is imported at the first run."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None

    def run(self, awaitable: Awaitable[Any]) -> Any:
        """The awaitable's result, or the exception that it raised, whatever its kind.

        Tasks that it started and left are cancelled; the loop is as good as new for the next run.
        """
        import asyncio

        if self._loop is None or self._loop.is_closed():
            self._loop = asyncio.new_event_loop()
        loop = self._loop
        try:
            return loop.run_until_complete(awaitable)
        finally:
            # A KeyboardInterrupt or SystemExit leaves run_until_complete before all others have run.
            leftover = asyncio.all_tasks(loop)
            if leftover:
                self._cancel(loop, leftover)

    def _cancel(self, loop: asyncio.AbstractEventLoop, leftover: set[asyncio.Task[Any]]) -> None:
        import asyncio

        for task in leftover:
            task.cancel()
        try:
            _, pending = loop.run_until_complete(asyncio.wait(leftover, timeout=LEFTOVER_WAIT_S))
        except BaseException:  # one of them answered the cancel with a SystemExit
            pending = leftover
        if pending:
            log.warning(
                "%d asyncio tasks that an agent left running ignored their cancellation", len(pending),
                extra={"action": "async_leftover"},
            )  # fmt: skip
            self.close()

    def close(self) -> None:
        """End the loop; the next run opens a new one. Call it in the owner's thread."""
        loop, self._loop = self._loop, None
        if loop is None:
            return
        try:
            loop.run_until_complete(loop.shutdown_asyncgens())
        finally:
            loop.close()


def run_once(awaitable: Awaitable[Any]) -> Any:
    """Run one awaitable on a loop made for it."""
    with closing(AsyncRunner()) as runner:
        return runner.run(awaitable)

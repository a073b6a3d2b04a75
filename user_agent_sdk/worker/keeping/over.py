# SPDX-License-Identifier: Apache-2.0
"""Tells a running function that its task is over: its workflow was ended, restarted or removed meanwhile.

The answer to an extension tells it of a removed task alone, so there is one look at the task after an extension. A task
that failed or timed out on the platform goes on: its result may answer the retry.
"""

from __future__ import annotations

import time
from typing import Callable

from ...conductor.client import Client
from .held import Held

LOOK_AFTER_S = 2.0  # of running: most tasks end sooner, and cost no look
_ENDED = ("CANCELED", "COMPLETED", "COMPLETED_WITH_ERRORS", "FAILED_WITH_TERMINAL_ERROR", "SKIPPED")


class Over:
    """Looks at the tasks whose functions run."""

    def __init__(self, client: Client, clock: Callable[[], float] = time.monotonic) -> None:
        self._client = client
        self._clock = clock

    def look(self, held: Held, is_known: bool, timeout_s: float) -> None:
        """After an extension; ``is_known`` is False when the platform said that there is no such task."""
        call = held.call
        if call is None or held.ended_s or call.reason:
            return
        if not is_known:
            call.cancel("the platform does not know this task any more")
        elif self._client.can_look and self._clock() - held.began_at >= LOOK_AFTER_S:
            status = self._client.status_of(held.ids[0], timeout_s)
            if status in _ENDED:
                call.cancel(f"the task was ended on the platform meanwhile ({status})")

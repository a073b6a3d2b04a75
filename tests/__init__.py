# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import signal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from unittest import TestLoader, TestSuite

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # As in the background of a shell script. What tests start would inherit that, and its Ctrl+C is tested.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def load_tests(loader: TestLoader, standard: TestSuite, pattern: str | None) -> TestSuite:
    """All tests: over several processes, unless some were chosen by name."""
    from . import parallel  # not for each process that a test starts

    return parallel.load(loader, pattern)

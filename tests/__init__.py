# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from unittest import TestLoader, TestSuite


def load_tests(loader: TestLoader, standard: TestSuite, pattern: str | None) -> TestSuite:
    """All tests: over several processes, unless some were chosen by name."""
    from . import parallel  # not for each process that a test starts

    return parallel.load(loader, pattern)

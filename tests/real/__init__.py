# SPDX-License-Identifier: Apache-2.0
"""Tests against the real servers: ``USERAGENT_REAL=1 python -m unittest discover -s tests/real -t .``

Without ``USERAGENT_REAL=1`` they are skipped; with it a server that is missing or does not boot is a failure.
"""

from __future__ import annotations

import atexit
import os
import threading
import unittest

from .stack import Stack

WANTED = os.environ.get("USERAGENT_REAL") == "1"

_lock = threading.Lock()  # guards the two below
_stack: Stack | None = None
_failure: Exception | None = None


def shared_stack() -> Stack:
    """The one stack of this process, booted by the first call; a boot that failed is not tried again."""
    global _stack, _failure
    with _lock:
        if _failure is not None:
            raise RuntimeError("the real servers did not boot; see the first failure") from None
        if _stack is None:
            stack = Stack()
            try:
                stack.start()
            except Exception as error:
                _failure = error
                raise
            atexit.register(stack.stop)
            _stack = stack
        return _stack


@unittest.skipUnless(WANTED, "the real servers run only with USERAGENT_REAL=1")
class RealTestCase(unittest.TestCase):
    """``self.stack`` is the shared stack, with no fault ordered and an empty log of requests."""

    stack: Stack

    @classmethod
    def setUpClass(cls) -> None:
        cls.stack = shared_stack()

    def setUp(self) -> None:
        self.stack.gateway.clear()
        self.stack.gateway.forget()
        self.addCleanup(self.stack.gateway.clear)

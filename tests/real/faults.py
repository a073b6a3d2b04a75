# SPDX-License-Identifier: Apache-2.0
"""The faults that the gateway can make, and which request each of them strikes.

    503         refused, nothing done, with Retry-After when one is given
    401         refused as EXPIRED_TOKEN, nothing done
    reset       the connection is reset, nothing done
    away        the connection is closed without a word, nothing done
    hang        no answer for ``hang_s``, then closed, nothing done
    half-reply  done upstream; half of the reply, then closed
    lost-reply  done upstream; the connection is reset before a byte of the reply
"""

from __future__ import annotations

import random
import threading
from collections.abc import Mapping, Sequence
from typing import NamedTuple

BEFORE = ("503", "401", "reset", "away", "hang")
AFTER = ("half-reply", "lost-reply")


class Fault(NamedTuple):
    name: str
    retry_after: str | None
    hang_s: float


class _Order:
    """``fault`` for the next ``left`` requests (None: for all) of ``route`` (None: of any) after ``skip`` of them."""

    def __init__(self, fault: Fault, route: str | None, left: int | None, skip: int) -> None:
        self.fault = fault
        self.route = route
        self.left = left
        self.skip = skip

    def strikes(self, route: str) -> bool:
        if self.left == 0 or self.route not in (None, route):
            return False
        if self.skip > 0:
            self.skip -= 1
            return False
        if self.left is not None:
            self.left -= 1
        return True


class _Plan:
    """Faults drawn at ``rates`` (name -> probability) for the requests of ``routes``; the same for the same seed."""

    def __init__(self, seed: int, rates: Mapping[str, float], routes: Sequence[str], hang_s: float) -> None:
        if not all(rate >= 0 for rate in rates.values()) or sum(rates.values()) > 1:
            raise ValueError(f"these are no probabilities of one draw: {dict(rates)}")
        self._random = random.Random(seed)
        self._rates = [(_fault(name, None, hang_s), rate) for name, rate in rates.items()]
        self._routes = tuple(routes)

    def drawn(self, route: str) -> Fault | None:
        if route not in self._routes:
            return None
        draw = self._random.random()
        for fault, rate in self._rates:
            draw -= rate
            if draw < 0:
                return fault
        return None


class Faults:
    """What is ordered and planned, for the threads of the gateway."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # guards both, and the counters and the random source in them
        self._orders: list[_Order] = []
        self._plan: _Plan | None = None

    def order(
        self,
        name: str,
        *,
        count: int | None = 1,
        route: str | None = None,
        skip: int = 0,
        retry_after: str | None = None,
        hang_s: float = 2.0,
    ) -> None:
        """The next ``count`` requests (None: all, until ``clear``) fail so; ``retry_after`` is sent as it is.

        Orders are used up in turn. Raises ValueError for a name that is none.
        """
        order = _Order(_fault(name, retry_after, hang_s), route, count, skip)
        with self._lock:
            self._orders.append(order)

    def plan(self, seed: int, rates: Mapping[str, float], routes: Sequence[str], *, hang_s: float = 2.0) -> None:
        """From now on each request of ``routes`` that no order strikes draws a fault; the rates sum to 1 at most."""
        plan = _Plan(seed, rates, routes, hang_s)
        with self._lock:
            self._plan = plan

    def clear(self) -> None:
        """Ends the plan and every order."""
        with self._lock:
            self._orders.clear()
            self._plan = None

    def drawn(self, route: str) -> Fault | None:
        """The fault for one request, used up by it."""
        with self._lock:
            for order in self._orders:
                if order.strikes(route):
                    return order.fault
            return self._plan.drawn(route) if self._plan else None


def _fault(name: str, retry_after: str | None, hang_s: float) -> Fault:
    if name not in BEFORE + AFTER:
        raise ValueError(f"no fault is named {name!r}; there are {', '.join(BEFORE + AFTER)}")
    return Fault(name, retry_after, hang_s)

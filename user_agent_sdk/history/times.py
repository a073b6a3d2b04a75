# SPDX-License-Identifier: Apache-2.0
"""Times as the history has them: ISO 8601 texts, with an offset (ours) or as local time (0.2.0's)."""

from __future__ import annotations

import re
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from functools import lru_cache
from typing import Any

from .. import values

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


def local(epoch_s: float) -> str:
    """Local time as 0.2.0 writes it, without its offset; always equally long, since 0.2.0 sorts these as texts."""
    return stamp(epoch_s)[:26]


def stamp(epoch_s: float) -> str:
    """Local time with its offset."""
    second, left_us = divmod(round(epoch_s * 1e6), 1_000_000)
    begins, offset = _second(second)
    return f"{begins}.{left_us:06d}{offset}"


@lru_cache(maxsize=64)  # a date and its zone cost more than all the rest; no zone is off by seconds any more
def _second(second: int) -> tuple[str, str]:
    try:
        text = datetime.fromtimestamp(second).astimezone().isoformat()
    except OSError:  # Windows knows no local time on the first day of 1970, where a damaged journal puts its tasks
        text = datetime.fromtimestamp(second, timezone.utc).isoformat()
    return text[:19], text[19:]


def moment(text: object) -> datetime | None:
    """A stored time as an aware datetime; without an offset it is local. None for a text that is no time."""
    if not isinstance(text, str):
        return None
    try:
        return values.moment(text).astimezone()
    except (ValueError, OverflowError, OSError):
        return None


def parse_since(text: str) -> datetime:
    """``2h`` (ago; s, m, h, d, w), or a date or time in ISO 8601. Raises ValueError saying what it must be."""
    found = re.fullmatch(r"(\d{1,9}(?:\.\d+)?)\s*([smhdw])", text.strip())
    with suppress(OverflowError):
        if found:
            return datetime.now().astimezone() - timedelta(seconds=float(found[1]) * _SECONDS[found[2]])
    when = moment(text)
    with suppress(ValueError):  # Windows knows no local time before 1970 or after 3000, Python none after 9999
        when = when or values.moment(text).replace(tzinfo=timezone.utc)
    if when is None:
        raise ValueError(f"must be an age such as 30m, 2h or 7d, or a date such as 2026-01-31, not {text!r}")
    return when


def lasted(ms: float | None) -> str:
    """A duration for people: ``12 ms``, ``1.25 s``, ``3m 05s``, ``2h 07m``; empty when it is not known."""
    if ms is None:
        return ""
    if ms < 1000:
        return f"{ms:.0f} ms"
    if ms < 59_950:
        return f"{ms / 1000:.2f} s" if ms < 9_995 else f"{ms / 1000:.1f} s"
    minutes, seconds = divmod(round(ms / 1000), 60)
    if minutes < 60:
        return f"{minutes}m {seconds:02d}s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h {minutes:02d}m"


def clock(epoch_ms: Any) -> str:
    """The local time of day, in milliseconds; as many spaces where there is none."""
    try:
        return datetime.fromtimestamp(epoch_ms / 1000).strftime("%H:%M:%S.%f")[:12]
    except (TypeError, ValueError, OverflowError, OSError):
        return " " * 12

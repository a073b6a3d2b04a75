# SPDX-License-Identifier: Apache-2.0
"""What the text of a setting may be: each function takes text, gives the value, and raises ValueError saying what the
text must be instead. And what all rooms read alike: a moment, and text that UTF-8 can hold."""

from __future__ import annotations

import os
import re
from datetime import datetime
from pathlib import Path
from typing import Any, Callable

from .errors import UsageError, UserAgentError


class Secret(str):
    """Text that a repr, and so a traceback or a log of its holder, does not show."""

    def __repr__(self) -> str:
        return "Secret('***')"


def plain(text: str) -> str:
    """``text`` trimmed; refuses control characters, which have no place in a header or an address."""
    if not text.isprintable() and not text.strip().isprintable():
        raise ValueError("must not contain control characters")
    return text.strip()


def secret(text: str) -> Secret:
    return Secret(plain(text))


def from_home(text: str) -> Path:
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise ValueError(f"names a home folder that is not known: {text!r}") from None


def existing_file(text: str) -> Path:
    path = from_home(text)
    if not os.path.isfile(path):
        raise ValueError(f"names a file that does not exist: {path}")
    return path


def whole(low: int, high: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not text.strip().isdecimal() or not low <= int(text) <= high:
            raise ValueError(f"must be a whole number from {low} to {high:,}, not {text!r}")
        return int(text)

    return parse


def number(low: float, high: float, unit: str) -> Callable[[str], float]:
    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if not low <= value <= high:
            raise ValueError(f"must be a number of {unit} from {low:g} to {high:,.0f}, not {text!r}")
        return value

    return parse


def worker_count(text: str) -> int:
    """0 for a number below one, which 0.2.0 took for one worker."""
    digits = text.strip()
    is_one = (digits.isdecimal() and not int(digits)) or (digits[:1] == "-" and digits[1:].isdecimal())
    return 0 if is_one else whole(1, 1000)(text)


milliseconds = number(0, 3_600_000, "milliseconds")


def choice(*names: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        for name in names:
            if name.lower() == text.strip().lower():
                return name
        raise ValueError(f"must be one of {', '.join(names)}, not {text!r}")

    return parse


def switch(text: str) -> bool:
    word = text.strip().lower()
    if word in ("1", "true", "yes", "on", "t", "y"):
        return True
    if word in ("0", "false", "no", "off", "f", "n"):
        return False
    raise ValueError(f"must be true or false, not {text!r}")


def age(text: str) -> float:
    """``12h`` or ``30d`` in seconds."""
    found = re.fullmatch(r"(\d{1,6})([hdw])", text.strip())
    if found is None:
        raise ValueError(f"must be an age such as 12h, 30d or 8w, not {text!r}")
    return float(found[1]) * {"h": 3600, "d": 86400, "w": 604800}[found[2]]


def moment(text: str) -> datetime:
    """A time in ISO 8601, whose seconds may have any number of digits (.NET writes 7) and whose zone may be Z or +0700
    (Jackson's): Python before 3.11 reads 3 or 6 digits, and +07:00 alone."""
    text = re.sub(r"\.(\d+)", lambda found: f".{found[1]:0<6.6}", text.strip())
    text = re.sub(r"[Zz]$", "+00:00", text)
    return datetime.fromisoformat(re.sub(r"(:.*[+-]\d\d)(\d\d)$", r"\1:\2", text))


def utf8(value: Any) -> Any:
    """A text without lone surrogates, which can stand in no report, nor in SQLite; anything else as it is."""
    return value.encode("utf-8", "replace").decode("utf-8") if isinstance(value, str) and not value.isascii() else value


def name_list(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def journal_folder(text: str) -> Path | None:
    return None if text == "off" else from_home(text)


def host_and_port(text: str) -> str:
    host, _, port = text.strip().rpartition(":")
    if not port.isdecimal() or int(port) > 65535 or any(c in host for c in "/@ "):
        raise ValueError(f"must be PORT or HOST:PORT, not {text!r}")
    return f"{host or '127.0.0.1'}:{int(port)}"


def parsed(parse: Callable[[str], Any], text: str, source: str, error: type[UserAgentError]) -> Any:
    """``parse(text)``; raises ``error`` naming the ``source`` of what can't be parsed."""
    try:
        return parse(text)
    except ValueError as reason:
        hints = () if error is UsageError else ("correct it there, or take it out",)
        raise error(f"{source} {reason}", hints=hints) from None

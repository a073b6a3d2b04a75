"""What a value looks like in the history: JSON text, without what must not be kept, and not too long."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

VALUE_MAX_BYTES = 1024 * 1024  # of one input, output or log
BLANK = "***"
_SHORTEST_SECRET = 4  # blanking anything shorter in texts would only make them unreadable
_KEY_MAX_CHARS = 1000  # where a value is cut
_TOO_DEEP = {"…": "(not kept: nested too deep to look for what must be blanked)"}


class Blanker:
    """Blanks the values of ``keys`` (in any case, at any depth), and what they held wherever else it shows.

    One for each execution: ``learn`` its values first, then ``apply`` to each.
    """

    def __init__(self, keys: Sequence[str]) -> None:
        self._keys = frozenset(key.casefold() for key in keys)
        self._secrets: set[str] = set()
        names = "|".join(map(re.escape, sorted(keys)))
        held = r"""("[^"]*"|'[^']*'|[^\s,;&"'}\])]+)"""
        self._told = re.compile(rf"""((?<!\w)(?:{names})["']?\s*[:=]\s*){held}""", re.IGNORECASE) if names else None

    def learn(self, value: Any) -> None:
        if not self._keys:
            return
        with suppress(RecursionError):  # apply() meets it again, and then nothing is kept
            self._secrets.update(text for text in self._held(value, False) if len(text) >= _SHORTEST_SECRET)

    def _held(self, value: Any, secret: bool) -> Iterator[str]:
        if isinstance(value, dict):
            for key, item in value.items():
                yield from self._held(item, secret or str(key).casefold() in self._keys)
        elif isinstance(value, (list, tuple)):
            for item in value:
                yield from self._held(item, secret)
        elif secret and value is not None and not isinstance(value, bool):
            yield str(value)

    def text(self, text: str) -> str:
        """``text`` without what was learnt, nor what it says for itself: ``password=…``, ``'pin': …``."""
        if self._told is not None:
            text = self._told.sub(rf"\1{BLANK}", text)
        for secret in sorted(self._secrets, key=len, reverse=True):
            text = text.replace(secret, BLANK)
        return text

    def apply(self, value: Any) -> Any:
        """A copy of ``value``, blanked."""
        if not self._keys:
            return value
        try:
            return self._apply(value)
        except RecursionError:
            return _TOO_DEEP

    def _apply(self, value: Any) -> Any:
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, dict):
            return {
                self.text(str(key)): BLANK if str(key).casefold() in self._keys else self._apply(item)
                for key, item in value.items()
            }
        if isinstance(value, (list, tuple)):
            return [self._apply(item) for item in value]
        return value


NOTHING = Blanker(())  # to blank


def shaped(value: Any, blanker: Blanker) -> tuple[str, str]:
    """``value`` as JSON of at most about VALUE_MAX_BYTES, and what was done to it: "blanked", "cut" or nothing.

    Where something was cut, a mark says so.
    """
    kept = blanker.apply(value)
    text = _dumps(kept)
    if len(text) > VALUE_MAX_BYTES:
        return _dumps(cut(kept, VALUE_MAX_BYTES)), "cut"
    return text, "" if kept is value or text == _dumps(value) else "blanked"


def _dumps(value: Any) -> str:
    try:
        return json.dumps(value)  # ASCII: as 0.2.0 writes it, and nothing in it can't be stored
    except (ValueError, TypeError, RecursionError) as error:
        return json.dumps({"…": f"(not kept: {type(error).__name__})"})


def cut(value: Any, max_bytes: int) -> Any:
    """The beginning of ``value``, with a mark at each place where something is missing."""
    try:
        return _cut(value, [max_bytes])
    except RecursionError:
        return {"…": "(cut: nested too deep)"}


def _cut(value: Any, left: list[int]) -> Any:
    if isinstance(value, str):
        room, size = max(left[0], 0), len(json.dumps(value))
        left[0] -= size
        per_char = max(1, size // max(len(value), 1))
        return value if size <= room else f"{value[: room // per_char]}… (cut: {len(value):,} characters in all)"
    if isinstance(value, dict):
        kept: dict[Any, Any] = {}
        for key, item in value.items():
            if left[0] <= 0:
                kept["…"] = f"(cut: {len(value) - len(kept):,} more keys)"
                break
            key = key if len(str(key)) <= _KEY_MAX_CHARS else f"{str(key)[:_KEY_MAX_CHARS]}…"
            left[0] -= len(str(key)) + 6
            kept[key] = _cut(item, left)
        return kept
    if isinstance(value, (list, tuple)):
        items: list[Any] = []
        for item in value:
            if left[0] <= 0:
                items.append(f"… (cut: {len(value) - len(items):,} more items)")
                break
            left[0] -= 2
            items.append(_cut(item, left))
        return items
    left[0] -= len(str(value))
    return value

# SPDX-License-Identifier: Apache-2.0
"""What a value looks like in the history: JSON text, without what must not be kept, and not too long."""

from __future__ import annotations

from typing import Any

from ..prepared import json_encoder

VALUE_MAX_BYTES = 1024 * 1024  # of one input, one output or one log
BLANK = "***"
_KEY_MAX_CHARS = 1000  # where a value is cut
_dumps = json_encoder()  # ASCII, as 0.2.0 writes: any ASCII text can be stored


def shaped(value: Any, secret_keys: frozenset[str] = frozenset()) -> tuple[str, str]:
    """``value`` as JSON of at most about VALUE_MAX_BYTES, and what was done to it: "blanked", "cut" or nothing.

    What stands under ``secret_keys`` (casefolded) is blanked, whatever their case and at any depth; where
    something was cut, a mark says so.
    """
    try:
        kept = _blanked(value, secret_keys) if secret_keys else value
        text = _dumps(kept)
        if len(text) > VALUE_MAX_BYTES:
            return _dumps(cut(kept, VALUE_MAX_BYTES)), "cut"
        return text, "" if kept is value or kept == value else "blanked"
    except RecursionError:
        return _dumps({"…": "(not kept: nested too deep)"}), "cut"
    except (ValueError, TypeError) as error:
        return _dumps({"…": f"(not kept: {type(error).__name__})"}), "cut"


def _blanked(value: Any, keys: frozenset[str]) -> Any:
    if isinstance(value, dict):
        return {key: BLANK if str(key).casefold() in keys else _blanked(item, keys) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_blanked(item, keys) for item in value]
    return value


def cut(value: Any, max_bytes: int) -> Any:
    """The beginning of ``value``, with a mark at each place where something is missing. Raises RecursionError."""
    return _cut(value, [max_bytes])


def _cut(value: Any, left: list[int]) -> Any:
    if isinstance(value, str):
        room, size = max(left[0], 0), len(_dumps(value))
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

# SPDX-License-Identifier: Apache-2.0
"""Mutations: of bytes, of text, of JSON with an eye for its structure."""

from __future__ import annotations

import json
from collections.abc import Sequence
from random import Random
from typing import Any

ODD_TEXTS = (
    "", " ", "\t", "\x00", "\x1b[31m", "\r\n", "\n", "\u202e", "\ufeff", "\ud800", "\udfff\ud800", "\udc80", "é",
    "株式会社", "🚀",
    "٣", "²", "ß" * 3, "%00", "%", "..", "#", "{}", "[]", "null", "NaN", "-1", "1e999", "0x10", "1_0", "=1+1",
    "</script>", "'\"", "x" * 300, "İ", "\x85", "\u2028", "K", "http://[", "https://a:b@c", "-", "--",
)  # fmt: skip
ODD_VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2**31, 2**63, -(2**63) - 1, 1e308, 5e-324, -0.0, float("inf"), float("nan"),
    "", [], {}, [[]], [None], {"": None}, {"__proto__": {}}, {"__x__": 1},
)  # fmt: skip
_ODD_BYTES = (
    b"\x00", b"\xff", b"\xfe\xff", b"\xef\xbb\xbf", b"\xed\xa0\x80", b"\xc0\xaf", b"\xf0\x9f", b"\r\n\r\n", b"\n",
    b'"', b"\\", b"\\ud800", b"\\u0000", b"{", b"}", b"[", b"]", b",", b":",
    b"null", b"NaN", b"-", b"1e999", b" ", b"\x1b[0m",
)  # fmt: skip
# What no JSON library would write, put in after the dump.
_RAW_JSON = {
    "@deep": lambda rng: "[" * rng.choice((150, 300, 1100, 4000)) + "]" * rng.choice((0, 150, 300, 1100, 4000)),
    "@digits": lambda rng: "9" * rng.choice((20, 400, 5000)),
    "@fraction": lambda rng: "1." + "3" * rng.choice((20, 400)) + "e" + rng.choice(("400", "-400", "9" * 30)),
    "@objects": lambda rng: '{"a":' * rng.choice((150, 1100)) + "1" + "}" * rng.choice((150, 1100)),
}


def raw(rng: Random, data: bytes, others: Sequence[bytes] = ()) -> bytes:
    """Up to four changes of bytes."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4))):
        start = rng.randrange(len(changed) + 1)
        end = min(len(changed), start + rng.choice((1, 1, 4, 16, 200)))
        kind = rng.randrange(9)
        if kind == 0 and start < len(changed):
            changed[start] ^= 1 << rng.randrange(8)
        elif kind == 1 and start < len(changed):
            changed[start] = rng.randrange(256)
        elif kind == 2:
            del changed[start:end]
        elif kind == 3:
            changed[start:start] = changed[start:end] * rng.choice((1, 2, 20))
        elif kind == 4:
            changed[start:start] = rng.choice(_ODD_BYTES)
        elif kind == 5:
            changed[start:end] = rng.choice(_ODD_BYTES)
        elif kind == 6:
            del changed[start:]
        elif kind == 7 and others:
            other = rng.choice(others)
            cut = rng.randrange(len(other) + 1)
            changed[start:] = other[cut:]
        else:
            changed[start:start] = bytes(rng.randrange(256) for _ in range(rng.choice((1, 3, 9))))
    return bytes(changed)


def text(rng: Random, given: str) -> str:
    """One change of a text, or another one altogether."""
    start = rng.randrange(len(given) + 1)
    end = min(len(given), start + rng.choice((1, 1, 3, 20)))
    kind = rng.randrange(7)
    if kind == 0:
        return rng.choice(ODD_TEXTS)
    if kind == 1:
        return given[:start] + rng.choice(ODD_TEXTS) + given[start:]
    if kind == 2:
        return given[:start] + given[end:]
    if kind == 3:
        return given[:end] + given[start:]
    if kind == 4:
        return given.swapcase()
    if kind == 5:
        return given[:start] + chr(rng.choice((rng.randrange(128), rng.randrange(0x110000)))) + given[end:]
    return given * rng.choice((2, 40))


def structure(rng: Random, value: Any) -> Any:
    """A copy of a JSON value with up to three changes, anywhere in it."""
    for _ in range(rng.choice((1, 1, 2, 3))):
        value = _changed(rng, value, rng.choice((0, 1, 1, 2, 2, 3, 3)))
    return value


def _changed(rng: Random, value: Any, depth: int) -> Any:
    if depth and isinstance(value, dict) and value:
        return _changed_object(rng, value, depth)
    if depth and isinstance(value, list) and value:
        items = list(value)
        place = rng.randrange(len(items))
        kind = rng.randrange(4)
        if kind == 0:
            del items[place]
        elif kind == 1:
            items.insert(place, items[rng.randrange(len(items))])
        else:
            items[place] = _changed(rng, items[place], depth - 1)
        return items
    kind = rng.randrange(7)
    if kind == 0:
        return rng.choice(list(_RAW_JSON))
    if kind == 1 and isinstance(value, str):
        return text(rng, value)
    if kind == 2 and isinstance(value, (int, float)):
        return rng.choice((str(value), value * -1, value * 10**6, value + 0.5))
    if kind == 3:
        return [value] * rng.choice((1, 2, 50))
    if kind == 4:
        return {rng.choice(ODD_TEXTS): value}
    if kind == 5:
        return rng.choice(ODD_TEXTS)
    return rng.choice(ODD_VALUES)


def _changed_object(rng: Random, value: dict[str, Any], depth: int) -> dict[str, Any]:
    members = dict(value)
    key = rng.choice(list(members))
    kind = rng.randrange(8)
    if kind == 0:
        del members[key]
    elif kind == 1:
        members[text(rng, key)] = members.pop(key)
    elif kind == 2:
        other = rng.choice(list(members))
        members[key], members[other] = members[other], members[key]
    elif kind == 3:
        members[rng.choice(ODD_TEXTS)] = rng.choice(ODD_VALUES)
    else:
        members[key] = _changed(rng, members[key], depth - 1)
    return members


def json_bytes(rng: Random, value: Any) -> bytes:
    """``value`` changed and written down, now and then as no library would."""
    changed = structure(rng, value) if rng.random() < 0.9 else value
    written = json.dumps(changed, ensure_ascii=rng.random() < 0.5, indent=rng.choice((None, None, 1)))
    for name, make in _RAW_JSON.items():
        if name in written:
            written = written.replace(f'"{name}"', make(rng))
    encoding = rng.choice(("utf-8",) * 20 + ("utf-8-sig", "utf-16", "utf-32-be"))
    data = written.encode(encoding, "surrogatepass")
    if rng.random() < 0.1:  # a key twice: which one counts is the reader's affair
        data = data[:1] + b'"taskId":"twice",' + data[1:]
    return raw(rng, data) if rng.random() < 0.2 else data

# SPDX-License-Identifier: Apache-2.0
"""JSON by an encoder that is made once: ``JSONEncoder.encode`` has CPython make one for each call, which takes longer
than a small object's encoding."""

from __future__ import annotations

import json
from json import encoder as _encoder
from typing import Any, Callable


def json_encoder(**options: Any) -> Callable[[object], str]:
    """``json.JSONEncoder(**options).encode``, for what holds no circular reference; there may be no ``indent``."""
    made = json.JSONEncoder(check_circular=False, **options)
    text = _encoder.encode_basestring_ascii if made.ensure_ascii else _encoder.encode_basestring
    separators = made.key_separator, made.item_separator
    try:
        pieces = _encoder.c_make_encoder(  # type: ignore[attr-defined] # CPython's, in no documentation
            None, made.default, text, None, *separators, made.sort_keys, made.skipkeys, made.allow_nan
        )
    except (AttributeError, TypeError):  # another Python's json
        return made.encode
    return lambda value: "".join(pieces(value, 0))

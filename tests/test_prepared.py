# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import unittest
from json import encoder
from typing import Any
from unittest import mock

from user_agent_sdk.prepared import json_encoder

COMPACT = {"separators": (",", ":")}
OPTIONS: tuple[dict[str, Any], ...] = ({}, COMPACT, {"sort_keys": True}, {"ensure_ascii": False, "allow_nan": False})
VALUES: tuple[object, ...] = (
    *(None, True, 0, -1, 10**40, 0.1, 1e300, "", "plain", 'a"\\\n\x00\u2028é€😀', "\ud800"),
    *([], {}, [[], {}], {"b": [1, {"a": None}], "a": {"é": "x" * 10_000}}, (1, 2), {1: 2}),
)


class JsonEncoder(unittest.TestCase):
    def test_it_writes_what_the_standard_library_would(self) -> None:
        for options in OPTIONS:
            encode = json_encoder(**options)
            for value in VALUES:
                self.assertEqual(encode(value), json.dumps(value, **options), (options, value))

    def test_it_refuses_what_the_standard_library_would(self) -> None:
        endless: list[object] = []
        endless.append(endless)
        for value, error in ((float("nan"), ValueError), ({1}, TypeError), (endless, RecursionError)):
            with self.assertRaises(error):
                json_encoder(allow_nan=False)(value)

    def test_it_is_made_once_on_cpython(self) -> None:
        with mock.patch.object(encoder, "c_make_encoder", wraps=encoder.c_make_encoder) as made:  # type: ignore[attr-defined]
            encode = json_encoder()
            self.assertEqual([encode([number]) for number in range(3)], ["[0]", "[1]", "[2]"])
        self.assertEqual(made.call_count, 1)

    def test_where_json_has_no_such_encoder_its_own_is_used(self) -> None:
        """PyPy has None there, and a Python to come may want other arguments: neither keeps a worker from starting."""
        for other in (None, lambda: None):
            with mock.patch.object(encoder, "c_make_encoder", other):
                encode = json_encoder(**COMPACT)
            self.assertEqual(encode({"a": [1, 2]}), '{"a":[1,2]}')


if __name__ == "__main__":
    unittest.main()

# SPDX-License-Identifier: Apache-2.0
"""Blanks secrets in what is shown: whole ones in any line, and pieces of them in a peer's words."""

from __future__ import annotations

import binascii
import json
import re
import threading
from collections import deque
from collections.abc import Iterator
from urllib.parse import quote, quote_plus, unquote

_SHORTEST_SECRET = 4  # blanking anything shorter would only make lines unreadable
_PIECE_CHARS = 8  # a shorter piece of a secret tells little, and stands in ordinary words too
_WORDS_MAX_CHARS = 4096  # of a peer's message; the rest is not looked at
_FORMS_MAX = 64  # forms of tokens, four or more each: those of the latest tokens are enough


class Redactor:
    """Blanks known secrets, also in the forms that they take in an address, a form, JSON or Base64."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # guards _kept and _tokens, and the change of the two below
        self._kept: list[str] = []
        self._tokens: deque[str] = deque(maxlen=_FORMS_MAX)
        self._known: list[str] = []  # _kept and _tokens, the longest first: one form may be a part of another
        self._pieces: set[str] | None = None  # pieces of the secrets and tokens in use; None until brief() needs them

    def add(self, secret: str, *, is_token: bool = False) -> None:
        """Blank this secret from now on; a token until many newer tokens came."""
        with self._lock:
            known: list[str] | deque[str] = self._tokens if is_token else self._kept
            for form in _forms(secret):
                if len(form) >= _SHORTEST_SECRET and form not in known:
                    known.append(form)
            self._known = sorted([*self._kept, *self._tokens], key=len, reverse=True)
            self._pieces = None

    def __call__(self, text: str) -> str:
        for secret in self._known:
            text = text.replace(secret, "***")
        return text

    def brief(self, words: str, limit: int = 200) -> str:
        """A peer's words, as one line of ``limit`` characters at most. Secrets are blanked before anything is cut
        off: also a piece of one, and one that is split by spaces, quotes or other signs."""
        words = words[:_WORDS_MAX_CHARS]
        decoded = unquote(words)
        shown = self._blanked(decoded)
        if decoded != words and shown == " ".join(decoded.split()):  # no secret is in the decoded words
            shown = self._blanked(words)
        return "".join(filter(str.isprintable, shown[:limit]))

    def _blanked(self, words: str) -> str:
        text = " ".join(self(words).split())
        places = [place for place, sign in enumerate(text) if sign.isalnum()]
        dense, pieces = _dense(text), self._in_pieces()
        shown = list(text)
        for first in range(len(dense) - _PIECE_CHARS + 1):
            if dense[first : first + _PIECE_CHARS] in pieces:
                start, end = places[first], places[first + _PIECE_CHARS - 1] + 1
                shown[start:end] = "\0" * (end - start)
        return re.sub("\0+", "***", "".join(shown))

    def _in_pieces(self) -> set[str]:
        with self._lock:
            if self._pieces is None:
                used = map(_dense, [*self._kept, *list(self._tokens)[-_FORMS_MAX // 2 :]])
                self._pieces = {
                    text[first : first + _PIECE_CHARS] for text in used for first in range(len(text) - _PIECE_CHARS + 1)
                }
            return self._pieces


def _dense(text: str) -> str:
    return "".join(filter(str.isalnum, text))


def _forms(secret: str) -> Iterator[str]:
    yield from (str(secret), quote(secret, safe=""), quote_plus(secret))
    yield from (json.dumps(secret, ensure_ascii=is_ascii)[1:-1] for is_ascii in (True, False))
    raw = secret.encode("utf-8", "surrogatepass")
    for before in range(3):  # bytes before the secret in the encoded text; their characters, and the last, are cut
        code = binascii.b2a_base64(bytes(before) + raw)[(0, 2, 3)[before] :].rstrip(b"=\n")[:-1].decode("ascii")
        yield from (code, code.replace("+", "-").replace("/", "_"))

# SPDX-License-Identifier: Apache-2.0
"""The HTML files that lie beside the code, each with one style and one script of its own."""

from __future__ import annotations

import base64
import hashlib
import pkgutil
import re

_PARTS = re.compile(r"(?s)<(style|script)>(.*?)</\1>")


def read(package: str, name: str) -> tuple[str, str]:
    """The text of a file of ``package``, be it a folder or in a zip, and a Content-Security-Policy that allows
    its style and its script alone, by their hashes: nothing else runs or loads, even if it were not escaped."""
    text = _text(package, name)
    shared = dict(_PARTS.findall(_text(__package__, "shared.html")))  # what all pages share
    for tag, inner in shared.items():
        text = text.replace(f"/*shared {tag}*/", inner.strip())
    parts = [inner for _, inner in _PARTS.findall(text)]
    style, script = (base64.b64encode(hashlib.sha256(inner.encode()).digest()).decode() for inner in parts)
    return text, f"default-src 'none'; style-src 'sha256-{style}'; script-src 'sha256-{script}'"


def _text(package: str, name: str) -> str:
    data = pkgutil.get_data(package, name)
    assert data is not None  # every loader of ours has get_data
    return data.decode("utf-8").replace("\r\n", "\n")  # from a clone on Windows; a browser hashes LF

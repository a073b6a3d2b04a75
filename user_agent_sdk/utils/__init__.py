# SPDX-License-Identifier: Apache-2.0
"""Import paths of earlier releases; nothing lives here."""

from __future__ import annotations

from .. import earlier


def __getattr__(name: str) -> object:
    return earlier.attribute(__name__, name)

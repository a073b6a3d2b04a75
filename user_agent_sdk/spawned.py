# SPDX-License-Identifier: Apache-2.0
"""A child that multiprocessing spawns runs this first, where it would run a program's main module."""

from __future__ import annotations

from .loader import prepare_child

prepare_child()

# SPDX-License-Identifier: Apache-2.0
"""The whole of ``worker/polling`` and ``worker/keeping`` in one thread: the real modules on a made-up clock, network,
platform and disk, through seeded histories of polls, runs, reports, faults, kills and restarts.

``python -m tests.simulation`` runs them; ``histories`` draws one, ``checker`` says what must hold in each.
"""

# SPDX-License-Identifier: Apache-2.0
"""Side-by-side figures of this worker and others, as ratios in one run: ``python -m tests.benchmark``."""

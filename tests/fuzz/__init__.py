# SPDX-License-Identifier: Apache-2.0
"""Bad input: valid samples, mutated by a seeded generator, through what reads them in earnest.

``python -m tests.fuzz [--cases N] [--seed N] [--only TARGET] [--case N]``; a finding is printed with the
line that runs its case again. What must hold is the same everywhere: no exception but those that are
promised, no hang, no result lost.
"""

# SPDX-License-Identifier: Apache-2.0
"""One task, one result: the user's function, a guest."""

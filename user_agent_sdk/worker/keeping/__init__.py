# SPDX-License-Identifier: Apache-2.0
"""A task from the poll's reply until its result is delivered."""

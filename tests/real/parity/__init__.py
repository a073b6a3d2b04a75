# SPDX-License-Identifier: Apache-2.0
"""What scripts and command lines of 0.2.0 and 0.3.0 do there and here: the rows, and what compares them."""

# SPDX-License-Identifier: Apache-2.0
"""Running the functions: how tasks are taken, executed, kept alive and reported."""

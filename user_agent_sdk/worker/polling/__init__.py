# SPDX-License-Identifier: Apache-2.0
"""When to ask the platform for a task."""

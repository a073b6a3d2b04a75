# SPDX-License-Identifier: Apache-2.0
"""What was run: recorded beside the worker, read, shown and exported by the command line."""

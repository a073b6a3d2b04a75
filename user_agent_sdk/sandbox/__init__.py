# SPDX-License-Identifier: Apache-2.0
"""The platform in a box: queues, leases and retries as the real one has them, on loopback."""

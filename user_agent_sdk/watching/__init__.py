# SPDX-License-Identifier: Apache-2.0
"""What a running worker tells about itself: probes, metrics and what it waits for. May be deleted from a copy."""

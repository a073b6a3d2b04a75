# SPDX-License-Identifier: Apache-2.0
"""Talking to the platform: what is said (wire), how it travels (transport), who we are (auth), and
one method an exchange (client). Knows nothing of workers, slots or journals."""

# SPDX-License-Identifier: Apache-2.0
"""Import paths of earlier releases; nothing lives here."""

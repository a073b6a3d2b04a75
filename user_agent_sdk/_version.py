# SPDX-License-Identifier: Apache-2.0
"""The version, in one place that needs no package metadata: a copied folder has none."""

__version__ = "1.1.0"

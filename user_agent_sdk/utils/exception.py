# SPDX-License-Identifier: Apache-2.0
"""``from user_agent_sdk.utils.exception import NonRetryableException``, as existing scripts say."""

from __future__ import annotations

from ..errors import NonRetryableException as NonRetryableException

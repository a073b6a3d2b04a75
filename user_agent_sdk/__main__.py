"""``python -m user_agent_sdk``: the same program as the ``useragent`` command."""

from __future__ import annotations

import os
import sys

if sys.path and sys.path[0] == os.getcwd():
    sys.path.append(sys.path.pop(0))  # a json.py in the current folder must not take the real one's place

from .cli import main

sys.exit(main())

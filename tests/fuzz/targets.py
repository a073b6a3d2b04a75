# SPDX-License-Identifier: Apache-2.0
"""All targets by name."""

from __future__ import annotations

from .commands import AgentFiles, CommandLines, HistoryFiles
from .core import Target
from .files import CredentialsFiles, JournalFiles
from .replies import Polls, Tokens, Updates

TARGETS: dict[str, type[Target]] = {
    kind.name: kind
    for kind in (Polls, Updates, Tokens, CredentialsFiles, JournalFiles, HistoryFiles, CommandLines, AgentFiles)
}

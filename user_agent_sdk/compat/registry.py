# SPDX-License-Identifier: Apache-2.0
"""The registry of agents as 0.2.0 had it: a list of ``{"func": …, "config": {…}}``."""

from __future__ import annotations

from collections.abc import MutableSequence
from typing import Any

from ..agents import REGISTRY, Agent


class Registry(MutableSequence[Any]):
    """REGISTRY itself, in that form: what is added or removed here is there."""

    def __getitem__(self, index: Any) -> Any:
        return [_entry(agent) for agent in REGISTRY[index]] if isinstance(index, slice) else _entry(REGISTRY[index])

    def __setitem__(self, index: Any, entry: Any) -> None:
        REGISTRY[index] = [_agent(each) for each in entry] if isinstance(index, slice) else _agent(entry)

    def __delitem__(self, index: Any) -> None:
        del REGISTRY[index]

    def __len__(self) -> int:
        return len(REGISTRY)

    def insert(self, index: int, value: Any) -> None:
        REGISTRY.insert(index, _agent(value))


def _entry(agent: Agent) -> dict[str, Any]:
    config = {
        "agent_id": agent.agent_id,
        "worker_id": agent.worker_id,
        "domain": agent.domain,
        "poll_interval": 1000 if agent.poll_interval_ms is None else agent.poll_interval_ms,
        "workers": agent.workers or 1,
    }
    return {"func": agent.func, "config": config}


def _agent(entry: Any) -> Agent:
    config = dict(entry["config"])
    return Agent(entry["func"], poll_interval_ms=config.pop("poll_interval", None), **config)


user_agent_registry = Registry()
clear_user_agent_registry = REGISTRY.clear

# SPDX-License-Identifier: Apache-2.0
"""The registry of agents as 0.2.0 had it: a list of ``{"func": …, "config": {…}}``."""

from __future__ import annotations

from collections.abc import MutableSequence
from typing import Any

from ..agents import OPTIONS, REGISTRY, Agent


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


class _Live(dict[str, Any]):
    """An entry of the registry, or the config in it: what is set here is set in its agent."""

    def __init__(self, agent: Agent, **values: Any) -> None:
        super().__init__(values)
        self._agent = agent

    def __setitem__(self, name: str, value: Any) -> None:
        self.update({name: value})

    def update(self, *given: Any, **values: Any) -> None:
        changed = dict(*given, **values)
        vars(self._agent).update(vars(self._agent.changed(**_options(changed))))
        super().update(changed)


def _entry(agent: Agent) -> dict[str, Any]:
    interval = 1000 if agent.poll_interval_ms is None else agent.poll_interval_ms
    config = _Live(agent, agent_id=agent.agent_id, worker_id=agent.worker_id, domain=agent.domain,
                   poll_interval=interval, workers=agent.workers or 1)  # fmt: skip
    return _Live(agent, func=agent.func, config=config)


def _agent(entry: Any) -> Agent:
    return Agent(**_options(entry))


def _options(entry: Any) -> dict[str, Any]:
    """What an entry, or a part of one, says of an agent; a script may keep more in it."""
    given = {**entry, **entry.get("config", {})}
    if "poll_interval" in given:
        given["poll_interval_ms"] = given["poll_interval"]
    return {name: value for name, value in given.items() if name in OPTIONS}


user_agent_registry = Registry()
clear_user_agent_registry = REGISTRY.clear

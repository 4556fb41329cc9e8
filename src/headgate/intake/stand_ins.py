"""Which resources carry work together, because calls on one may be answered by another.

A model and what it falls back to, or is replaced by when runs are made cheaper, are one capacity: which of them
answers a call changes with the load, how many calls a run needs does not.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from headgate.config.settings import GateSettings
from headgate.policy.throughput import Throughput


def together(settings: GateSettings) -> dict[str, str]:
    """Resource → the resource under which those that stand in for each other are counted; others are left out."""
    head: dict[str, str] = {}

    def find(name: str) -> str:
        while head.get(name, name) != name:
            name = head[name]
        return name

    for name, other in _pairs(settings):
        head.setdefault(name, name)
        head.setdefault(other, other)
        head[find(other)] = find(name)
    return {name: find(name) for name in head}


def _pairs(settings: GateSettings) -> Iterator[tuple[str, str]]:
    for resources in (settings.models, settings.tools):
        for name, one in resources.items():
            for other in one.fallback:
                yield name, other
    for workflow in settings.workflows.values():
        for rung in workflow.degrade:
            yield from rung.models.items()


def answers_per_s(known: Iterable[Throughput]) -> tuple[float, float]:
    """Calls per second that these resources can answer together: now, and while they are healthy. Those that have
    not answered a call yet count for nothing."""
    now = healthy = 0.0
    for one in known:
        if one.call_s:
            now += one.rate / one.call_s
            healthy += one.healthy / one.call_s
    return now, healthy


def grouped(known: Mapping[str, Throughput], heads: Mapping[str, str]) -> dict[str, list[str]]:
    """The resources by the one under which they are counted."""
    found: dict[str, list[str]] = {}
    for name in known:
        found.setdefault(heads.get(name, name), []).append(name)
    return found

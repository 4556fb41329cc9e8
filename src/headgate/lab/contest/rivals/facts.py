"""What somebody who knows a scenario's undisturbed world would set the rivals' constants from."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

from headgate.config.resource_settings import ResourceSettings
from headgate.config.units import Concurrency, Rate
from headgate.lab.scenario.calls import Plan, PlannedCall
from headgate.lab.scenario.description import Scenario
from headgate.lab.scenario.traffic import wishes

SAMPLED_RUNS = 500
P95 = 0.95
ANOTHER_DAY = 1_000_003
"""The seed that is measured."""


@dataclass(frozen=True, slots=True)
class DependencyFacts:
    """Of one dependency: what is declared of it, and what its calls take while it is not crowded."""

    name: str
    knee: int
    concurrency: Concurrency
    timeout_s: float
    rate: Rate | None
    depth: int
    mean_s: float
    p95_s: float
    stand_ins: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class WorldFacts:
    """Of the whole service."""

    dependencies: dict[str, DependencyFacts]
    slots: int
    run_s: float
    """What a run takes while nothing is crowded."""
    lanes: tuple[str, ...]


def facts_of(scenario: Scenario) -> WorldFacts:
    """The facts, from the description and the first runs of a day that nobody plays."""
    rng = Random("facts")
    took: dict[str, list[float]] = {name: [] for name in scenario.dependencies}
    total = 0.0
    sample = wishes(scenario, ANOTHER_DAY)[:SAMPLED_RUNS]
    for wish in sample:
        for call in _flat(wish.plan):
            for name, one in scenario.dependencies.items():
                if call.dependency in (name, one.in_place_of):
                    alone = one.takes * call.size + call.reads / one.reads + call.writes / one.writes
                    seconds = alone * math.exp(rng.gauss(0, one.noise))
                    took[name].append(seconds)
                    total += seconds if call.dependency == name else 0.0
    dependencies = {
        name: _dependency(scenario, name, sorted(seconds) or [scenario.dependencies[name].takes])
        for name, seconds in took.items()
    }
    slots = scenario.headgate.workers.slots * scenario.gates
    return WorldFacts(dependencies, slots, total / max(1, len(sample)), tuple(scenario.headgate.lanes))


def _flat(plan: Plan) -> Iterator[PlannedCall]:
    """The plain calls of a plan, with one round of each loop and one of its sub-runs."""
    for call in plan:
        if call.does:
            yield from _flat(call.inner)
        else:
            yield call


def _dependency(scenario: Scenario, name: str, seconds: list[float]) -> DependencyFacts:
    one = scenario.dependencies[name]
    declared = settings_of(scenario, name)
    return DependencyFacts(
        name,
        one.parallel,
        declared.concurrency,
        declared.timeout,
        declared.rate,
        declared.queue.depth,
        math.fsum(seconds) / len(seconds),
        seconds[math.ceil(P95 * len(seconds)) - 1],
        declared.fallback,
    )


def settings_of(scenario: Scenario, name: str) -> ResourceSettings:
    """What headgate's configuration declares of a dependency."""
    return scenario.headgate.models[name] if name in scenario.headgate.models else scenario.headgate.tools[name]

"""What somebody who knows a scenario's undisturbed world would set the rivals' constants from."""

from __future__ import annotations

import math
from dataclasses import dataclass
from random import Random

from headgate.config.resource_settings import ResourceSettings
from headgate.config.units import Concurrency, Rate
from headgate.lab.scenario.calls import draw_plan
from headgate.lab.scenario.description import Scenario

SAMPLED_RUNS = 500
P95 = 0.95


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
    """The facts, from the description and a sample of its runs."""
    rng = Random("facts")
    took: dict[str, list[float]] = {name: [] for name in scenario.dependencies}
    total = 0.0
    for _ in range(SAMPLED_RUNS):
        for call in draw_plan(scenario.calls, scenario.dependencies, rng):
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
    return WorldFacts(dependencies, slots, total / SAMPLED_RUNS, tuple(scenario.headgate.lanes))


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
        sum(seconds) / len(seconds),
        seconds[math.ceil(P95 * len(seconds)) - 1],
        declared.fallback,
    )


def settings_of(scenario: Scenario, name: str) -> ResourceSettings:
    """What headgate's configuration declares of a dependency."""
    return scenario.headgate.models[name] if name in scenario.headgate.models else scenario.headgate.tools[name]

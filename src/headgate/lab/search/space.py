"""Which settings a search may move, and by how much: a small declared space, a step at a time.

Every value is written as in YAML. A step doubles or halves a bound, moves a share or a threshold by ten points, and a
number of tries by one; from a better place the search may take the next step.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from headgate.config.document import Path
from headgate.config.settings import GateSettings, ResourceSettings
from headgate.lab.scenario.description import Scenario

POINTS = 10
LEAST_POINTS, MOST_POINTS = 5, 95
MOST_TRIES = 5
LEAST_AGE_S, MOST_AGE_S = 0.25, 3600.0
MOST_DEPTH, MOST_CONCURRENCY, MOST_SLOTS = 100_000, 10_000, 10_000


@dataclass(frozen=True, slots=True)
class Move:
    """One setting with another value."""

    path: Path
    value: str
    old: str

    @property
    def setting(self) -> str:
        """With dots, as advice names it."""
        return ".".join(map(str, self.path))


def moves(
    settings: GateSettings, written: Any, scenarios: Sequence[Scenario], workflow: str, advised: Sequence[str]
) -> list[Move]:
    """Every step from here; those on ``advised`` settings first. ``written`` are the file's plain values: lanes are
    moved only where they are written, because a file that names one lane replaces all default ones."""
    found = list(_resource_moves(settings, scenarios))
    found += _run_moves(settings, written, scenarios, workflow)
    return sorted(found, key=lambda one: one.setting not in advised)


def _resource_moves(settings: GateSettings, scenarios: Sequence[Scenario]) -> Iterator[Move]:
    names = dict.fromkeys(name for one in scenarios for name in one.dependencies)
    for name in names:
        if name in settings.models:
            yield from _of_resource(("models", name), settings.models[name])
        elif name in settings.tools:
            yield from _of_resource(("tools", name), settings.tools[name])


def _of_resource(path: Path, one: ResourceSettings) -> Iterator[Move]:
    least, most = one.concurrency
    old = f"{most}" if one.concurrency.fixed else f"{least}..{most}"
    if one.concurrency.fixed:
        tops = [f"1..{min(MOST_CONCURRENCY, 2 * most)}", f"{max(1, most // 2)}"]
    else:
        tops = [f"{least}..{min(MOST_CONCURRENCY, 2 * most)}", f"{least}..{max(least + 1, most // 2)}"]
    yield from (Move((*path, "concurrency"), top, old) for top in tops if top != old)
    yield from _doubled((*path, "queue", "depth"), one.queue.depth, MOST_DEPTH)
    yield from _aged((*path, "queue", "max_age"), one.queue.max_age)
    for tries in (one.retry.attempts - 1, one.retry.attempts + 1):
        if 1 <= tries <= MOST_TRIES:
            yield Move((*path, "retry", "attempts"), str(tries), str(one.retry.attempts))


def _run_moves(settings: GateSettings, written: Any, scenarios: Sequence[Scenario], workflow: str) -> Iterator[Move]:
    yield from _doubled(("workers", "slots"), settings.workers.slots, MOST_SLOTS)
    runs = settings.workflows.get(workflow)
    if runs is not None:
        yield from _doubled(("workflows", workflow, "queue", "depth"), runs.queue.depth, MOST_DEPTH)
        for place, rung in enumerate(runs.degrade):
            yield from _points(("workflows", workflow, "degrade", place, "at"), rung.at)
    named = written.get("lanes") if isinstance(written, dict) else None
    for name in named if isinstance(named, dict) else ():
        lane = settings.lanes[name]
        if lane.share is not None:
            yield from _points(("lanes", name, "share"), lane.share)
        if lane.max_wait is not None:
            yield from _aged(("lanes", name, "max_wait"), lane.max_wait)
        else:
            deadlines = [one.lanes[name].deadline for one in scenarios if name in one.lanes]
            if deadlines:
                yield Move(("lanes", name, "max_wait"), _seconds(min(deadlines) / 2), "unbounded")


def _doubled(path: Path, now: int, most: int) -> Iterator[Move]:
    for value in (2 * now, now // 2):
        if 1 <= value <= most:
            yield Move(path, str(value), str(now))


def _aged(path: Path, now_s: float) -> Iterator[Move]:
    for value in (2 * now_s, now_s / 2):
        if LEAST_AGE_S <= value <= MOST_AGE_S:
            yield Move(path, _seconds(value), _seconds(now_s))


def _points(path: Path, now: float) -> Iterator[Move]:
    points = round(100 * now)
    for value in (points - POINTS, points + POINTS):
        if LEAST_POINTS <= value <= MOST_POINTS:
            yield Move(path, f"{value}%", f"{points}%")


def _seconds(value: float) -> str:
    return f"{value:g}s" if value >= 1 else f"{1000 * value:g}ms"

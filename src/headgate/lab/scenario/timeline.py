"""A play over time: what came, what was done about it, and how the dependencies stood.

What the fates and the ledger tell is counted afterwards, step by step. What they do not tell (limits, calls in flight
and in line, pressure) is looked at once a step by a `Watcher` while the play goes on.
"""

from __future__ import annotations

import asyncio
import heapq
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from headgate.lab.scenario.play import Fate
    from headgate.lab.scenario.world import Effect

STEP_S = 2.0
COUNTED = ("offered", "admitted", "on_time", "refused", "errors")
"""Happenings within a step: first questions, admissions, finishes in time, refusals, calls with a bad answer."""


@dataclass(frozen=True, slots=True)
class Sight:
    """One look at what a policy does. A policy that has no such thing leaves it out."""

    limits: Mapping[str, float] = field(default_factory=dict)
    """Dependency → calls that may be in flight."""
    lined_up: int = 0
    """Calls that wait in front of dependencies."""
    oldest_s: float = 0.0
    """How long the oldest of these has waited."""
    pressure: float = math.nan


@dataclass(frozen=True, slots=True)
class Look:
    """What a watcher saw at one moment."""

    at_s: float
    inflight: Mapping[str, int]
    sight: Sight


@dataclass(frozen=True, slots=True)
class Timeline:
    """Columns of equal length; row n is the time from ``n * step_s`` to the next row, or the look at its end.

    ``waiting`` are accepted runs that have not begun and calls that wait in line, ``oldest_s`` the age of the oldest
    of them. NaN is what a policy does not have.
    """

    step_s: float = STEP_S
    columns: Mapping[str, list[float]] = field(default_factory=dict)

    @property
    def steps(self) -> int:
        return max((len(column) for column in self.columns.values()), default=0)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values, NaN as null, numbers to three places."""
        told = {name: [None if math.isnan(one) else round(one, 3) for one in c] for name, c in self.columns.items()}
        return {"step_s": self.step_s, "columns": told}

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> Timeline:
        """
        Raises:
            KeyError, TypeError, ValueError: it is no timeline.
        """
        columns = {str(n): [math.nan if one is None else float(one) for one in c] for n, c in told["columns"].items()}
        return cls(float(told["step_s"]), columns)


class Watcher:
    """Looks once a step, until cancelled."""

    def __init__(
        self,
        names: Sequence[str],
        inflight: Callable[[str], int],
        sight: Callable[[], Sight],
        *,
        now: Callable[[], float],
        step_s: float = STEP_S,
    ) -> None:
        self._names = names
        self._inflight = inflight
        self._sight = sight
        self._now = now
        self.step_s = step_s
        self.looks: list[Look] = []

    async def watch(self) -> None:
        while True:
            await asyncio.sleep((len(self.looks) + 1) * self.step_s - self._now())
            self._look()

    def end(self) -> None:
        """The play is over: look once more, for the step that has only begun."""
        if self._now() > len(self.looks) * self.step_s:
            self._look()

    def _look(self) -> None:
        self.looks.append(Look(self._now(), {name: self._inflight(name) for name in self._names}, self._sight()))

    def timeline(self, fates: Sequence[Fate], effects: Sequence[Effect]) -> Timeline:
        """Everything that was seen and everything that can be counted."""
        steps, looks = len(self.looks), self.looks
        columns = _counted(fates, effects, steps, self.step_s)
        waiting, oldest = _not_begun(fates, [one.at_s for one in looks])
        columns["waiting"] = [runs + one.sight.lined_up for runs, one in zip(waiting, looks, strict=True)]
        columns["oldest_s"] = [max(age, one.sight.oldest_s) for age, one in zip(oldest, looks, strict=True)]
        columns["pressure"] = [one.sight.pressure for one in looks]
        for name in self._names:
            columns[f"limit:{name}"] = [one.sight.limits.get(name, math.nan) for one in looks]
            columns[f"inflight:{name}"] = [float(one.inflight[name]) for one in looks]
        return Timeline(self.step_s, columns)


def _counted(fates: Sequence[Fate], effects: Sequence[Effect], steps: int, step_s: float) -> dict[str, list[float]]:
    columns = {name: [0.0] * steps for name in COUNTED}

    def count(name: str, at_s: float | None) -> None:
        if at_s is not None and 0 <= (place := int(at_s / step_s)) < steps:
            columns[name][place] += 1

    for fate in fates:
        count("offered", fate.wish.at_s)
        count("admitted", fate.admitted_s)
        count("on_time", fate.finished_s if fate.on_time else None)
        for at_s in fate.refused_s:
            count("refused", at_s)
    for effect in effects:
        bad = effect.code if effect.status == 200 else effect.status != 499
        count("errors", effect.ended_s if bad else None)
    return columns


def _not_begun(fates: Sequence[Fate], moments: Sequence[float]) -> tuple[list[float], list[float]]:
    """How many accepted runs had not begun at each moment, and since when the oldest of them waited."""
    spans = sorted((fate.admitted_s, _waits_until(fate)) for fate in fates if fate.admitted_s is not None)
    waiting: list[float] = []
    oldest: list[float] = []
    here: list[tuple[float, float]] = []  # (admitted, until), the oldest first
    ends: list[float] = []
    place = 0
    for now in moments:
        while place < len(spans) and spans[place][0] <= now:
            heapq.heappush(here, spans[place])
            heapq.heappush(ends, spans[place][1])
            place += 1
        while ends and ends[0] <= now:
            heapq.heappop(ends)
        while here and here[0][1] <= now:
            heapq.heappop(here)
        waiting.append(float(len(ends)))
        oldest.append(now - here[0][0] if here else 0.0)
    return waiting, oldest


def _waits_until(fate: Fate) -> float:
    ends = [one for one in (fate.started_s, fate.finished_s) if one is not None]
    return min(ends, default=math.inf)

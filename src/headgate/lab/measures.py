"""The measures of a play: what they are called for people, which way is better, and how numbers are shown."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import fmean, pstdev
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from headgate.lab.scenario.description import Goal


@dataclass(frozen=True, slots=True)
class Measure:
    """One measure of `headgate.lab.scenario.scores.Score`."""

    name: str
    title: str
    better: Literal["more", "less"]
    unit: Literal["share", "seconds", "number"]
    words: str
    """What it is, for people."""

    def shown(self, value: float, *, more: int = 0) -> str:
        """``87.3 %``, ``12.0 s``, ``1.08``; a dash for nothing to measure, ``never`` for infinite. ``more`` adds
        decimals."""
        if math.isnan(value):
            return "–"
        if math.isinf(value):
            return "never"
        if self.unit == "share":
            return f"{100 * value:.{1 + more}f} %"
        return f"{value:.{1 + more}f} s" if self.unit == "seconds" else f"{value:.{2 + more}f}"


_ALL = (
    Measure("goodput", "goodput", "more", "share", "value of the runs finished on time, by the bound"),
    Measure(
        "goodput-sizes-unknown",
        "goodput, sizes unknown",
        "more",
        "share",
        "the same, by what could be if nobody knew beforehand how much work each run is",
    ),
    Measure("accepted-late", "accepted, not on time", "less", "share", "accepted runs that missed their deadline"),
    Measure("missed-in-line", "missed in line", "less", "share", "of those, the ones that never began"),
    Measure("wasted-work", "wasted work", "less", "share", "work of dependencies for runs that were not on time"),
    Measure("wasted-calls", "wasted calls", "less", "share", "calls for runs that were not on time"),
    Measure("amplification", "amplification", "less", "number", "calls made for each that was needed"),
    Measure("past-knee", "past the knee", "less", "share", "time the most crowded dependency was past its knee"),
    Measure("recovery-s", "recovery", "less", "seconds", "until users are served as before the trouble, for good"),
    Measure("jain", "fairness", "more", "number", "Jain's index between tenants; 1 is even"),
    Measure("others-kept", "others kept", "more", "share", "what other tenants kept beside a noisy one"),
    Measure(
        "retry-after-honest", "Retry-After honest", "more", "share", "who came back when told to, and was let in"
    ),
    Measure("eta-start-error", "start ETA error", "less", "share", "median error of the promised start"),
    Measure("eta-error", "finish ETA error", "less", "share", "median error of the promised finish"),
    Measure("eta-p90-covers", "p90 ETA covers", "more", "share", "runs done within their promised p90"),
    Measure("money-wasted", "money wasted", "less", "share", "money spent on runs that were not on time"),
)
MEASURES = {one.name: one for one in _ALL}
_ON_TIME = "-on-time"
MOST_DECIMALS = 7
"""That are added to tell a value from a goal that it misses."""


def measures_with(lanes: Iterable[str]) -> list[str]:
    """The names of all measures of a play in which these lanes have runs."""
    return [*MEASURES, *(f"{lane}{_ON_TIME}" for lane in lanes)]


def measure_of(name: str) -> Measure:
    """The measure of this name. ``LANE-on-time`` is one for each lane; a name that is not known is a plain number
    that had better be small, as counts of bad things are."""
    known = MEASURES.get(name)
    if known is not None:
        return known
    if name.endswith(_ON_TIME):
        lane = name.removesuffix(_ON_TIME)
        return Measure(name, f"{lane} on time", "more", "share", f"`{lane}` runs on time, of those that could be")
    return Measure(name, name.replace("-", " "), "less", "number", name.replace("-", " "))


@dataclass(frozen=True, slots=True)
class Spread:
    """One measure over several plays."""

    mean: float
    """Over those in which there was something to measure; infinite if it was in one of them."""
    deviation: float
    """Population standard deviation; 0 of one play, NaN with an infinite one."""
    worst_low: float
    worst_high: float
    plays: int
    """In which there was something to measure."""
    never: int
    """Of them, infinite."""


def spread(values: Iterable[float]) -> Spread:
    """Mean and spread of what is a number."""
    known = [value for value in values if not math.isnan(value)]
    if not known:
        return Spread(math.nan, math.nan, math.nan, math.nan, 0, 0)
    never = sum(math.isinf(value) for value in known)
    deviation = math.nan if never else pstdev(known)
    return Spread(fmean(known), deviation, min(known), max(known), len(known), never)


def shown(measure: Measure, one: Spread) -> str:
    """``87.3 % ± 1.2``; without the spread for a single play; how often never."""
    if one.never:
        return f"never in {one.never} of {one.plays}"
    text = measure.shown(one.mean)
    if one.plays < 2:
        return text
    factor, places = (100, 1) if measure.unit == "share" else (1, 1) if measure.unit == "seconds" else (1, 2)
    return f"{text} ± {factor * one.deviation:.{places}f}"


@dataclass(frozen=True, slots=True)
class Verdict:
    """One goal, judged."""

    goal: Goal
    value: float
    met: bool

    @property
    def words(self) -> str:
        """``goodput ≥ 75.0 %``."""
        measure = measure_of(self.goal.measure)
        sign = "≥" if self.goal.at_least is not None else "≤"
        worst = " (worst)" if self.goal.of == "worst" else ""
        return f"{measure.title} {sign} {measure.shown(self._limit)}{worst}"

    @property
    def shown(self) -> str:
        """The value; one that misses the goal by little with enough decimals to be told from it."""
        measure = measure_of(self.goal.measure)
        places = range(1 if self.met or not math.isfinite(self.value) else MOST_DECIMALS)
        texts = [measure.shown(self.value, more=more) for more in places]
        told = (text for more, text in enumerate(texts) if text != measure.shown(self._limit, more=more))
        return texts[0] if self.met else next(told, texts[-1])

    @property
    def _limit(self) -> float:
        return (self.goal.at_least if self.goal.at_least is not None else self.goal.at_most) or 0.0


def judged(goal: Goal, plays: Iterable[Mapping[str, float]]) -> Verdict:
    """A goal over the measures of all seeds: their mean, or the worst of them. Nothing to measure is not met."""
    over = spread(play.get(goal.measure, math.nan) for play in plays)
    value = over.mean if goal.of == "mean" else over.worst_low if goal.at_least is not None else over.worst_high
    return Verdict(goal, value, goal.met(value))

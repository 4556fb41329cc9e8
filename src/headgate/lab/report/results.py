"""Results by scenario and policy, and what follows from them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from headgate.lab.contest.compare import Entry
from headgate.lab.measures import Spread, Verdict, judged, spread
from headgate.lab.report.about import About, Sheet

OURS = "headgate"
CONTROL = "none"
WITHOUT = f"{OURS}-without-"
MOST_TIMELINES = 6


@dataclass(frozen=True, slots=True)
class Contribution:
    """What one mechanism brings in a scenario: headgate with it less headgate without it, seed by seed."""

    mechanism: str
    goodput: Spread
    accepted_late: Spread
    wasted_work: Spread


class Results:
    """All entries of a comparison."""

    def __init__(self, entries: Iterable[Entry], about: About) -> None:
        self.about = about
        self.entries = list(entries)
        self._by: dict[tuple[str, str], list[Entry]] = {}
        for entry in self.entries:
            self._by.setdefault((entry.scenario, entry.policy), []).append(entry)
        for some in self._by.values():
            some.sort(key=lambda one: one.seed)

    @property
    def scenarios(self) -> list[Sheet]:
        """Those that have results, in order."""
        there = {scenario for scenario, _ in self._by}
        return [sheet for name, sheet in self.about.sheets.items() if name in there]

    def policies(self, scenario: str | None = None) -> list[str]:
        """Names of those that have results (in this scenario), in order."""
        there = {policy for name, policy in self._by if scenario in (None, name)}
        return [name for name in self.about.policies if name in there]

    def plays(self, scenario: str, policy: str) -> list[Entry]:
        """By seed."""
        return self._by.get((scenario, policy), [])

    def measure(self, scenario: str, policy: str, name: str) -> Spread:
        """One measure over the seeds."""
        return spread(one.measures.get(name, math.nan) for one in self.plays(scenario, policy))

    def measure_names(self, scenario: str) -> list[str]:
        """Measures that some policy has a number for, in order."""
        names: dict[str, None] = {}
        for policy in self.policies(scenario):
            for entry in self.plays(scenario, policy):
                names |= {name: None for name, value in entry.measures.items() if not math.isnan(value)}
        return list(names)

    def verdicts(self, scenario: str, policy: str) -> list[Verdict]:
        """The scenario's goals."""
        plays = [one.measures for one in self.plays(scenario, policy)]
        return [judged(goal, plays) for goal in self.about.sheets[scenario].goals] if plays else []

    def missed(self, policy: str) -> list[tuple[str, Verdict]]:
        """Every goal of every scenario that a policy misses."""
        return [(s.name, v) for s in self.scenarios for v in self.verdicts(s.name, policy) if not v.met]

    def mean_goodput(self, policy: str) -> Spread:
        """Over all scenarios that it played: each one's mean is one value."""
        return spread(self.measure(s.name, policy, "goodput").mean for s in self.scenarios)

    def contributions(self, scenario: str) -> list[Contribution]:
        """What each mechanism brings, the most helpful first; empty where no ablation was played."""
        found = []
        for policy in self.policies(scenario):
            if policy.startswith(WITHOUT) and self.plays(scenario, OURS):
                parts = [self._difference(scenario, policy, m) for m in ("goodput", "accepted-late", "wasted-work")]
                found.append(Contribution(policy.removeprefix(WITHOUT), *parts))
        return sorted(found, key=lambda one: -one.goodput.mean if not math.isnan(one.goodput.mean) else math.inf)

    def behind(self, scenario: str, policy: str) -> Spread:
        """Goodput that a policy has more than headgate, seed by seed where both played."""
        ours = {one.seed: one.measures.get("goodput", math.nan) for one in self.plays(scenario, OURS)}
        return spread(
            one.measures.get("goodput", math.nan) - ours[one.seed]
            for one in self.plays(scenario, policy)
            if one.seed in ours
        )

    def _difference(self, scenario: str, policy: str, measure: str) -> Spread:
        without = {one.seed: one.measures.get(measure, math.nan) for one in self.plays(scenario, policy)}
        return spread(
            one.measures.get(measure, math.nan) - without[one.seed]
            for one in self.plays(scenario, OURS)
            if one.seed in without
        )

    def with_timelines(self, scenario: str) -> list[str]:
        """The policies whose timelines are shown: headgate, the control, and then the best."""
        names: Sequence[str] = self.policies(scenario)
        first = [name for name in (OURS, CONTROL) if name in names]
        rest = [name for name in names if name not in first and not name.startswith(WITHOUT)]
        rest.sort(key=lambda name: -self.measure(scenario, name, "goodput").mean)
        return (first + rest)[:MOST_TIMELINES]


def fullest(entry: Entry, sheet: Sheet) -> list[str]:
    """The dependencies by mean calls in flight as a part of what each carries, the fullest first."""

    def fullness(name: str) -> float:
        flying = entry.timeline.columns.get(f"inflight:{name}", ())
        return sum(flying) / max(1, len(flying)) / sheet.knees[name]

    return sorted(sheet.knees, key=lambda name: -fullness(name))

"""One play as the rules of `headgate.lab.advice` look at it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from headgate.config.settings import ModelSettings, ResourceSettings
from headgate.lab.scenario.description import Scenario
from headgate.lab.scenario.facts import BIN_S, ResourceFacts
from headgate.lab.scenario.scores import LaneScore
from headgate.lab.scenario.timeline import Timeline
from headgate.lab.scenario.users import WORKFLOW
from headgate.lab.scenario.world import spells_of
from headgate.lab.weather import Spell, weather_at


@dataclass(frozen=True)
class Evidence:
    """A play of headgate and everything that was measured of it."""

    scenario: Scenario
    measures: Mapping[str, float]
    lanes: Mapping[str, LaneScore]
    facts: Mapping[str, ResourceFacts]
    timeline: Timeline
    workflow: str = WORKFLOW
    """How the configuration that advice is about calls the workflow of the runs."""

    @cached_property
    def _spells(self) -> list[Spell]:
        return spells_of(self.scenario)

    @property
    def guarded(self) -> Iterator[tuple[str, str, ResourceSettings, ResourceFacts]]:
        """Section, name, settings and facts of each resource that was asked for something."""
        sections: tuple[tuple[str, Mapping[str, ResourceSettings]], ...] = (
            ("models", self.scenario.headgate.models),
            ("tools", self.scenario.headgate.tools),
        )
        for section, resources in sections:
            for name, settings in resources.items():
                facts = self.facts.get(name)
                if facts is not None and facts.asked and name in self.scenario.dependencies:
                    yield section, name, settings, facts

    def column(self, name: str) -> list[float]:
        """A column of the timeline; empty if there is none."""
        return list(self.timeline.columns.get(name, ()))

    def moments(self) -> list[float]:
        """The middle of every step, in seconds."""
        return [(place + 0.5) * self.timeline.step_s for place in range(self.timeline.steps)]

    def knee(self, name: str, at_s: float) -> float:
        """Calls that a dependency carries at full speed at a moment; 0 while it answers nothing."""
        weather = weather_at(self._spells, at_s, name)
        return 0.0 if weather.stalled else self.scenario.dependencies[name].parallel * weather.capacity

    def troubled(self, at_s: float, name: str | None = None) -> bool:
        """Whether a dependency (any of them) is in trouble then."""
        return any(
            one.since <= at_s < one.until and (name is None or name in one.on) for one in self.scenario.troubles
        )

    @cached_property
    def _busy(self) -> dict[str, list[float]]:
        found: dict[str, list[float]] = {}
        moments = self.moments()
        for name in self.scenario.dependencies:
            found[name] = [
                (flying / knee if (knee := self.knee(name, at_s)) > 0 else math.inf)
                for at_s, flying in zip(moments, self.column(f"inflight:{name}"), strict=False)
            ]
        return found

    def busy(self, name: str) -> list[float]:
        """By step, calls in flight as a part of what the dependency carries at full speed then."""
        return self._busy[name]

    def found_room(self, name: str, bins: Mapping[int, int], within_s: float, below: float) -> float:
        """Part of the refusals in ``bins`` after which the dependency was less than ``below`` busy within
        ``within_s``."""
        total = sum(bins.values())
        free = [place for place, busy in enumerate(self.busy(name)) if busy < below]
        step_s, found = self.timeline.step_s, 0
        for place, count in bins.items():
            since, until = place * BIN_S, (place + 1) * BIN_S + within_s
            if any(since <= step * step_s and (step + 1) * step_s <= until for step in free):
                found += count
        return found / total if total else math.nan

    def usual_s(self, name: str) -> float:
        """Mean time of a call on a dependency (Little's law); NaN without calls."""
        facts = self.facts.get(name)
        flying = self.column(f"inflight:{name}")
        return sum(flying) * self.timeline.step_s / facts.started if facts is not None and facts.started else math.nan

    def question_wait_s(self) -> float:
        """The longest that a question waited for a person, in seconds, as a fluid: the part of the accepted runs that
        asks comes in, people answer at their pace, and no more wait than the queue holds. 0 if no run asks."""
        asking = self.scenario.behaviours.asking
        if asking is None:
            return 0.0
        people, most = self.scenario.people[asking.queue], self.scenario.headgate.approvals[asking.queue].depth
        pace, waiting, longest = people.count / people.takes, 0.0, 0.0
        for admitted in self.column("admitted"):
            waiting = min(float(most), max(0.0, waiting + asking.part * admitted - pace * self.timeline.step_s))
            longest = max(longest, waiting)
        return longest / pace

    def stand_ins(self, name: str) -> Iterator[str]:
        """Models that could take over from a model, and are configured."""
        for other, one in self.scenario.dependencies.items():
            if one.in_place_of == name and isinstance(self.scenario.headgate.models.get(other), ModelSettings):
                yield other


def part(conditions: Iterable[bool]) -> float:
    """The part of the steps in which something holds; 0 of no steps."""
    known = list(conditions)
    return sum(known) / len(known) if known else 0.0

"""What a report has to know about scenarios and policies beside the results: kept beside them as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from headgate.lab.advice import Advice
from headgate.lab.scenario.description import Goal, Scenario


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch to shade and name in a timeline."""

    since: float
    until: float
    words: str
    trouble: bool
    """Of a dependency, rather than of traffic."""


@dataclass(frozen=True, slots=True)
class Sheet:
    """One scenario, as far as a report shows it."""

    name: str
    title: str
    seconds: float
    warm_up: float
    goals: tuple[Goal, ...]
    spans: tuple[Span, ...]
    knees: Mapping[str, int]
    """Dependency → calls that it carries at full speed when nothing is wrong."""
    advice: tuple[Advice, ...] = ()
    """What the configuration should change, from the plays of headgate."""


@dataclass(frozen=True, slots=True)
class About:
    """Everything beside the results."""

    sheets: Mapping[str, Sheet]
    policies: Mapping[str, str]
    """Name → title, in order."""
    seeds: tuple[int, ...]
    notes: tuple[str, ...] = field(default=())

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        told = asdict(self)
        for name, sheet in self.sheets.items():
            told["sheets"][name]["goals"] = [one.model_dump(exclude_none=True) for one in sheet.goals]
        return told

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> About:
        """What `to_json` made.

        Raises:
            KeyError, TypeError, ValueError: it is something else.
        """
        sheets = {}
        for name, one in told["sheets"].items():
            sheets[name] = Sheet(
                name=one["name"],
                title=one["title"],
                seconds=one["seconds"],
                warm_up=one["warm_up"],
                goals=tuple(Goal(**goal) for goal in one["goals"]),
                spans=tuple(Span(**span) for span in one["spans"]),
                knees=dict(one["knees"]),
                advice=tuple(Advice(**advice) for advice in one["advice"]),
            )
        return cls(sheets, dict(told["policies"]), tuple(told["seeds"]), tuple(told["notes"]))


def sheet_of(scenario: Scenario, advice: Sequence[Advice] = ()) -> Sheet:
    """What a report shows of a scenario."""
    spans = [Span(one.since, one.until, f"{one.times:g}x traffic", False) for one in scenario.traffic.changes]
    spans += [Span(one.at, one.at + one.within, f"{one.runs} at once", False) for one in scenario.traffic.herds]
    for one in scenario.troubles:
        signs = [f"{one.capacity:.0%} capacity"] if one.capacity < 1 else []
        signs += [f"{one.slow:g}x slower"] if one.slow > 1 else []
        signs += [f"{one.errors:.0%} {one.fault} errors"] if one.errors else []
        signs += ["stalled"] if one.stalled else []
        spans.append(Span(one.since, one.until, f"{', '.join(one.on)}: {', '.join(signs) or 'trouble'}", True))
    knees = {name: one.parallel for name, one in scenario.dependencies.items()}
    return Sheet(
        scenario.name,
        scenario.title,
        scenario.seconds,
        scenario.warm_up,
        scenario.goals,
        tuple(spans),
        knees,
        tuple(advice),
    )

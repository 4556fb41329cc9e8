"""What a scenario refers to is there: dependencies, lanes and measures that it names, and moments before its end."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from headgate.config.document import Document, Path
from headgate.config.words import did_you_mean
from headgate.lab.measures import measures_with

if TYPE_CHECKING:
    from headgate.lab.scenario.description import Scenario


def check_references(scenario: Scenario, document: Document) -> None:
    """Note in ``document`` everything that the scenario names and that is not there. A scenario that came through
    plays as it reads: no goal that nothing can meet, no trouble that never happens."""
    for told in (_dependencies, _lanes, _goals, _moments, people_missing):
        for path, message in told(scenario):
            document.problem(path, message)


def _dependencies(scenario: Scenario) -> Iterator[tuple[Path, str]]:
    there = scenario.dependencies
    for place, trouble in enumerate(scenario.troubles):
        for name in trouble.on:
            if name not in there:
                yield ("troubles", place, "on"), f"{name!r} is no dependency here{did_you_mean(name, there)}"
    for name, one in there.items():
        if one.in_place_of is not None and one.in_place_of not in there:
            words = f"{one.in_place_of!r} is no dependency here{did_you_mean(one.in_place_of, there)}"
            yield ("dependencies", name, "in_place_of"), words
        section, guarded = (
            ("models", scenario.headgate.models) if one.kind == "model" else ("tools", scenario.headgate.tools)
        )
        if name not in guarded:
            words = f"headgate: declares no {one.kind} {name!r}, which the runs call"
            yield ("headgate", section), words


def people_missing(scenario: Scenario) -> Iterator[tuple[Path, str]]:
    """Approval queues that are asked and not declared, or that nobody answers; where that is said, and in words."""
    asking = scenario.behaviours.asking
    named: dict[str, Path] = {queue: ("people", queue) for queue in scenario.people}
    if asking is not None:
        named[asking.queue] = ("behaviours", "asking")
    for queue, path in named.items():
        if queue not in scenario.headgate.approvals:
            known = did_you_mean(queue, scenario.headgate.approvals)
            yield path, f"headgate: declares no approvals {queue!r}, which the runs ask{known}"
        if queue not in scenario.people:
            yield path, f"people: nobody answers {queue!r}, which the runs ask"


def _lanes(scenario: Scenario) -> Iterator[tuple[Path, str]]:
    for lane in scenario.lanes:
        if lane not in scenario.headgate.lanes:
            words = f"headgate: has no lane {lane!r}{did_you_mean(lane, scenario.headgate.lanes)}"
            yield ("lanes", lane), words
    traffic = scenario.traffic
    for section, named in (
        ("changes", [one.lane for one in traffic.changes]),
        ("herds", [one.lane for one in traffic.herds]),
    ):
        for place, other in enumerate(named):
            if other is not None and other not in scenario.lanes:
                path = ("traffic", section, place, "lane")
                yield path, f"{other!r} is no lane here{did_you_mean(other, scenario.lanes)}"


def _goals(scenario: Scenario) -> Iterator[tuple[Path, str]]:
    known = measures_with(scenario.lanes)
    for place, goal in enumerate(scenario.goals):
        if goal.measure not in known:
            words = f"there is no measure {goal.measure!r}{did_you_mean(goal.measure, known)}"
            yield ("goals", place, "measure"), words


def _moments(scenario: Scenario) -> Iterator[tuple[Path, str]]:
    """Nothing may begin when nobody comes any more: it would not be seen in what is scored."""
    traffic = scenario.traffic
    moments: list[tuple[Path, float]] = [(("warm_up",), scenario.warm_up)]
    moments += [(("troubles", place, "since"), one.since) for place, one in enumerate(scenario.troubles)]
    moments += [(("traffic", "changes", place, "since"), one.since) for place, one in enumerate(traffic.changes)]
    moments += [(("traffic", "herds", place, "at"), one.at) for place, one in enumerate(traffic.herds)]
    if scenario.restarts is not None:
        moments.append((("restarts", "since"), scenario.restarts.since))
    for path, moment in moments:
        if moment >= scenario.seconds:
            words = f"{path[-1]} ({moment:g}) must be before the end of the arrivals (seconds: {scenario.seconds:g}s)"
            yield path, words

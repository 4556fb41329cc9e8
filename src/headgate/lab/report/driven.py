"""Results of driving a live service, in the shape of a comparison."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from headgate.clock import RealClock
from headgate.errors import ConfigError
from headgate.lab.contest.compare import Entry
from headgate.lab.live import live
from headgate.lab.report.about import About, sheet_of
from headgate.lab.report.results import Results
from headgate.lab.scenario.bound import bound
from headgate.lab.scenario.description import Scenario
from headgate.lab.scenario.scores import LaneScore, score

LIVE = "live"
NOT_SEEN = frozenset(
    {"wasted-work", "wasted-calls", "amplification", "past-knee", "jain", "money-wasted", "others-kept"}
)
"""A goal about anything else is missed when there was nothing to measure, as in a play."""
SEEN_FROM_OUTSIDE = "Measures of calls, work and money are not seen from outside; goals about them are left out."


def driven(
    scenario: Scenario,
    url: str,
    *,
    seed: int,
    workflow: str,
    api_key: str | None = None,
    at_most_s: float | None = None,
    anywhere: bool = False,
    on_second: Callable[[float, float], None] | None = None,
    notes: Sequence[str] = (),
) -> Results:
    """Drive the service at ``url`` as `headgate.lab.live.live` does, which says what is raised, and score it.

    Raises:
        ConfigError: none of the scenario's goals can be seen from outside, or ``at_most_s`` ends before anything is
            scored.
    """
    if at_most_s is not None and at_most_s <= scenario.warm_up:
        cut = f"{at_most_s:g} s end before the first run is scored (warm_up: {scenario.warm_up:g})"
        raise ConfigError([f"{cut}; drive longer, or a short copy: --seconds"])
    seen = tuple(goal for goal in scenario.goals if goal.measure not in NOT_SEEN)
    if scenario.goals and not seen:
        raise ConfigError([f"none of the goals of {scenario.name} can be seen from outside"])
    clock = RealClock()
    begun = clock.monotonic()
    played = live(
        scenario,
        url,
        seed=seed,
        api_key=api_key,
        workflow=workflow,
        at_most_s=at_most_s,
        anywhere=anywhere,
        on_second=on_second,
    )
    took_s = clock.monotonic() - begun
    could = bound(scenario, [fate.wish for fate in played.fates if fate.wish.at_s >= scenario.warm_up])
    scored = score(played, could)
    entry = Entry(
        scenario.name,
        LIVE,
        seed,
        scored.measures,
        scored.lanes,
        len(played.effects),
        played.seconds,
        took_s,
        could.limits,
        played.event_hash,
        played.timeline,
        {},
    )
    sheet = sheet_of(scenario.model_copy(update={"goals": seen}))
    told = [f"Drove {url} in real time.", SEEN_FROM_OUTSIDE, *notes]
    if at_most_s is not None and at_most_s < scenario.seconds:
        told.append(
            f"Stopped after {at_most_s:g} s of {scenario.seconds:g} s: who had not come by then counts as lost."
        )
    if scenario.troubles:
        told.append(not_there(scenario))
    told.append(became(scored.lanes))
    return Results([entry], About({scenario.name: sheet}, {LIVE: f"the service at {url}"}, (seed,), tuple(told)))


def not_there(scenario: Scenario) -> str:
    """That the scenario's troubles, of which there are some, were not played by a live service."""
    count = len(scenario.troubles)
    names = ", ".join(dict.fromkeys(name for one in scenario.troubles for name in one.on))
    what = f"the file's {count} troubles" if count > 1 else "the file's trouble"
    return f"Nothing went wrong there by itself: {what} (on {names}) did not happen at the service."


def became(lanes: Mapping[str, LaneScore]) -> str:
    """How the scored runs of all lanes ended, the most frequent first: a service whose every run fails looks like an
    overloaded one in the measures alone."""
    ends: Counter[str] = Counter()
    for lane in lanes.values():
        ends.update(lane.ends)
    if not ends:
        return "No run came that is scored."
    words = ", ".join(f"{count} {reason}" for reason, count in ends.most_common())
    return f"What became of {ends.total()} runs: {words}."

"""What perfect knowledge could have done with a scenario: an upper bound that can be explained.

Work is a fluid: a run may use a dependency at any moment between its arrival and its deadline, at any speed, in any
order, and everybody knows all arrivals, values, capacities and troubles beforehand. What then limits a *single*
dependency is plain: in every stretch of time it can do no more work than its capacity over that stretch, so the work
that must be done inside the stretch has to fit. Runs are taken in order of value per second of work there (or lane
by lane, for what the lanes could carry) and as much of each as still fits. Amounts that fit in this sense form a
polymatroid, so that order is not a heuristic: it is the best there is.

The bound is the least over all dependencies, each looked at as if the others were free, and over mixtures of the
scarcest ones: what holds for the work on two dependencies holds for any weighted sum of it as well. It is therefore
still somewhat kind where several dependencies are short at once, never too strict. Kind as well: no call takes time
of its own unless the whole run cannot be done before its deadline; runs may be cut into fractions; the degrade ladder
is applied in full. A model and its stand-in are one dependency with both capacities, at the mean ratio of their
speeds. Errors cost what they cost: a call that breaks half way has used half its work.

Of odd runs it assumes: those that go round in circles or spawn themselves without end are worth nothing, and none of
their calls is needed; sub-runs need all their calls, side by side; a prompt that grows is read in full; what a tool
gave malformed is had by calling again, without a model that repairs; people are one more dependency, which answers at
its mean speed without a pause. Restarts cost it nothing.

Runs that begin in the same `BIN_S` and are of similar size are one amount; their times are rounded outwards.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

from headgate.lab.scenario.calls import ANSWER_TOKENS, NO_BOUND, Plan
from headgate.lab.scenario.description import Dependency, Scenario
from headgate.lab.scenario.oddities import in_a_row, needed, questions
from headgate.lab.scenario.traffic import Wish, work_s
from headgate.lab.scenario.users import WORKFLOW
from headgate.lab.scenario.world import spells_of
from headgate.lab.weather import Weather, next_change, weather_at

BIN_S = 10.0
SIZE_CLASSES = 4
SCARCEST = 3
"""So many of the tightest dependencies are mixed, two and two …"""
WEIGHTS = (0.33, 1.0, 3.0)
"""… with these weights."""
_HALF_WAY = {"mixed": 0.5, "500": 1.0, "reset": 1.0}
"""Fault → part of its cases that have used half their work."""
_ALL_WORK = ("empty", "malformed")


@dataclass(frozen=True, slots=True)
class Bound:
    """What could have been finished in time."""

    value: float
    """Most value, over all runs."""
    limits: str
    """The dependency that sets it."""
    by_lane: dict[str, float]
    """Lane → part of its runs, if higher lanes go first and lower ones are not there."""


@dataclass(frozen=True, slots=True)
class _Amount:
    """Runs of one lane that begin together and are of similar size."""

    lane: str
    rank: int
    first: int
    last: int
    """Bins that it may use, both included."""
    runs: int
    work: float
    """Of all of them together."""
    value: float


def bound(scenario: Scenario, wanted: Sequence[Wish]) -> Bound:
    """The bound over ``wanted``."""
    wanted = [wish for wish in wanted if wish.sound]
    cheap = [replace(wish, plan=_cheapest(scenario, wish)) for wish in wanted]
    works = [work_s(wish.plan, scenario.dependencies) for wish in cheap]
    able = [_alone_s(scenario, wish) <= wish.deadline_s for wish in cheap]
    most = scenario.seconds + max(lane.deadline for lane in scenario.lanes.values())
    bins = math.ceil(most / BIN_S) + 1
    offered = {lane: sum(wish.lane == lane for wish in wanted) for lane in scenario.lanes}
    by_lane = {lane: float(count) for lane, count in offered.items()}
    limits = [_limit(name, uses, capacity, bins) for name, uses, capacity in _dependencies(scenario, cheap, works)]
    values: dict[str, float] = {}

    def judge(limit: _Limit) -> None:
        amounts = _amounts(scenario, cheap, able, limit.uses, bins)
        values[limit.name] = sum(a.value * part for a, part in _filled(amounts, limit.room, _by_density))
        done = dict.fromkeys(scenario.lanes, 0.0)
        for amount, part in _filled(amounts, limit.room, _by_lane):
            done[amount.lane] += amount.runs * part
        for lane, count in done.items():
            by_lane[lane] = min(by_lane[lane], count)

    for limit in limits:
        judge(limit)
    scarcest = sorted(limits, key=lambda limit: values[limit.name])[:SCARCEST]
    for one, other in combinations(scarcest, 2):
        for weight in WEIGHTS:
            judge(_mixed(one, other, weight))
    lowest = min(values, key=lambda name: values[name])
    shares = {lane: by_lane[lane] / offered[lane] if offered[lane] else 1.0 for lane in scenario.lanes}
    return Bound(values[lowest], lowest, shares)


Use = Callable[[int], float]
Capacity = Callable[[float, float], float]


@dataclass(frozen=True, slots=True)
class _Limit:
    """Something that there is only so much of."""

    name: str
    uses: Use
    room: list[float]
    """By bin."""


def _limit(name: str, uses: Use, capacity: Capacity, bins: int) -> _Limit:
    return _Limit(name, uses, [capacity(place * BIN_S, (place + 1) * BIN_S) for place in range(bins)])


def _mixed(one: _Limit, other: _Limit, weight: float) -> _Limit:
    """Both together; ``weight`` is what a share of all of ``one`` counts against a share of all of ``other``."""
    first, second = weight / max(1e-9, sum(one.room)), 1 / max(1e-9, sum(other.room))
    return _Limit(
        f"{one.name} + {other.name} ({weight:g}:1)",
        lambda index: first * one.uses(index) + second * other.uses(index),
        [first * a + second * b for a, b in zip(one.room, other.room, strict=True)],
    )


def _by_density(amount: _Amount) -> object:
    return -amount.value / max(amount.work, 1e-12)


def _by_lane(amount: _Amount) -> object:
    return (amount.rank, amount.work / amount.runs)


def _dependencies(
    scenario: Scenario, wishes: Sequence[Wish], works: Sequence[dict[str, float]]
) -> list[tuple[str, Use, Capacity]]:
    """Every limit of the world: name, work of the n-th wish there, work that fits between two moments."""
    found: list[tuple[str, Use, Capacity]] = []
    for name, one in scenario.dependencies.items():
        if one.in_place_of is not None:
            continue
        capacities = [_work_capacity(scenario, name)]
        for other, stand_in in scenario.dependencies.items():
            if stand_in.in_place_of == name:
                capacities.append(_scaled(_work_capacity(scenario, other), _ratio(one, stand_in, name, wishes)))
        found.append((name, _use(works, name), _sum_of(capacities)))
        if one.requests_per_min is not None and len(capacities) == 1:
            found.append((f"{name} per minute", _count(wishes, name), _steady(one.requests_per_min / 60)))
    for queue, people in scenario.people.items():
        found.append((queue, _questions(wishes, queue), _steady(people.count / people.takes)))
    return found


def _use(works: Sequence[dict[str, float]], name: str) -> Use:
    return lambda index: works[index].get(name, 0.0)


def _count(wishes: Sequence[Wish], name: str) -> Use:
    return lambda index: float(sum(call.dependency == name for call in needed(wishes[index].plan)))


def _questions(wishes: Sequence[Wish], queue: str) -> Use:
    return lambda index: float(questions(wishes[index].plan, queue))


def _steady(per_s: float) -> Capacity:
    return lambda since, until: per_s * (until - since)


def _scaled(capacity: Capacity, times: float) -> Capacity:
    return lambda since, until: times * capacity(since, until)


def _sum_of(capacities: Sequence[Capacity]) -> Capacity:
    return lambda since, until: sum(one(since, until) for one in capacities)


def _ratio(one: Dependency, stand_in: Dependency, name: str, wishes: Sequence[Wish]) -> float:
    """Seconds of ``one`` that a second of its stand-in is worth, over the calls that are wanted."""
    spent = {
        which: sum(work_s(wish.plan, _all_are(dependency, wish)).get(name, 0.0) for wish in wishes)
        for which, dependency in (("one", one), ("other", stand_in))
    }
    return spent["one"] / spent["other"] if spent["other"] else 0.0


def _all_are(dependency: Dependency, wish: Wish) -> dict[str, Dependency]:
    return {call.dependency: dependency for call in needed(wish.plan)}


def _work_capacity(scenario: Scenario, name: str) -> Capacity:
    spells = spells_of(scenario)
    parallel = scenario.dependencies[name].parallel

    def between(since: float, until: float) -> float:
        total, now = 0.0, since
        while now < until:
            turn = next_change(spells, now)
            end = until if turn is None else min(turn, until)
            total += (end - now) * parallel * _useful(weather_at(spells, now, name))
            now = end
        return total

    return between


def _useful(weather: Weather) -> float:
    """Part of the ordinary capacity that can become good answers."""
    if weather.stalled or weather.errors >= 1:
        return 0.0
    before, wasted = 0.0, 0.0
    for below, kind in weather.faults:
        chance, before = below - before, below
        wasted += chance * (0.5 * _HALF_WAY.get(kind, 0.0) + (1.0 if kind in _ALL_WORK else 0.0))
    return weather.capacity / weather.slow / (1 + wasted / (1 - weather.errors))


def _cheapest(scenario: Scenario, wish: Wish) -> Plan:
    """The run with its whole degrade ladder applied."""
    rungs = scenario.headgate.workflows[WORKFLOW].degrade if WORKFLOW in scenario.headgate.workflows else ()
    skip = {part for rung in rungs for part in rung.skip}
    knobs = [rung.knobs[ANSWER_TOKENS] for rung in rungs if ANSWER_TOKENS in rung.knobs]
    tokens = int(min([NO_BOUND, *(int(one) for one in knobs)]))

    def cheapest(plan: Plan) -> Plan:
        return tuple(
            replace(call, writes=min(call.writes, tokens), inner=cheapest(call.inner))
            for call in plan
            if not call.part or call.part not in skip
        )

    return cheapest(wish.plan)


def _alone_s(scenario: Scenario, wish: Wish) -> float:
    """What a run takes when it has the world and its people to itself, with every call at its fastest."""
    total = sum(people.takes * questions(wish.plan, queue) for queue, people in scenario.people.items())
    for name, seconds in work_s(in_a_row(wish.plan), scenario.dependencies).items():
        one = scenario.dependencies[name]
        quickest = 1.0
        for other in scenario.dependencies.values():
            if other.in_place_of == name:
                quickest = min(quickest, one.reads / other.reads, one.writes / other.writes, other.takes / one.takes)
        total += seconds * quickest / math.exp(one.noise**2 / 2)
    return total


def _amounts(scenario: Scenario, wishes: Sequence[Wish], able: Sequence[bool], uses: Use, bins: int) -> list[_Amount]:
    groups: dict[tuple[str, int], list[tuple[float, float]]] = {}
    for index, wish in enumerate(wishes):
        if able[index]:
            groups.setdefault((wish.lane, int(wish.at_s / BIN_S)), []).append((uses(index), wish.value))
    ranks = {lane: rank for rank, lane in enumerate(scenario.lanes)}
    found: list[_Amount] = []
    for (lane, first), members in groups.items():
        members.sort()
        last = min(bins - 1, int(((first + 1) * BIN_S + scenario.lanes[lane].deadline) / BIN_S))
        size = math.ceil(len(members) / SIZE_CLASSES)
        for begin in range(0, len(members), size):
            some = members[begin : begin + size]
            work, value = sum(one[0] for one in some), sum(one[1] for one in some)
            found.append(_Amount(lane, ranks[lane], first, last, len(some), work, value))
    return found


def _filled(
    amounts: Sequence[_Amount], room: Sequence[float], order: Callable[[_Amount], object]
) -> list[tuple[_Amount, float]]:
    """Each amount with the part of it that fits, taken in order."""
    bins = len(room)
    total = [0.0]
    for one in room:
        total.append(total[-1] + one)
    # left[s][t]: work that may still be put into windows inside bins s..t
    left = [[total[t + 1] - total[s] if t >= s else math.inf for t in range(bins)] for s in range(bins)]
    found: list[tuple[_Amount, float]] = []
    for amount in sorted(amounts, key=order):  # type: ignore[arg-type]
        if amount.work <= 0:
            found.append((amount, 1.0))
            continue
        fits = min(min(left[s][amount.last :]) for s in range(amount.first + 1))
        taken = max(0.0, min(amount.work, fits))
        found.append((amount, taken / amount.work))
        for s in range(amount.first + 1 if taken else 0):
            row = left[s]
            row[amount.last :] = [one - taken for one in row[amount.last :]]
    return found

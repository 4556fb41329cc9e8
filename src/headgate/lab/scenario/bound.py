"""What perfect knowledge could have done with a scenario: an upper bound that can be explained.

Work is a fluid: a run may use a dependency at any moment between its arrival and its deadline, at any speed, in any
order, and everybody knows all arrivals, values, capacities and troubles beforehand. What then fits into a *single*
dependency is exact (`headgate.lab.scenario.fluid`). Runs are taken in order of value per second of work there (or
lane by lane, for what the lanes could carry) and as much of each as still fits.

The bound is the least over all dependencies, each looked at as if the others were free, and over mixtures of the
scarcest ones: what holds for the work on two dependencies holds for any weighted sum of it as well. It is therefore
still somewhat kind where several dependencies are short at once, and never too strict but for luck: noise and errors
cost what they cost on average, and a call that breaks half way has used half its work. Kind as well: no call takes
time of its own unless the whole run cannot be done before its deadline; runs may be cut into fractions; the degrade
ladder is applied in full; times are rounded outwards to `BIN_S`, and to more where a play is longer than an hour.

A model and its stand-ins are one dependency with all their capacities: a second of a stand-in is worth so many of
the model, and each call costs what it costs where it is cheaper at that rate. This holds for every rate (it is the
dual of sharing the calls out), and the tightest of a few is taken.

Of odd runs it assumes: those that go round in circles or spawn themselves without end are worth nothing, and none of
their calls is needed; sub-runs need all their calls, side by side; a prompt that grows is read in full; what a tool
gave malformed is had by calling again, without a model that repairs; people are one more dependency, which answers at
its mean speed without a pause. Restarts cost it nothing.

Perfect knowledge knows how much work each run will be, and prefers the small ones. Nobody is told that when a run
comes in; so there is a second figure, in which the runs of a lane are all alike.

Which limit is the tightest is found with runs of similar size as one amount, which is quick; that limit is then
filled run by run, because of such an amount the smallest runs would be done first.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

from headgate.lab.provider.physics import BURST_S
from headgate.lab.scenario.calls import ANSWER_TOKENS, NO_BOUND, Plan, PlannedCall
from headgate.lab.scenario.description import Dependency, Scenario
from headgate.lab.scenario.fluid import (
    Amount,
    Bins,
    Capacity,
    Limit,
    Use,
    cut_into_bins,
    fitted,
    limit_of,
    mixture,
    scaled,
    steady,
    sum_of,
)
from headgate.lab.scenario.oddities import in_a_row, needed, questions
from headgate.lab.scenario.traffic import Wish, call_s, work_s
from headgate.lab.scenario.users import WORKFLOW
from headgate.lab.scenario.world import spells_of
from headgate.lab.weather import Weather, next_change, weather_at

SIZE_CLASSES = 4
"""Into so many the runs of a bin are put while the tightest limit is looked for."""
RATES = 3
"""Rates of exchange with a stand-in that are tried."""
SCARCEST = 3
"""So many of the tightest dependencies are mixed, two and two …"""
WEIGHTS = (0.33, 1.0, 3.0)
"""… with these weights."""
_HALF_WAY = {"mixed": 0.5, "500": 1.0, "reset": 1.0}
"""Fault → part of its cases that have used half their work."""
_ALL_WORK = ("empty", "malformed")
_ONLY_LATE = "slow_start"
"""Its answers are good."""


@dataclass(frozen=True, slots=True)
class Bound:
    """What could have been finished in time."""

    value: float
    """Most value, over all runs."""
    sizes_unknown: float
    """The same if nobody knew how much work a run is before it is done: runs of a lane are then all alike. A policy
    that is not told of sizes can hardly reach more."""
    limits: str
    """The dependency that sets it."""
    by_lane: dict[str, float]
    """Lane → part of its runs, if higher lanes go first and lower ones are not there."""


def bound(scenario: Scenario, wanted: Sequence[Wish]) -> Bound:
    """The bound over ``wanted``."""
    wanted = [wish for wish in wanted if wish.sound]
    cheap = [replace(wish, plan=_cheapest(scenario, wish)) for wish in wanted]
    able = [_alone_s(scenario, wish) <= wish.deadline_s for wish in cheap]
    most = scenario.seconds + max(lane.deadline for lane in scenario.lanes.values())
    bins = cut_into_bins(most)

    def worth(limit: Limit, classes: int | None = SIZE_CLASSES) -> float:
        amounts = _amounts(scenario, cheap, able, limit.uses, bins, classes)
        return sum(a.value * part for a, part in fitted(amounts, limit, _by_density))

    def worth_of_all_alike(limit: Limit) -> float:
        amounts = _amounts(scenario, cheap, able, limit.uses, bins, 1)
        return sum(a.value * part for a, part in fitted(amounts, limit, _by_density_of(_densities(amounts))))

    def served(limit: Limit, classes: int | None) -> dict[str, float]:
        done = dict.fromkeys(scenario.lanes, 0.0)
        for amount, part in fitted(_amounts(scenario, cheap, able, limit.uses, bins, classes), limit, _by_lane):
            done[amount.lane] += amount.runs * part
        return done

    limits = _limits(scenario, cheap, bins)
    values = [worth(limit) for limit in limits]
    everything = sum(wish.value for wish, can in zip(cheap, able, strict=True) if can)
    # a limit under which everything fits makes no other one tighter
    scarce = sorted((value, place) for place, value in enumerate(values) if value < everything * (1 - 1e-9))
    scarcest = list({limits[place].name: limits[place] for _, place in reversed(scarce)}.values())[::-1][:SCARCEST]
    for one, other in combinations(scarcest, 2):
        limits += [mixture(one, other, weight) for weight in WEIGHTS]
    values += [worth(limit) for limit in limits[len(values) :]]
    lowest = limits[min(range(len(limits)), key=values.__getitem__)]
    shares = _shares(scenario, wanted, able, limits, served)
    known = worth(lowest, None)
    unknown = min([known, *map(worth_of_all_alike, limits)])
    return Bound(known, unknown, lowest.name, shares)


def _shares(
    scenario: Scenario,
    wishes: Sequence[Wish],
    able: Sequence[bool],
    limits: Sequence[Limit],
    served: Callable[[Limit, int | None], dict[str, float]],
) -> dict[str, float]:
    """Lane → part of its runs that could be done."""
    rough = [served(limit, SIZE_CLASSES) for limit in limits]
    exact: dict[int, dict[str, float]] = {}
    shares: dict[str, float] = {}
    for lane in scenario.lanes:
        offered = sum(wish.lane == lane for wish in wishes)
        could: float = sum(can for wish, can in zip(wishes, able, strict=True) if wish.lane == lane)
        tightest = min(range(len(limits)), key=lambda place: rough[place][lane])
        if rough[tightest][lane] < could * (1 - 1e-9):
            if tightest not in exact:
                exact[tightest] = served(limits[tightest], None)
            could = exact[tightest][lane]
        shares[lane] = could / offered if offered else 1.0
    return shares


def _by_density(amount: Amount) -> object:
    return -amount.value / max(amount.work, 1e-12)


def _densities(amounts: Sequence[Amount]) -> dict[str, float]:
    """Lane → value of its runs by their work."""
    value: dict[str, float] = {}
    work: dict[str, float] = {}
    for amount in amounts:
        value[amount.lane] = value.get(amount.lane, 0.0) + amount.value
        work[amount.lane] = work.get(amount.lane, 0.0) + amount.work
    return {lane: value[lane] / max(work[lane], 1e-12) for lane in value}


def _by_density_of(lanes: Mapping[str, float]) -> Callable[[Amount], object]:
    return lambda amount: -lanes[amount.lane]


def _by_lane(amount: Amount) -> object:
    return (amount.rank, amount.work / amount.runs)


def _limits(scenario: Scenario, wishes: Sequence[Wish], bins: Bins) -> list[Limit]:
    """Every limit of the world."""
    found: list[Limit] = []
    for name, one in scenario.dependencies.items():
        if one.in_place_of is not None:
            continue
        calls = [[call for call in needed(wish.plan) if call.dependency == name] for wish in wishes]
        stand_ins = {other: them for other, them in scenario.dependencies.items() if them.in_place_of == name}
        ours, theirs = _work_capacity(scenario, name), {other: _work_capacity(scenario, other) for other in stand_ins}
        rates = {other: _rates(calls, one, them, ours, theirs[other], bins) for other, them in stand_ins.items()}
        for place in range(RATES if stand_ins else 1):
            ways = [(1.0, one), *((rates[other][place], them) for other, them in stand_ins.items())]
            capacity = sum_of([ours, *(scaled(theirs[other], rates[other][place]) for other in stand_ins)])
            found.append(limit_of(name, _cheapest_way(calls, ways), capacity, bins))
        if one.requests_per_min is not None and not stand_ins:
            per_s = one.requests_per_min / 60
            limit = limit_of(f"{name} per minute", _number_of(calls), steady(per_s), bins, max(1.0, BURST_S * per_s))
            found.append(limit)
    for queue, people in scenario.people.items():
        found.append(limit_of(queue, _questions(wishes, queue), steady(people.count / people.takes), bins))
    return found


Calls = Sequence[Sequence[PlannedCall]]
"""By wish, its calls of one dependency."""


def _cheapest_way(calls: Calls, ways: Sequence[tuple[float, Dependency]]) -> Use:
    costs = [sum(min(rate * call_s(call, one) for rate, one in ways) for call in some) for some in calls]
    return costs.__getitem__


def _number_of(calls: Calls) -> Use:
    return lambda index: float(len(calls[index]))


def _questions(wishes: Sequence[Wish], queue: str) -> Use:
    return lambda index: float(questions(wishes[index].plan, queue))


def _rates(
    calls: Calls, one: Dependency, stand_in: Dependency, ours: Capacity, theirs: Capacity, bins: Bins
) -> tuple[float, ...]:
    """Seconds of ``one`` that a second of its stand-in is worth: for the call for which it is best, on average, and
    when the calls for which it is best are its own and both are equally full."""
    pairs = [(call_s(call, one), call_s(call, stand_in)) for some in calls for call in some]
    if not pairs:
        return (0.0,) * RATES
    pairs.sort(key=lambda pair: -pair[0] / pair[1])
    here, there = ours(0, bins.number * bins.width_s), theirs(0, bins.number * bins.width_s)
    left, taken, balanced = sum(a for a, _ in pairs), 0.0, 0.0
    mean = left / sum(b for _, b in pairs)
    for a, b in pairs:
        left, taken, balanced = left - a, taken + b, a / b
        if taken * here >= left * there:
            break
    return pairs[0][0] / pairs[0][1], mean, balanced


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
    if weather.stalled:
        return 0.0
    before, wasted, bad = 0.0, 0.0, 0.0
    for below, kind in weather.faults:
        chance, before = below - before, below
        wasted += chance * (0.5 * _HALF_WAY.get(kind, 0.0) + (1.0 if kind in _ALL_WORK else 0.0))
        bad += chance if kind != _ONLY_LATE else 0.0
    return 0.0 if bad >= 1 - 1e-9 else weather.capacity / weather.slow / (1 + wasted / (1 - bad))


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


def _amounts(
    scenario: Scenario, wishes: Sequence[Wish], able: Sequence[bool], uses: Use, bins: Bins, classes: int | None
) -> list[Amount]:
    """Runs that begin in the same bin, in so many classes of size; ``None``: each by itself."""
    groups: dict[tuple[str, int], list[tuple[float, float]]] = {}
    for index, wish in enumerate(wishes):
        if able[index]:
            groups.setdefault((wish.lane, int(wish.at_s / bins.width_s)), []).append((uses(index), wish.value))
    ranks = {lane: rank for rank, lane in enumerate(scenario.lanes)}
    found: list[Amount] = []
    for (lane, first), members in groups.items():
        members.sort()
        ends_s = (first + 1) * bins.width_s + scenario.lanes[lane].deadline
        last = min(bins.number - 1, int(ends_s / bins.width_s))
        size = 1 if classes is None else math.ceil(len(members) / classes)
        for begin in range(0, len(members), size):
            some = members[begin : begin + size]
            work, value = sum(one[0] for one in some), sum(one[1] for one in some)
            found.append(Amount(lane, ranks[lane], first, last, len(some), work, value))
    return found

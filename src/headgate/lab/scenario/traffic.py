"""Who wants what and when: every run of a scenario, drawn from its seed before anything is played.

Each tenant has its own stream of chance, so that what one tenant does changes nothing about the others' wishes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import pairwise
from random import Random
from typing import Any

from headgate.errors import ConfigError
from headgate.lab.scenario.behaviours import WORTHLESS
from headgate.lab.scenario.calls import Plan, PlannedCall, draw_plan
from headgate.lab.scenario.description import Dependency, Scenario
from headgate.lab.scenario.oddities import behaved, drawn_behaviour, needed
from headgate.lab.trace import Arrival, Phase, Request, load_trace, replay

SAMPLED_RUNS = 2000
WISHES_AT_MOST = 500_000
"""All of them are drawn beforehand, and kept."""
TRACE_FROM_S = 600.0
LEAST_RATE = 1e-3
"""Runs per second that a trace is played at where a scenario asks for none."""


@dataclass(frozen=True, slots=True)
class Wish:
    """One run that somebody wants."""

    number: int
    at_s: float
    tenant: str
    user: str
    lane: str
    deadline_s: float
    """Seconds after ``at_s``."""
    value: float
    manner: str
    """``polite``, ``rude`` or ``once``: what follows a refusal."""
    leaves_after_s: float | None
    """When somebody impatient goes away."""
    plan: Plan
    behaviour: str = ""
    """What is odd about it; empty is an ordinary run."""

    @property
    def sound(self) -> bool:
        """Whether anybody needs what it does."""
        return self.behaviour not in WORTHLESS

    @property
    def ticket(self) -> dict[str, Any]:
        """The input of its run."""
        return {"number": self.number, "plan": [call.as_json() for call in self.plan]}


def wishes(scenario: Scenario, seed: int, *, without: Sequence[str] = ()) -> list[Wish]:
    """All wishes in order of time. ``without``: tenants that stay away.

    Raises:
        ConfigError: they would be more than `WISHES_AT_MOST`.
    """
    expected = scenario.traffic.load * runs_per_s(scenario) * scenario.seconds
    expected += sum(herd.runs for herd in scenario.traffic.herds)
    _refuse_too_many(scenario, expected)
    drawn: list[Wish] = []
    streams = _trace_arrivals(scenario, seed) if scenario.traffic.shape == "trace" else _arrivals(scenario, seed)
    for tenant, moments in streams:
        if tenant not in without:
            drawing = _Drawing(scenario, seed, tenant)
            drawn += [drawing.wish(moment) for moment in moments]
            _refuse_too_many(scenario, len(drawn))
    drawn.sort(key=lambda wish: (wish.at_s, wish.tenant))
    return [replace(wish, number=number) for number, wish in enumerate(drawn)]


def _refuse_too_many(scenario: Scenario, runs: float) -> None:
    if runs > WISHES_AT_MOST:
        hint = "make seconds, load, changes or herds smaller"
        raise ConfigError([f"{scenario.name}: these are more than {WISHES_AT_MOST:,} runs; {hint}"])


def parts(scenario: Scenario) -> dict[str, float]:
    """Tenant → part of the ordinary traffic."""
    tenants = scenario.tenants
    weights = [1 / (rank + 1) ** tenants.skew for rank in range(tenants.count)]
    total = math.fsum(weights)  # not sum(), whose last digit depends on the version of Python
    return {f"tenant-{rank:02}": weight / total for rank, weight in enumerate(weights)}


def work_s(plan: Plan, dependencies: dict[str, Dependency]) -> dict[str, float]:
    """Expected seconds of work of one run on each dependency that it calls."""
    found: dict[str, float] = {}
    for call in needed(plan):
        found[call.dependency] = found.get(call.dependency, 0.0) + call_s(call, dependencies[call.dependency])
    return found


def call_s(call: PlannedCall, one: Dependency) -> float:
    """Expected seconds of work of one plain call, if ``one`` answers it."""
    alone = one.takes * call.size + call.reads / one.reads + call.writes / one.writes
    return alone * math.exp(one.noise**2 / 2)


def runs_per_s(scenario: Scenario) -> float:
    """What the bottleneck of the undisturbed world carries, without stand-ins."""
    rng = Random("capacity")
    total: dict[str, float] = {}
    count: dict[str, int] = {}
    for _ in range(SAMPLED_RUNS):
        plan = draw_plan(scenario.calls, scenario.dependencies, rng)
        for name, seconds in work_s(plan, scenario.dependencies).items():
            total[name] = total.get(name, 0.0) + seconds
        for call in plan:
            count[call.dependency] = count.get(call.dependency, 0) + 1
    carried = [scenario.dependencies[name].parallel * SAMPLED_RUNS / seconds for name, seconds in total.items()]
    for name, calls in count.items():
        per_min = scenario.dependencies[name].requests_per_min
        if per_min is not None:
            carried.append(per_min / 60 * SAMPLED_RUNS / calls)
    return min(carried)


class Rate:
    """Runs per second of one tenant over time, as a multiple of its mean."""

    def __init__(self, scenario: Scenario, tenant: str, bursts: Sequence[tuple[float, float]]) -> None:
        traffic = scenario.traffic
        self._changes = [one for one in traffic.changes if not one.tenants or tenant in one.tenants]
        self._parts = {name: one.part for name, one in scenario.lanes.items()}
        self._bursts = bursts
        self._times = 1.0 if traffic.bursts is None else traffic.bursts.times
        self._day, self._swing = traffic.day, traffic.swing
        self.most = self._times * (1 + self._swing) * math.prod(max(1.0, one.times) for one in self._changes)

    def lanes_at(self, now: float) -> dict[str, float]:
        """Lane → runs as a multiple of the mean of all lanes, by the changes alone."""
        found = dict(self._parts)
        for change in self._changes:
            if change.since <= now < change.until:
                for lane in found if change.lane is None else (change.lane,):
                    found[lane] *= change.times
        return found

    def at(self, now: float) -> float:
        """Of all lanes together."""
        times = math.fsum(self.lanes_at(now).values()) if self._changes else 1.0
        if any(since <= now < until for since, until in self._bursts):
            times *= self._times
        if self._day is not None:
            times *= 1 + self._swing * math.sin(2 * math.pi * now / self._day)
        return times


@dataclass(frozen=True, slots=True)
class _Moment:
    """Somebody comes."""

    at_s: float
    sizes: tuple[int, int] | None = None
    """What a trace says of it."""
    lane: str | None = None
    """What a herd says of it."""


def _arrivals(scenario: Scenario, seed: int) -> Iterator[tuple[str, list[_Moment]]]:
    mean = scenario.traffic.load * runs_per_s(scenario)
    bursts = _bursts(scenario, Random(f"{seed}/bursts"))
    herds = Random(f"{seed}/herds")
    joined: dict[str, list[_Moment]] = {tenant: [] for tenant in parts(scenario)}
    names, weights = list(joined), list(parts(scenario).values())
    for herd in scenario.traffic.herds:
        for tenant in herds.choices(names, weights, k=herd.runs):
            joined[tenant].append(_Moment(herd.at + herds.random() * herd.within, lane=herd.lane))
    for tenant, part in parts(scenario).items():
        rng, rate, now = Random(f"{seed}/arrivals/{tenant}"), Rate(scenario, tenant, bursts), 0.0
        moments = joined[tenant]
        while (now := now + rng.expovariate(mean * part * rate.most)) < scenario.seconds:
            if rng.random() * rate.most < rate.at(now):
                moments.append(_Moment(now))
        yield tenant, moments


def _bursts(scenario: Scenario, rng: Random) -> list[tuple[float, float]]:
    settings, now = scenario.traffic.bursts, 0.0
    found: list[tuple[float, float]] = []
    while settings is not None and now < scenario.seconds:
        now += rng.expovariate(1 / settings.pause)
        lasts = rng.expovariate(1 / settings.lasts)
        found.append((now, now + lasts))
        now += lasts
    return found


def _trace_arrivals(scenario: Scenario, seed: int) -> Iterator[tuple[str, list[_Moment]]]:
    mean = scenario.traffic.load * runs_per_s(scenario)
    edges = sorted({0.0, scenario.seconds, *(t for c in scenario.traffic.changes for t in (c.since, c.until))})
    edges = [edge for edge in edges if edge <= scenario.seconds]
    rate = Rate(scenario, "", ())
    phases = [Phase(f"{a:g}", b - a, max(LEAST_RATE, mean * rate.at(a))) for a, b in pairwise(edges)]
    by_tenant: dict[str, list[_Moment]] = {tenant: [] for tenant in parts(scenario)}
    names, weights = list(by_tenant), list(parts(scenario).values())
    rng = Random(f"{seed}/sessions")
    owner: dict[int, str] = {}
    for arrival in _replayed(seed, tuple(phases)):
        tenant = owner.setdefault(arrival.session, rng.choices(names, weights)[0])
        by_tenant[tenant].append(_Moment(arrival.at_s, (arrival.input_tokens, arrival.output_tokens)))
    yield from by_tenant.items()


@cache
def _requests(seed: int) -> tuple[Request, ...]:
    return tuple(load_trace(seed=seed))


@cache
def _replayed(seed: int, phases: tuple[Phase, ...]) -> tuple[Arrival, ...]:
    return tuple(replay(_requests(seed), phases, start_s=TRACE_FROM_S))


class _Drawing:
    """Draws the wishes of one tenant."""

    def __init__(self, scenario: Scenario, seed: int, tenant: str) -> None:
        self._scenario, self._tenant = scenario, tenant
        self._rng = Random(f"{seed}/wishes/{tenant}")
        self._luck = Random(f"{seed}/behaviours/{tenant}")  # its own, so that behaviours change no other draw
        self._rate = Rate(scenario, tenant, ())

    def wish(self, moment: _Moment) -> Wish:
        scenario, tenant, rng, users = self._scenario, self._tenant, self._rng, self._scenario.users
        weights = self._rate.lanes_at(moment.at_s)
        lane = rng.choices(list(weights), list(weights.values()))[0]
        lane = lane if moment.lane is None else moment.lane
        mood, stays = rng.random(), rng.random()
        deadline_s = scenario.lanes[lane].deadline
        user = f"{tenant}-{rng.randrange(scenario.tenants.users)}"
        plan = draw_plan(scenario.calls, scenario.dependencies, rng, sizes=moment.sizes)
        behaviour = drawn_behaviour(scenario.behaviours, self._luck)
        return Wish(
            number=-1,
            at_s=moment.at_s,
            tenant=tenant,
            user=user,
            lane=lane,
            deadline_s=deadline_s,
            value=0.0 if behaviour in WORTHLESS else scenario.lanes[lane].value,
            manner="polite" if mood < users.polite else "rude" if mood < users.polite + users.rude else "once",
            leaves_after_s=users.patience * deadline_s if stays < users.impatient else None,
            plan=behaved(plan, behaviour, scenario.behaviours, scenario.dependencies, self._luck),
            behaviour=behaviour,
        )

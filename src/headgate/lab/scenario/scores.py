"""What a play comes to, in the measures that goals are about."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

from headgate.lab.scenario.bound import Bound
from headgate.lab.scenario.description import Scenario
from headgate.lab.scenario.play import Fate, Played
from headgate.lab.scenario.traffic import work_s
from headgate.lab.scenario.world import Effect

RECOVERY_WINDOW_S = 10.0
RECOVERY_STEP_S = 5.0
RECOVERED = 0.9
"""Back to normal: this much of what was served in time before the trouble, in every window from then on."""
LEAST_WAIT_S = 1.0
"""Errors of ETAs are relative to what really passed, at least this."""


@dataclass(frozen=True, slots=True)
class LaneScore:
    """One lane of one play."""

    offered: int
    admitted: int
    on_time: int
    missed: int
    """Accepted, and not done in time."""
    could: float
    """Part of the offered runs that the bound finishes in time."""
    ends: Counter[str]

    @property
    def share(self) -> float:
        """On-time runs over what could have been."""
        could = self.could * self.offered
        return self.on_time / could if could else 1.0


@dataclass(frozen=True, slots=True)
class Score:
    """One play, scored."""

    lanes: dict[str, LaneScore]
    measures: dict[str, float]
    """By the names that goals use; NaN where there was nothing to measure."""


def score(played: Played, bound: Bound, *, alone: Played | None = None) -> Score:
    """Score the runs after the warm-up. ``alone``: the same seed without the noisy tenants."""
    scenario = played.scenario
    fates = [fate for fate in played.fates if fate.wish.at_s >= scenario.warm_up]
    sound = [fate for fate in fates if fate.wish.sound]
    lanes = {lane: _lane([f for f in sound if f.wish.lane == lane], bound.by_lane[lane]) for lane in scenario.lanes}
    good = {fate.wish.number for fate in sound if fate.on_time}
    scored = {fate.wish.number for fate in fates}
    effects = [effect for effect in played.effects if effect.run in scored]
    spent = sum(effect.spent_s for effect in effects)
    value = sum(fate.wish.value for fate in fates if fate.on_time)
    admitted = [fate for fate in sound if fate.admitted and not fate.went_away]
    returns = sum(fate.returns for fate in fates)
    measures = {
        "goodput": value / bound.value if bound.value else 1.0,
        "goodput-sizes-unknown": value / bound.sizes_unknown if bound.sizes_unknown else 1.0,
        "wasted-work": _part(sum(e.spent_s for e in effects if e.run not in good), spent),
        "wasted-calls": _part(sum(e.run not in good for e in effects), len(effects)),
        "accepted-late": _part(sum(fate.missed for fate in admitted), len(admitted)),
        "missed-in-line": _part(
            sum(fate.missed and fate.started_s is None for fate in admitted), sum(fate.missed for fate in admitted)
        ),
        "amplification": _amplification(sound, effects),
        "past-knee": max(played.crowded.values()),
        "recovery-s": _recovery_s(played),
        "jain": _jain(scenario, fates, played),
        "retry-after-honest": _part(sum(fate.returns_admitted for fate in fates), returns),
        "eta-start-error": _median_error(fates, lambda f: (f.promised_start_s, f.started_s)),
        "eta-error": _median_error(fates, lambda f: (f.promised_p50_s, f.finished_s if f.succeeded else None)),
        "eta-p90-covers": _covered(fates),
        "others-kept": math.nan if alone is None else _others_kept(played, alone),
        "money-wasted": _part(*_money(scenario, played, scored, good)),
    }
    measures |= {f"{lane}-on-time": one.share for lane, one in lanes.items()}
    return Score(lanes, measures)


def _lane(fates: Sequence[Fate], could: float) -> LaneScore:
    return LaneScore(
        offered=len(fates),
        admitted=sum(fate.admitted for fate in fates),
        on_time=sum(fate.on_time for fate in fates),
        missed=sum(fate.missed for fate in fates),
        could=could,
        ends=Counter(fate.reason if fate.admitted else f"refused: {fate.reason}" for fate in fates),
    )


def _amplification(sound: Sequence[Fate], effects: Sequence[Effect]) -> float:
    """Calls that dependencies saw by calls that were to be made; going round in circles is not repeating."""
    numbers = {fate.wish.number for fate in sound}
    seen = [(effect.run, effect.place) for effect in effects if effect.run in numbers]
    return _part(len(seen), len(set(seen)))


def _part(some: float, of: float) -> float:
    return some / of if of else math.nan


def _recovery_s(played: Played) -> float:
    """Seconds from the end of the trouble until users are served as before, and stay so to the end of the arrivals.

    By arrival, not by finish: a backlog of valuable runs that is worked off looks like goodput while everybody who
    comes is still refused. Infinite when it never happens, or when nobody was served before.
    """
    scenario = played.scenario
    over = scenario.recovered_from
    traffic = scenario.traffic
    begins = [one.since for one in scenario.troubles] + [one.since for one in traffic.changes]
    begins += [herd.at for herd in traffic.herds]
    if over is None or not begins:
        return math.nan
    normal = _served(played, scenario.warm_up, min(begins))
    if math.isnan(normal) or normal == 0:
        return math.inf
    back, now = over, over
    while now + RECOVERY_WINDOW_S <= scenario.seconds:
        if _served(played, now, now + RECOVERY_WINDOW_S) < RECOVERED * normal:  # not a number is no evidence
            back = now + RECOVERY_STEP_S
        now += RECOVERY_STEP_S
    return back - over if back + RECOVERY_WINDOW_S <= scenario.seconds else math.inf


def _served(played: Played, since: float, until: float) -> float:
    """Part of the value that came in between two moments and was finished in time."""
    came = [fate for fate in played.fates if since <= fate.wish.at_s < until]
    return _part(sum(f.wish.value for f in came if f.on_time), sum(f.wish.value for f in came))


def _jain(scenario: Scenario, fates: Sequence[Fate], played: Played) -> float:
    """Jain's index over the tenants of what each got by what max-min fairness would have given it of the same
    total. Cost is seconds of work by the dependency's capacity, summed over dependencies."""
    tenant_of = {fate.wish.number: fate.wish.tenant for fate in fates}
    got: dict[str, float] = defaultdict(float)
    wanted: dict[str, float] = defaultdict(float)
    for effect in played.effects:
        if effect.run in tenant_of:
            got[tenant_of[effect.run]] += effect.spent_s / scenario.dependencies[effect.dependency].parallel
    for fate in fates:
        for name, seconds in work_s(fate.wish.plan, scenario.dependencies).items():
            wanted[fate.wish.tenant] += seconds / scenario.dependencies[name].parallel
    fair = max_min(sum(got.values()), wanted)
    ratios = [got[tenant] / share for tenant, share in fair.items() if share > 0]
    squares = sum(ratio * ratio for ratio in ratios)
    return sum(ratios) ** 2 / (len(ratios) * squares) if squares else math.nan


def max_min(total: float, wanted: dict[str, float]) -> dict[str, float]:
    """``total`` shared so that nobody can get more without somebody who has less getting less."""
    shares: dict[str, float] = {}
    left, open_for = total, sorted(wanted, key=lambda name: (wanted[name], name))
    for place, name in enumerate(open_for):
        shares[name] = min(wanted[name], left / (len(open_for) - place))
        left -= shares[name]
    return shares


def _median_error(fates: Sequence[Fate], told_and_real: Callable[[Fate], tuple[float | None, float | None]]) -> float:
    errors = []
    for fate in fates:
        told, real = told_and_real(fate)
        if told is not None and real is not None and fate.admitted_s is not None:
            took = real - fate.admitted_s
            errors.append(abs(told - took) / max(took, LEAST_WAIT_S))
    return median(errors) if errors else math.nan


def _covered(fates: Sequence[Fate]) -> float:
    """Part of the runs that finished within their promised p90; one that never succeeded did not."""
    promised = [fate for fate in fates if fate.promised_p90_s is not None and fate.admitted_s is not None]
    inside = sum(
        fate.succeeded and (fate.finished_s or 0.0) - (fate.admitted_s or 0.0) <= (fate.promised_p90_s or 0.0)
        for fate in promised
    )
    return _part(inside, len(promised))


def _others_kept(played: Played, alone: Played) -> float:
    """On-time share of the tenants that stay the same, by that without the others."""
    same = {fate.wish.tenant for fate in alone.fates}
    shares = []
    for one in (played, alone):
        fates = [f for f in one.fates if f.wish.sound and f.wish.tenant in same]
        fates = [f for f in fates if f.wish.at_s >= one.scenario.warm_up]
        shares.append(_part(sum(fate.on_time for fate in fates), len(fates)))
    return shares[0] / shares[1] if shares[1] else math.nan


def _money(scenario: Scenario, played: Played, scored: set[int], good: set[int]) -> tuple[float, float]:
    """Money spent on runs that did not finish in time, and on all."""
    wasted = total = 0.0
    for effect in played.effects:
        price = scenario.dependencies[effect.dependency].price_per_1k
        if price is not None and effect.run in scored:
            total += price * effect.billed
            wasted += price * effect.billed * (effect.run not in good)
    return wasted, total

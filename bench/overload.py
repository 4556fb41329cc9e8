"""Whole scenarios on the real code in virtual time, against what perfect knowledge could have done.

    python -m bench.overload                               every shipped scenario, 10 seeds each, with its control
    python -m bench.overload --scenario surge-outage       one of them
    python -m bench.overload --seeds 3 --no-control        quicker
    python -m bench.overload --scenario steady --profile   where the time of one play goes

The control plays the same wishes with no limits; a scenario in which it reaches every goal proves nothing, which is
told. Exits non-zero when headgate misses a goal.
"""

from __future__ import annotations

import argparse
import cProfile
import math
import os
import pstats
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from statistics import mean, pstdev

from headgate.lab.scenario.bound import bound
from headgate.lab.scenario.description import Goal, Scenario, load_scenario, shipped
from headgate.lab.scenario.play import Played, play, unlimited
from headgate.lab.scenario.scores import LaneScore, Score, score

FIRST_SEED = 1


@dataclass(frozen=True)
class Result:
    """One seed of one scenario."""

    seed: int
    ours: Score
    control: Score | None
    limits: str
    calls: int
    virtual_s: float
    real_s: float


def noisy(scenario: Scenario) -> tuple[str, ...]:
    """Tenants that the scenario makes noisy."""
    return tuple(sorted({tenant for change in scenario.traffic.changes for tenant in change.tenants}))


def run(name: str, with_control: bool, seed: int) -> Result:
    scenario = load_scenario(name)
    begun = time.perf_counter()
    played = play(scenario, seed=seed)
    took = time.perf_counter() - begun
    others = noisy(scenario)
    alone = play(scenario, seed=seed, without=others) if others else None
    could = bound(scenario, [f.wish for f in played.fates if f.wish.at_s >= scenario.warm_up])
    control: Score | None = None
    if with_control:
        control = score(unlimited(scenario, seed=seed), could, alone=alone)
    ours = score(played, could, alone=alone)
    return Result(seed, ours, control, could.limits, len(played.effects), played.seconds, took)


def lane_table(scenario: Scenario, results: list[Result], pick: Callable[[Result], Score | None]) -> None:
    print(
        f"  {'lane':12} {'offered':>8} {'admitted':>9} {'on time':>8} {'could':>8} {'share':>7} {'missed':>7}  ended"
    )
    for lane in scenario.lanes:
        some: list[LaneScore] = [picked.lanes[lane] for one in results if (picked := pick(one)) is not None]
        ends: Counter[str] = sum((one.ends for one in some), Counter())
        told = ", ".join(f"{reason} {count / len(some):.0f}" for reason, count in ends.most_common(6))
        columns: Iterable[float] = (
            mean(s.offered for s in some),
            mean(s.admitted for s in some),
            mean(s.on_time for s in some),
            mean(s.could * s.offered for s in some),
        )
        offered, admitted, on_time, could = columns
        share, missed = mean(s.share for s in some), mean(s.missed for s in some)
        counts = f"{offered:8.0f} {admitted:9.0f} {on_time:8.0f} {could:8.0f} {share:7.1%} {missed:7.0f}"
        print(f"  {lane:12} {counts}  {told}")


def worst(goal: Goal, values: list[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    if not known:
        return math.nan
    if goal.of == "mean":
        return mean(known)
    return min(known) if goal.at_least is not None else max(known)


def spread(values: list[float]) -> str:
    if not values:
        return "–"
    if any(math.isinf(value) for value in values):
        return f"never in {sum(map(math.isinf, values))} of {len(values)}"
    return f"{mean(values):9.3f} ± {pstdev(values):.3f}"


def measures(results: list[Result]) -> None:
    print(f"  {'measure':22} {'headgate':>18} {'no limits':>18}")
    for name in results[0].ours.measures:
        cells = []
        for scores in ([r.ours for r in results], [r.control for r in results if r.control is not None]):
            values = [v for s in scores if not math.isnan(v := s.measures[name])]
            cells.append(spread(values))
        if any(cell != "–" for cell in cells):
            print(f"  {name:22} {cells[0]:>18} {cells[1]:>18}")


def judge(scenario: Scenario, results: list[Result]) -> bool:
    good, control_good = True, bool(results[0].control)
    for goal in scenario.goals:
        value = worst(goal, [one.ours.measures[goal.measure] for one in results])
        controls = [one.control.measures[goal.measure] for one in results if one.control is not None]
        other = worst(goal, controls)
        sign, limit = ("≥", goal.at_least) if goal.at_least is not None else ("≤", goal.at_most)
        met = goal.met(value)
        good, control_good = good and met, control_good and goal.met(other)
        verdict = "met   " if met else "MISSED"
        print(f"  {verdict}  {goal.measure} {sign} {limit:g}: {value:.3f}   (no limits: {other:.3f})")
    if control_good:
        print("  NOTE    no limits would do as well: this scenario proves nothing")
    return good


def report(name: str, results: list[Result]) -> bool:
    scenario = load_scenario(name)
    calls, real = sum(r.calls for r in results), sum(r.real_s for r in results)
    virtual = sum(r.virtual_s for r in results)
    print(f"\n{scenario.name}: {scenario.title}")
    print(
        f"  {len(results)} seeds, {calls / len(results):.0f} calls each, {virtual / real:.0f} times real time; "
        f"the bound is set by {', '.join(sorted({r.limits for r in results}))}"
    )
    lane_table(scenario, results, lambda one: one.ours)
    if results[0].control is not None:
        print("  with no limits:")
        lane_table(scenario, results, lambda one: one.control)
    measures(results)
    return judge(scenario, results)


def profile(name: str) -> None:
    profiler, played = cProfile.Profile(), list[Played]()
    profiler.runcall(lambda: played.append(play(load_scenario(name), seed=FIRST_SEED)))
    print(f"{len(played[0].effects)} calls")
    pstats.Stats(profiler).sort_stats("tottime").print_stats(45)


def main() -> int:
    parser = argparse.ArgumentParser(description="Whole scenarios against what perfect knowledge could have done.")
    parser.add_argument("--scenario", choices=list(shipped()), action="append")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--no-control", action="store_true")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="seeds played side by side")
    parser.add_argument("--profile", action="store_true")
    arguments = parser.parse_args()
    names = arguments.scenario or list(shipped())
    if arguments.profile:
        profile(names[0])
        return 0
    good = True
    seeds = range(FIRST_SEED, FIRST_SEED + arguments.seeds)
    with ProcessPoolExecutor(min(arguments.jobs, arguments.seeds)) as pool:
        for name in names:
            results = list(pool.map(partial(run, name, not arguments.no_control), seeds))
            good = report(name, results) and good
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())

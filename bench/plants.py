"""Limiters against plants with a known capacity.

python -m bench.plants                  all plants, the reported seeds
python -m bench.plants --choose         the plants and seeds on which the constants were chosen
python -m bench.plants --write          also writes docs/limiter-bench.md
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from statistics import mean, median

from headgate.lab.baselines.aimd import AimdRule
from headgate.lab.baselines.envoy import EnvoyRule
from headgate.lab.baselines.gradient2 import Gradient2Rule
from headgate.lab.baselines.sample_rule import FixedRule
from headgate.lab.baselines.vegas import VegasRule
from headgate.lab.plants.catalogue import SCENARIOS, Scenario
from headgate.lab.plants.simulate import Result, simulate
from headgate.lab.plants.traffic import sizes
from headgate.policy.concurrency.cohort import CohortLimiter
from headgate.policy.concurrency.limiter import CallLimiter
from headgate.policy.concurrency.plain import PlainLimiter, PlainRules

LEAST, MOST = 1, 64
MOST_TRIPLE = 3

Maker = Callable[[Scenario, int], CallLimiter]


def plain(scenario: Scenario, _: int) -> CallLimiter:
    """Thresholds as an operator sets them who has measured the p95 of the unloaded plant."""
    p95_s = sizes(scenario.traffic)[2]
    return PlainLimiter(LEAST, MOST, PlainRules(slow_s=1.5 * p95_s, fast_s=1.25 * p95_s))


LIMITERS: dict[str, Maker] = {
    "cohort": lambda scenario, seed: CohortLimiter(LEAST, MOST),
    "plain": plain,
    "fixed, right": lambda scenario, seed: FixedRule(scenario.right),
    "fixed, a third": lambda scenario, seed: FixedRule(max(1, round(scenario.right / 3))),
    "fixed, three times": lambda scenario, seed: FixedRule(3 * scenario.right),
    "AIMD": lambda scenario, seed: AimdRule(LEAST, MOST, scenario.timeout_s),
    "Vegas": lambda scenario, seed: VegasRule(LEAST, MOST, Random(seed)),
    "Gradient2": lambda scenario, seed: Gradient2Rule(LEAST, MOST),
    "Envoy gradient": lambda scenario, seed: EnvoyRule(LEAST, MOST),
}

CHOOSING_SEEDS = tuple(range(1, 9))
REPORTED_SEEDS = (201, 202, 203, 204)


def row(results: list[Result]) -> tuple[list[float], list[float], float, float, str]:
    """Shares and stretches per phase, share of the whole run, refusals per call, time to first cut."""
    phases = range(len(results[0].phases))
    shares = [mean(r.phases[i].share for r in results) for i in phases]
    stretches = [median(r.phases[i].stretch for r in results) for i in phases]
    cuts = [r.phases[1].first_cut_s for r in results] if len(results[0].phases) > 1 else []
    made = sorted(c for c in cuts if c is not None)
    cut = f"{median(made):.0f}" + (f" ({len(made)}/{len(cuts)})" if len(made) < len(cuts) else "") if made else "–"
    return shares, stretches, mean(r.whole_share for r in results), mean(r.refused_share for r in results), cut


def limits(results: list[Result], lasts: list[float]) -> str:
    return " ".join(
        f"{mean(r.phases[i].limit_time for r in results) / (lasts[i] * 2 / 3):.0f}" for i in range(len(lasts))
    )


def show(values: list[float], digits: int) -> str:
    return " ".join("–" if math.isnan(v) else f"{v:.{digits}f}".removeprefix("0") for v in values)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--choose", action="store_true")
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--only", default="", help="limiters to run, semicolon separated")
    parser.add_argument("--plants", default="", help="only plants whose name contains this")
    parser.add_argument("--trace", type=int, help="print every change of this seed")
    arguments = parser.parse_args()
    seeds = CHOOSING_SEEDS if arguments.choose else REPORTED_SEEDS
    makers = {name: LIMITERS[name] for name in (arguments.only.split(";") if arguments.only else LIMITERS)}
    begun = time.perf_counter()
    for scenario in SCENARIOS:
        if arguments.plants not in scenario.name or (arguments.choose and not scenario.chosen_on):
            continue
        print(f"\n{scenario.name}")
        for name, maker in makers.items():
            results = [simulate(scenario, maker(scenario, seed), seed) for seed in seeds]
            shares, stretches, whole, refused, cut = row(results)
            lasts = [phase.lasts_s for phase in scenario.phases]
            print(
                f"  {name:20} {show(shares, 2):14} | whole {whole:.2f} | stretch {show(stretches, 1):14} | "
                f"refused {refused:6.1%} | cut {cut:10} | limits {limits(results, lasts)}"
            )
            if arguments.trace:
                traced = simulate(scenario, maker(scenario, arguments.trace), arguments.trace)
                for at, change in traced.changes:
                    inputs = " ".join(f"{key}={value:.2f}" for key, value in change.inputs.items())
                    print(f"      {at:7.0f} {change.old:3} -> {change.new:3} {change.reason:14} {inputs}")
    print(f"\n{time.perf_counter() - begun:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())

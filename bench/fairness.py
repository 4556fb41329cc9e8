"""Whether a tenant with fifty times the traffic takes anything from the others. Virtual time, the real gate.

    python -m bench.fairness [--seeds 10] [--seconds 60]

20 tenants share one workflow whose runs make one call each, on a fleet of 16 slots. Two worlds:

* **promises**: 19 tenants ask for 3/4 of their share each; the 20th asks for as much, or for 50 times as much. Of the
  runs of the 19, how many end within their deadline, in relation to the world in which the 20th is like them?
* **shares**: all ask for more than their share, the 20th for 50 times as much. Jain's index over the seconds of calls
  that each tenant got (1: all the same; 1/20: one has everything).

Each once with runs that take what they are estimated at, and once with estimates that are wrong by x0.3 to x3: the
runs of a tenant take a factor of its own as long as those of the workflow. The control is the same gate told that all
runs are one tenant's, which is first come, first served. It must miss both goals. Exits non-zero otherwise.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import math
import tempfile
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path
from random import Random
from statistics import fmean
from typing import Any

from headgate.config.settings import GateSettings
from headgate.errors import Rejected
from headgate.gate import Gate
from headgate.lab.virtual_time import LoopClock, run_virtual
from headgate.runs.context import Run

KEPT_GOAL = 0.98
JAIN_GOAL = 0.95
TENANTS = 20
NOISY = "t0"
SLOTS = 16
CALL_S = 2.0
DEADLINE_S = 15.0
WARM_UP_S = 15.0
FAIR_RATE = SLOTS / CALL_S / TENANTS
"""Runs per second that every tenant's share carries, if they take what they are estimated at."""


@dataclass(frozen=True)
class World:
    """One run of the fleet."""

    load: float
    """What each of the 19 asks for, in shares."""
    noise: float
    """How many times as much the 20th asks for."""
    wrong: bool
    fair: bool
    seed: int
    seconds: float


@dataclass
class Result:
    """What became of it, by tenant, after the warm-up."""

    asked: Counter[str]
    on_time: Counter[str]
    served_s: defaultdict[str, float]

    @property
    def promise(self) -> float:
        """The share of the runs of the 19 that ended in time."""
        others = [tenant for tenant in self.asked if tenant != NOISY]
        return sum(self.on_time[tenant] for tenant in others) / sum(self.asked[tenant] for tenant in others)

    @property
    def jain(self) -> float:
        """Over the seconds of calls that each tenant got."""
        got = [self.served_s[tenant] for tenant in self.asked]
        return sum(got) ** 2 / (len(got) * sum(value * value for value in got))


def factors(world: World) -> dict[str, float]:
    """How long the runs of each tenant take, in relation to the estimate; the mean work stays the same."""
    rng = Random(f"{world.seed}/factors")
    spread = {
        f"t{index}": math.exp(rng.uniform(math.log(0.3), math.log(3.0))) if world.wrong else 1.0
        for index in range(TENANTS)
    }
    return {tenant: min(3.0, max(0.3, factor)) for tenant, factor in spread.items()}


async def play(world: World, clock: LoopClock, folder: Path) -> Result:
    settings = GateSettings.model_validate(
        {
            "store": f"sqlite:///{folder}/runs.db?synchronous=off",
            "workers": {"slots": SLOTS, "poll": 1.0},
            "tools": {"service": {"concurrency": SLOTS, "timeout": 60.0}},
            "workflows": {"job": {"queue": {"depth": 20_000, "max_age": DEADLINE_S}, "cost": CALL_S}},
        }
    )
    gate = Gate(settings, clock=clock, rng=Random(world.seed), store_mode="inline")
    result = Result(Counter(), Counter(), defaultdict(float))
    takes = factors(world)
    begun = clock.monotonic()

    def counts(moment: float) -> bool:
        return begun + WARM_UP_S <= moment <= begun + world.seconds - DEADLINE_S

    async def serve(tenant: str, seconds: float) -> None:
        began = clock.monotonic()
        try:
            await asyncio.sleep(seconds)
        finally:
            if began - begun >= WARM_UP_S:
                result.served_s[tenant] += clock.monotonic() - began

    @gate.workflow("job")
    async def job(run: Run, plan: Any) -> None:
        await run.call("service", serve, plan["tenant"], plan["seconds"])
        if counts(plan["at"]) and clock.monotonic() - plan["at"] <= DEADLINE_S:
            result.on_time[plan["tenant"]] += 1

    async def traffic(tenant: str) -> None:
        rng = Random(f"{world.seed}/{tenant}")
        # a tenant's share is of seconds: whose runs take longer asks for fewer
        rate = FAIR_RATE * world.load / takes[tenant] * (world.noise if tenant == NOISY else 1.0)
        for number in itertools.count():
            await asyncio.sleep(rng.expovariate(rate))
            at = clock.monotonic()
            plan = {
                "n": number,
                "tenant": tenant,
                "at": at,
                "seconds": CALL_S * takes[tenant] * rng.uniform(0.7, 1.3),
            }
            if counts(at):
                result.asked[tenant] += 1
            try:
                await gate.submit("job", plan, tenant=tenant if world.fair else "all", deadline_s=DEADLINE_S)
            except Rejected:
                continue

    async with gate:
        sources = [asyncio.create_task(traffic(tenant)) for tenant in takes]
        await asyncio.sleep(world.seconds)
        for source in sources:
            source.cancel()
        await asyncio.gather(*sources, return_exceptions=True)
    return result


def of(world: World) -> Result:
    with tempfile.TemporaryDirectory() as folder:
        return run_virtual(lambda clock: play(world, clock, Path(folder)))


def measure(seeds: int, seconds: float, *, wrong: bool, fair: bool) -> tuple[float, float, float]:
    """(worst part of the promises kept, its mean, worst Jain's index) over the seeds."""
    kept, jain = [], []
    for seed in range(seeds):
        quiet = of(World(0.75, 1.0, wrong, fair, seed, seconds)).promise
        kept.append(of(World(0.75, 50.0, wrong, fair, seed, seconds)).promise / quiet)
        jain.append(of(World(1.5, 50.0, wrong, fair, seed, seconds)).jain)
    return min(kept), fmean(kept), min(jain)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=60.0)
    options = parser.parse_args()
    print(f"{'':<34}{'kept, worst':>12}{'mean':>8}{'Jain, worst':>13}")
    met = True
    for fair, wrong in ((True, False), (True, True), (False, False)):
        worst, mean, jain = measure(options.seeds, options.seconds, wrong=wrong, fair=fair)
        name = ("fair" if fair else "first come, first served") + (", wrong x0.3-x3" if wrong else "")
        print(f"{name:<34}{worst:>12.3f}{mean:>8.3f}{jain:>13.3f}", flush=True)
        if fair:
            met &= mean >= KEPT_GOAL and jain >= JAIN_GOAL
        else:
            met &= mean < KEPT_GOAL and jain < JAIN_GOAL
    print(
        f"goals: kept >= {KEPT_GOAL:g} (mean of the seeds), Jain >= {JAIN_GOAL:g}, the control misses both: ", end=""
    )
    print("met" if met else "MISSED")
    raise SystemExit(0 if met else 1)


if __name__ == "__main__":
    main()

"""What several runs of one limiter on one plant come to."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean, median

from headgate.lab.plants.simulate import Result


@dataclass(frozen=True, slots=True)
class Score:
    """Means over the runs; per phase where a list."""

    shares: tuple[float, ...]
    """Part of the usable capacity that became finished work, after the first third of each phase."""
    whole_share: float
    """The same over the whole run, from the first call on."""
    stretches: tuple[float, ...]
    """Median latency by what the call takes alone; NaN where nothing ended."""
    refused: float
    """Refusals per call."""
    first_cuts_s: tuple[float | None, ...]
    """For each run, from the beginning of the second phase to the first fall of the limit; None: it never fell."""
    told_slow: float
    """Part of the runs that reported ``provider_slow`` in the second phase."""

    @property
    def share(self) -> float:
        return mean(share for share in self.shares if not math.isnan(share))

    @property
    def worst_stretch(self) -> float:
        known = [stretch for stretch in self.stretches if not math.isnan(stretch)]
        return max(known) if known else math.nan


def score(results: Sequence[Result]) -> Score:
    """``results`` are runs of the same limiter on the same plant with different seeds."""
    phases = range(len(results[0].phases))
    told = 0
    for result in results:
        begins = result.begins[1:3] if len(result.begins) > 1 else []
        told += any(
            change.reason == "provider_slow" and begins and begins[0] <= at < begins[-1]
            for at, change in result.changes
        )
    stretches = []
    for i in phases:
        known = [r.phases[i].stretch for r in results if not math.isnan(r.phases[i].stretch)]
        stretches.append(median(known) if known else math.nan)
    return Score(
        shares=tuple(mean(r.phases[i].share for r in results) for i in phases),
        whole_share=mean(r.whole_share for r in results),
        stretches=tuple(stretches),
        refused=mean(r.refused_share for r in results),
        first_cuts_s=tuple(r.phases[1].first_cut_s for r in results) if len(results[0].phases) > 1 else (),
        told_slow=told / len(results),
    )

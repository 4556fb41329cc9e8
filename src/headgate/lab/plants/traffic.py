"""The calls: how much work each is, what is known of it beforehand, and when it comes."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from random import Random


@dataclass(frozen=True, slots=True)
class Traffic:
    """Sizes are lognormal around ``median_s`` with ``sigma``, or Pareto with exponent ``pareto``."""

    median_s: float = 10.0
    sigma: float = 0.8
    pareto: float | None = None
    most_s: float = 120.0
    """No call is more work than this."""
    error: float | None = 0.4
    """Sigma of the log error of the predicted size; None: nothing is predicted."""
    bias: float = 1.0
    """Predictions are this many times the truth."""
    bias_later: float | None = None
    """The same from the second phase on, where it differs."""
    per_s: float | None = None
    """Calls that arrive per second (Poisson); None: there is always more work."""

    def work_s(self, rng: Random) -> float:
        if self.pareto is not None:
            least = self.median_s / math.pow(2.0, 1 / self.pareto)
            return min(self.most_s, least * rng.paretovariate(self.pareto))
        return min(self.most_s, self.median_s * math.exp(rng.gauss(0.0, self.sigma)))

    def predicted(self, work_s: float, phase: int, rng: Random) -> float | None:
        if self.error is None:
            return None
        bias = self.bias if phase == 0 or self.bias_later is None else self.bias_later
        return work_s * bias * math.exp(rng.gauss(0.0, self.error))

    def arrivals(self, rng: Random) -> Iterator[float]:
        """Seconds at which calls come."""
        at = 0.0
        while self.per_s is not None:
            at += rng.expovariate(self.per_s)
            yield at


@lru_cache
def sizes(traffic: Traffic) -> tuple[float, float, float]:
    """Mean, median and 95th percentile of the work of one call, from a large fixed sample."""
    rng = Random(7)
    sample = sorted(traffic.work_s(rng) for _ in range(40_000))
    return sum(sample) / len(sample), sample[20_000], sample[38_000]

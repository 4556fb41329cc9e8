"""Delay-based TCP Vegas, as Netflix concurrency-limits has it (``VegasLimit``).

The queue is estimated as L · (1 − fastest / latency). With k = max(1, log10 L): a queue up to k adds 6k, below 3k
adds k, above 6k takes k, a dropped sample takes k. The fastest latency is forgotten every 30 · L samples or so and
replaced by whatever comes next.
"""

from __future__ import annotations

import math
from random import Random

from headgate.lab.baselines.sample_rule import SampleRule


class VegasRule(SampleRule):
    """Start 20. ``rng`` spreads the moments at which the fastest latency is forgotten."""

    def __init__(self, least: int, most: int, rng: Random) -> None:
        super().__init__(least, most, 20.0)
        self._rng = rng
        self._fastest_s = math.inf
        self._samples = 0
        self._spread = rng.uniform(0.5, 1.0)

    def sample(self, latency_s: float, inflight: int, dropped: bool, now: float) -> float:
        self._samples += 1
        if self._samples > 30 * self.level * self._spread:
            self._samples, self._spread, self._fastest_s = 0, self._rng.uniform(0.5, 1.0), latency_s
            return self.level
        if not dropped and latency_s < self._fastest_s:
            self._fastest_s = latency_s
            return self.level
        step = max(1, int(math.log10(self.level)))
        if dropped:
            return self.level - step
        if inflight * 2 < self.level:
            return self.level
        queue = math.ceil(self.level * (1 - self._fastest_s / latency_s))
        if queue <= step:
            return self.level + 6 * step
        if queue < 3 * step:
            return self.level + step
        return self.level - step if queue > 6 * step else self.level

"""Additive increase, multiplicative decrease, as Netflix concurrency-limits has it (``AIMDLimit``).

Each dropped sample, or one slower than ``timeout_s``, multiplies the limit by 0.9; each other one adds 1 while at
least half of the limit is in use. Kinder than published: floor 1 instead of 20, and the resource's own timeout
instead of 5 s (with 5 s, calls of 10 s would all be drops).
"""

from __future__ import annotations

import math

from headgate.lab.baselines.sample_rule import SampleRule


class AimdRule(SampleRule):
    """Start 20."""

    def __init__(self, least: int, most: int, timeout_s: float) -> None:
        super().__init__(least, most, 20.0)
        self._timeout_s = timeout_s

    def sample(self, latency_s: float, inflight: int, dropped: bool, now: float) -> float:
        if dropped or latency_s >= self._timeout_s:
            return math.floor(self.level * 0.9)
        return self.level + 1 if inflight * 2 >= self.level else self.level

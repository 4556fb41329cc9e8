"""Short against long latency, as Netflix concurrency-limits has it (``Gradient2Limit``).

The long latency is a mean over about 600 samples, brought down by 5 % whenever it is more than twice the short one;
gradient = 1.5 · long / short within 0.5..1; the limit moves a fifth of the way to gradient · L + 4. It ignores drops
and does nothing while less than half of the limit is in use. Kinder than published: floor 1 instead of 20, and each
sample counts (the published window of a second with at least ten samples drops nearly all of them at our rates).
"""

from __future__ import annotations

from headgate.lab.baselines.sample_rule import SampleRule

WARM_UP = 10
LONG = 600


class Gradient2Rule(SampleRule):
    """Start 20."""

    def __init__(self, least: int, most: int) -> None:
        super().__init__(least, most, 20.0)
        self._long_s = 0.0
        self._samples = 0

    def sample(self, latency_s: float, inflight: int, dropped: bool, now: float) -> float:
        if dropped:
            return self.level
        self._samples += 1
        if self._samples <= WARM_UP:
            self._long_s += (latency_s - self._long_s) / self._samples
        else:
            self._long_s += (latency_s - self._long_s) * 2 / (LONG + 1)
        if self._long_s > 2 * latency_s:
            self._long_s *= 0.95
        if inflight * 2 < self.level:
            return self.level
        gradient = min(1.0, max(0.5, 1.5 * self._long_s / latency_s))
        return 0.8 * self.level + 0.2 * (gradient * self.level + 4)

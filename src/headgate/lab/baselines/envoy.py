"""The gradient controller of Envoy's adaptive concurrency filter.

Now and then the limit is pinned to 3 until 50 calls have shown the fastest latency there is (their median). In
between, once per window: gradient = 1.25 · fastest / median within 0.5..2, next limit = gradient · L + sqrt(gradient
· L). Calls that were sent before a measurement began are not part of it; five windows in a row at the floor measure
again early. Envoy's times (a window of 100 ms, a measurement every 30 s) are meant for milliseconds: here a window
is at least 25 calls, and a measurement comes every 600 calls. As published it would measure all the time.
"""

from __future__ import annotations

import math
from statistics import median

from headgate.lab.baselines.sample_rule import SampleRule
from headgate.model.outcome import Outcome
from headgate.policy.concurrency.protocol import Change, Stamp

PINNED = 3
MEASURE_CALLS = 50
WINDOW_CALLS = 25
EVERY_CALLS = 600


class EnvoyRule(SampleRule):
    """Starts with a measurement."""

    def __init__(self, least: int, most: int) -> None:
        super().__init__(least, most, PINNED)
        self._epoch = 0
        self._fastest_s: float | None = None
        """None while it is being measured."""
        self._before = float(PINNED)
        self._latencies: list[float] = []
        self._since = 0
        self._at_floor = 0

    def begin(self, *, inflight: int, size: float | None, now: float) -> Stamp:
        stamp = super().begin(inflight=inflight, size=size, now=now)
        stamp.generation = self._epoch
        return stamp

    def end(self, stamp: Stamp, outcome: Outcome, *, inflight: int, now: float) -> Change | None:
        if outcome is not Outcome.OK or stamp.generation != self._epoch:
            return None
        return super().end(stamp, outcome, inflight=inflight, now=now)

    def sample(self, latency_s: float, inflight: int, dropped: bool, now: float) -> float:
        self._latencies.append(latency_s)
        if self._fastest_s is None:
            if len(self._latencies) < MEASURE_CALLS:
                return self.level
            self._fastest_s, self._latencies, self._since = median(self._latencies), [], 0
            return self._before
        self._since += 1
        if len(self._latencies) < WINDOW_CALLS:
            return self.level
        gradient = min(2.0, max(0.5, 1.25 * self._fastest_s / median(self._latencies)))
        self._latencies = []
        level = gradient * self.level + math.sqrt(gradient * self.level)
        self._at_floor = self._at_floor + 1 if level <= PINNED else 0
        if self._since < EVERY_CALLS and self._at_floor < 5:
            return max(float(PINNED), level)
        self._before, self._fastest_s, self._at_floor = max(float(PINNED), level), None, 0
        self._epoch += 1
        return float(PINNED)

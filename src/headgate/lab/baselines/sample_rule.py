"""What the published rules have in common: they see one latency sample after the other, or that it was dropped."""

from __future__ import annotations

from headgate.model.outcome import Outcome
from headgate.policy.concurrency.protocol import Change, Stamp

DROPPED = frozenset({Outcome.TIMEOUT, Outcome.OVERLOADED})


class SampleRule:
    """A real-valued limit moved by `sample`, for every call that was answered well or dropped."""

    def __init__(self, least: int, most: int, start: float) -> None:
        self.least, self.most = least, most
        self.level = min(float(most), max(float(least), start))

    @property
    def limit(self) -> int:
        return max(1, int(self.level))

    def begin(self, *, inflight: int, size: float | None, now: float) -> Stamp:
        return Stamp(0, now, 1.0, inflight, inflight >= self.limit)

    def end(self, stamp: Stamp, outcome: Outcome, *, inflight: int, now: float) -> Change | None:
        dropped = outcome in DROPPED
        if not dropped and outcome is not Outcome.OK:
            return None
        old = self.limit
        level = self.sample(now - stamp.begun_at, inflight, dropped, now)
        self.level = min(float(self.most), max(float(self.least), level))
        return None if self.limit == old else Change(old, self.limit, "overload" if self.limit < old else "growth")

    def tick(self, *, now: float) -> Change | None:
        return None

    def sample(self, latency_s: float, inflight: int, dropped: bool, now: float) -> float:
        """The next level."""
        return self.level


class FixedRule(SampleRule):
    """The number that somebody wrote into a config."""

    def __init__(self, limit: int) -> None:
        super().__init__(limit, limit, float(limit))

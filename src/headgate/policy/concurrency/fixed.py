"""A fixed concurrency limit. It only moves after an outage: it restarts at a quarter and climbs back.

The climb adds one for every success, so the limit doubles with each round of calls.
"""

from __future__ import annotations

from headgate.model.outcome import Outcome
from headgate.policy.concurrency.protocol import Change, Stamp


class FixedLimiter:
    """``limit`` calls at once. All its calls between two restarts share one stamp."""

    __slots__ = ("_full", "_stamp", "limit")

    def __init__(self, limit: int) -> None:
        if limit < 1:
            raise ValueError(f"a limit must be at least 1, got {limit!r}")
        self._full = limit
        self._stamp = Stamp(0, 0.0, 1.0, 1, False)
        self.limit = limit

    def begin(self, *, inflight: int, size: float | None, now: float) -> Stamp:
        return self._stamp

    def end(self, stamp: Stamp, outcome: Outcome, *, inflight: int, now: float) -> Change | None:
        if self.limit >= self._full or stamp is not self._stamp or outcome is not Outcome.OK:
            return None
        return self._move(self.limit + 1, "growth")

    def tick(self, *, now: float) -> Change | None:
        return None

    def restart(self, *, good: int, now: float) -> Change | None:
        self._stamp = Stamp(self._stamp.generation + 1, now, 1.0, 1, False)
        return self._move(max(1, self._full // 4), "restart")

    def press(self, pressure: float, *, now: float) -> Change | None:
        return None

    def _move(self, limit: int, reason: str) -> Change | None:
        if limit == self.limit:
            return None
        old, self.limit = self.limit, limit
        return Change(old, limit, reason, {"full": float(self._full)})

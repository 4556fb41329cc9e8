"""A fixed concurrency limit. It only moves after an outage: it restarts at a quarter and climbs back.

The climb adds one for every success, so the limit doubles with each round of calls.
"""

from __future__ import annotations

from headgate.policy.concurrency.protocol import Change


class FixedLimiter:
    """``limit`` calls at once."""

    __slots__ = ("_full", "generation", "limit")

    def __init__(self, limit: int) -> None:
        if limit < 1:
            raise ValueError(f"a limit must be at least 1, got {limit!r}")
        self._full = limit
        self.limit = limit
        self.generation = 0

    def on_success(self, *, generation: int, ran_s: float, bound: bool, now: float) -> Change | None:
        if self.limit >= self._full or generation != self.generation:
            return None
        return self._move(self.limit + 1, "growth")

    def on_failure(self, *, generation: int, now: float) -> Change | None:
        return None

    def on_overload(self, *, generation: int, inflight: int, now: float) -> Change | None:
        return None

    def on_timeout(self, *, generation: int, inflight: int, now: float) -> Change | None:
        return None

    def on_restart(self, *, now: float) -> Change | None:
        self.generation += 1
        return self._move(max(1, self._full // 4), "restart")

    def _move(self, limit: int, reason: str) -> Change | None:
        if limit == self.limit:
            return None
        old, self.limit = self.limit, limit
        return Change(old, limit, reason, {"full": float(self._full)})

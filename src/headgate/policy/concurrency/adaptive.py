"""A simple adaptive limit between ``least`` and ``most``: cut at once when told, grow with care.

Decides: the number of calls in flight. Sources: TCP's once-per-round multiplicative cut (missing in per-sample
AIMD), the generation check of Envoy and sia, slow start until the first cut.

Rule:

* overload answer or timeout of a call of the present generation: ×0.7, then no further cut for 2 s;
* a window of calls (as many as the limit, at least 4) ended, the limit held work back and fewer than 5 % of them
  failed: ×1.5 until the first cut ever, +1 afterwards;
* with ``latency_high_s``: a window whose p95 is above it: minus max(2, 10 %), then the same pause.

Known failure: a dependency that slows down without refusing or timing out is not noticed unless ``latency_high_s``
is given, and a slowdown that is not ours is cut for all the same.
"""

from __future__ import annotations

import math

from headgate.policy.concurrency.protocol import Change

CUT = 0.7
HOLD_S = 2.0
GROWTH = 1.5
START = 4
ERRORS_LOW = 0.05
WINDOW_LEAST = 4
WINDOW_MOST = 256
"""Bounds the latencies that are kept."""


class AdaptiveLimiter:
    """The state: a real-valued limit, the generation, and the window under way."""

    __slots__ = (
        "_bad",
        "_bound",
        "_ended",
        "_high_s",
        "_hold_until",
        "_latencies",
        "_least",
        "_level",
        "_most",
        "_ramp_to",
        "generation",
        "limit",
    )

    def __init__(self, least: int, most: int, *, latency_high_s: float | None = None) -> None:
        if not 1 <= least <= most:
            raise ValueError(f"an adaptive limit needs 1 <= least <= most, got {least!r}..{most!r}")
        self._least = least
        self._most = most
        self._high_s = latency_high_s
        self._level = float(min(most, max(least, START)))
        self._hold_until = -math.inf
        self._ramp_to = math.inf
        """Growth is fast below this; infinite until the first cut."""
        self.limit = int(self._level)
        self.generation = 0
        self._begin_window()

    def on_success(self, *, generation: int, ran_s: float, bound: bool, now: float) -> Change | None:
        if generation != self.generation:
            return None
        if bound:
            self._bound = True
        if self._high_s is not None and len(self._latencies) < WINDOW_MOST:
            self._latencies.append(ran_s)
        self._ended += 1
        return self._close_window(now) if self._ended >= self._window else None

    def on_failure(self, *, generation: int, now: float) -> Change | None:
        if generation != self.generation:
            return None
        self._bad += 1
        self._ended += 1
        return self._close_window(now) if self._ended >= self._window else None

    def on_overload(self, *, generation: int, inflight: int, now: float) -> Change | None:
        return self._cut("overload", generation, inflight, now)

    def on_timeout(self, *, generation: int, inflight: int, now: float) -> Change | None:
        return self._cut("timeout", generation, inflight, now)

    def on_restart(self, *, now: float) -> Change | None:
        self._ramp_to = self._level
        return self._move(self._level / 4, "restart", now, cut=True)

    @property
    def _window(self) -> int:
        return min(WINDOW_MOST, max(WINDOW_LEAST, self.limit))

    def _cut(self, reason: str, generation: int, inflight: int, now: float) -> Change | None:
        if generation != self.generation:
            return None
        self._bad += 1
        self._ended += 1
        if now < self._hold_until:
            return None
        self._ramp_to = self._level * CUT
        return self._move(self._ramp_to, reason, now, cut=True, inflight=float(inflight))

    def _close_window(self, now: float) -> Change | None:
        bad = self._bad / self._ended
        bound, latencies = self._bound, sorted(self._latencies)
        self._begin_window()
        p95 = latencies[math.ceil(0.95 * len(latencies)) - 1] if latencies else 0.0
        if now < self._hold_until:
            return None
        if self._high_s is not None and p95 > self._high_s:
            step = max(2.0, 0.1 * self._level)
            self._ramp_to = self._level - step
            return self._move(self._ramp_to, "latency", now, cut=True, p95_s=p95, high_s=self._high_s)
        if not bound or bad >= ERRORS_LOW:
            return None
        level = self._level * GROWTH if self._level < self._ramp_to else self._level + 1
        if self._level < self._ramp_to < level:
            level = self._ramp_to
        return self._move(level, "growth", now, cut=False, error_rate=bad)

    def _move(self, level: float, reason: str, now: float, *, cut: bool, **inputs: float) -> Change | None:
        if cut:
            self.generation += 1
            self._hold_until = now + HOLD_S
            self._begin_window()
        self._level = min(float(self._most), max(float(self._least), level))
        old, self.limit = self.limit, int(self._level + 1e-9)
        return None if old == self.limit else Change(old, self.limit, reason, inputs)

    def _begin_window(self) -> None:
        self._ended = 0
        self._bad = 0
        self._bound = False
        self._latencies: list[float] = []

"""The rule that an operator can explain: errors halve, slowness takes two, calm adds one.

Decides: the number of calls in flight, once per window of calls (as many as the limit, at least ``calls``):

* more than ``errors_high`` of them failed, timed out or were refused: half;
* otherwise their p95 latency was above ``slow_s``: minus two;
* otherwise p95 below ``fast_s``, errors below ``errors_low``, and the limit held work back: plus one.

Inputs: latency as it is, in seconds. Calls that began before the last change count for nothing, so that a change is
judged by what came of it. Trade-off: the two thresholds must be known, and fit one mix of sizes. Known failures: it
needs a window of calls to notice anything, a silent stall least of all; it cuts to the floor when errors or slowness
are not the caller's doing; it finds a hard cap only by losing a tenth of its calls to it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from headgate.model.outcome import Outcome
from headgate.policy.concurrency.protocol import Change, Stamp

BAD = frozenset({Outcome.FAILED, Outcome.TIMEOUT, Outcome.OVERLOADED})


@dataclass(frozen=True, slots=True)
class PlainRules:
    """The thresholds. ``fast_s`` is at most ``slow_s``."""

    slow_s: float
    """p95 above which the limit falls by two."""
    fast_s: float
    """p95 below which it may rise by one."""
    errors_high: float = 0.10
    errors_low: float = 0.02
    calls: int = 20
    """The smallest window."""

    def __post_init__(self) -> None:
        if not (0 < self.fast_s <= self.slow_s and 0 < self.errors_low <= self.errors_high <= 1 <= self.calls):
            raise ValueError(f"not a possible rule: {self!r}")


class PlainLimiter:
    """The state: the limit, and the window under way."""

    def __init__(self, least: int, most: int, rules: PlainRules) -> None:
        if not 1 <= least <= most:
            raise ValueError(f"a limit needs 1 <= least <= most, got {least!r}..{most!r}")
        self._least, self._most, self._rules = least, most, rules
        self.limit = min(most, max(least, 8))
        self.generation = 0
        self._ended = self._bad = 0
        self._bound = False
        """Whether the limit held work back during the window."""
        self._latencies: list[float] = []

    def begin(self, *, inflight: int, size: float | None, now: float) -> Stamp:
        return Stamp(self.generation, now, 1.0, inflight, inflight >= self.limit)

    def end(self, stamp: Stamp, outcome: Outcome, *, inflight: int, now: float) -> Change | None:
        if stamp.generation != self.generation:
            return None
        if outcome in BAD:
            self._bad += 1
        elif outcome is not Outcome.OK:
            return None
        if outcome in (Outcome.OK, Outcome.TIMEOUT):
            self._latencies.append(now - stamp.begun_at)
        self._bound = self._bound or stamp.bound
        self._ended += 1
        return self._close() if self._ended >= max(self._rules.calls, self.limit) else None

    def tick(self, *, now: float) -> Change | None:
        return None

    def restart(self, *, good: int, now: float) -> Change | None:
        """The breaker closed again: a quarter of what went well, and up again by ones."""
        self._begin_window()
        return self._move(good // 4, "restart", {"good": float(good)})

    def press(self, pressure: float, *, now: float) -> Change | None:
        return None

    def _close(self) -> Change | None:
        rules, errors, bound, latencies = self._rules, self._bad / self._ended, self._bound, sorted(self._latencies)
        p95 = latencies[math.ceil(0.95 * len(latencies)) - 1] if latencies else 0.0
        self._begin_window()
        if errors > rules.errors_high:
            limit, reason = self.limit // 2, "errors"
        elif p95 > rules.slow_s:
            limit, reason = self.limit - 2, "latency"
        elif bound and latencies and p95 < rules.fast_s and errors < rules.errors_low:
            limit, reason = self.limit + 1, "growth"
        else:
            return None
        return self._move(limit, reason, {"error_rate": errors, "p95_s": p95})

    def _move(self, limit: int, reason: str, inputs: dict[str, float]) -> Change | None:
        old, self.limit = self.limit, min(self._most, max(self._least, limit))
        if old == self.limit:
            return None
        self.generation += 1
        return Change(old, self.limit, reason, inputs)

    def _begin_window(self) -> None:
        self._ended = self._bad = 0
        self._bound = False
        self._latencies = []

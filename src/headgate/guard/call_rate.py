"""The rate of calls over a window on one resource. Called under the resource's lock."""

from __future__ import annotations

from headgate.config.units import Rate
from headgate.policy.token_bucket import RateTake, take


class CallRate:
    """At most so many calls per window, smoothly."""

    __slots__ = ("_after_ms", "_arrival_ms", "_interval_ms", "_one")

    def __init__(self, name: str, rate: Rate) -> None:
        self._one = RateTake(name, f"resource:{name}", rate.amount, rate.window_s * 1000, unit="calls")
        self._interval_ms = self._one.window_ms / self._one.per_window
        self._arrival_ms: float | None = None
        self._after_ms: float | None = None

    def wait_s(self, now: float) -> float:
        """Seconds until one more call may start; 0 is now, and `take` makes it so."""
        now_ms = now * 1000
        arrival_ms = self._arrival_ms
        if (arrival_ms is None or arrival_ms <= now_ms) and self._one.per_window >= 1:
            # a rested bucket, the usual case: no need to ask the policy
            self._after_ms = now_ms + self._interval_ms
            return 0.0
        taken = take(arrival_ms, self._one, now_ms=now_ms)
        self._after_ms = taken.arrival_ms
        return taken.wait_ms / 1000

    def take(self) -> None:
        """Count the call that `wait_s` was asked for; one without room (shadow mode) is not counted."""
        self._arrival_ms = self._after_ms

    def wait_behind_s(self, now: float, ahead: int) -> float:
        """Seconds until one more call may start behind ``ahead`` others."""
        rested = self._arrival_ms is None or self._arrival_ms <= now * 1000
        if rested and ahead + 1 <= self._one.per_window:
            return 0.0
        taken = take(self._arrival_ms, self._one, now_ms=now * 1000)
        short = ahead - taken.remaining if taken.granted else ahead
        return max(0.0, taken.wait_ms + short * self._one.window_ms / self._one.per_window) / 1000

    def remaining(self, now: float) -> float:
        """Calls that could still start now."""
        return max(0.0, take(self._arrival_ms, self._one, now_ms=now * 1000, amount=0.0).remaining)

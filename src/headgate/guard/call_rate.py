"""The rate of calls over a window on one resource. Called under the resource's lock."""

from __future__ import annotations

from headgate.config.units import Rate
from headgate.policy.token_bucket import RateTake, take


class CallRate:
    """At most so many calls per window, smoothly."""

    __slots__ = ("_arrival_ms", "_one", "_wish")

    def __init__(self, name: str, rate: Rate) -> None:
        self._wish = (name, f"resource:{name}", rate.amount, rate.window_s * 1000)
        self._one = RateTake(*self._wish, unit="calls")
        self._arrival_ms: float | None = None

    def wait_s(self, now: float, ahead: int = 0) -> float:
        """Seconds until one more call may start behind ``ahead`` others; 0 is now."""
        wish = RateTake(*self._wish, 1.0 + ahead, unit="calls") if ahead else self._one
        return take(self._arrival_ms, wish, now_ms=now * 1000).wait_ms / 1000

    def take(self, now: float) -> None:
        """Count a call that starts now; without room (shadow mode) it is not counted."""
        self._arrival_ms = take(self._arrival_ms, self._one, now_ms=now * 1000).arrival_ms

    def remaining(self, now: float) -> float:
        """Calls that could still start now."""
        nothing = RateTake(*self._wish, 0.0, unit="calls")
        return max(0.0, take(self._arrival_ms, nothing, now_ms=now * 1000).remaining)

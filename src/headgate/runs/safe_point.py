"""How far an attempt is from its next safe point: between two steps, where it can stop and lose nothing."""

from __future__ import annotations

from collections import deque

from headgate.clock import Clock
from headgate.policy.preemption import CallTimes

CALLS_KEPT = 16


class SafePoint:
    """What is known of it. One per attempt."""

    __slots__ = ("_call_at", "_clock", "_since", "asked", "calls_s", "once")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._since = self._call_at = clock.monotonic()
        self.calls_s: deque[float] = deque(maxlen=CALLS_KEPT)
        """How long its latest calls took, with their waiting for a slot."""
        self.once = 0
        """Calls under way whose effect must not be repeated."""
        self.asked: float | None = None
        """Monotonic moment at which the attempt was last asked to make room, whether or not it did."""

    def passed(self, *, step: bool = True) -> None:
        """It is there: the workflow begins, or (``step``) a call was remembered."""
        self._since = self._clock.monotonic()
        if step:
            self.calls_s.append(self._since - self._call_at)

    def call_begins(self) -> None:
        """It will be at the end of this call at the earliest."""
        self._call_at = self._clock.monotonic()

    def cost_s(self, times: CallTimes, *, calling: bool) -> tuple[float, float]:
        """What stopping there would cost from now: seconds of work outside of calls that are done again, and seconds
        until then, as far as calls like those in ``times`` tell."""
        now = self._clock.monotonic()
        if not calling:
            return now - self._since, now - self._since
        return max(0.0, self._call_at - self._since), times.left_s(now - self._call_at)

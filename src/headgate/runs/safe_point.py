"""How far an attempt is from its next safe point: between two steps, where it can stop and lose nothing."""

from __future__ import annotations

from headgate.clock import Clock


class SafePoint:
    """What is known of it. One per attempt."""

    __slots__ = ("_call_at", "_clock", "_done", "_since", "asked", "once")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._since = self._call_at = clock.monotonic()
        self._done = 0
        self.once = 0
        """Calls under way whose effect must not be repeated."""
        self.asked: float | None = None
        """Monotonic moment at which the attempt was last asked to make room, whether or not it did."""

    def passed(self, *, step: bool = True) -> None:
        """It is there: the workflow begins, or (``step``) a call was remembered."""
        self._since = self._clock.monotonic()
        self._done += step

    def call_begins(self) -> None:
        """It will be at the end of this call at the earliest."""
        self._call_at = self._clock.monotonic()

    def cost_s(self, *, calling: bool, worked_s: float) -> tuple[float, float]:
        """What stopping there would cost from now: seconds of work outside of calls that are done again, and seconds
        until then.

        By what the calls of this attempt (``worked_s`` in all) took so far. Without any, and for a call that takes
        longer than they did, what has lasted so long is taken to last as long again.
        """
        now = self._clock.monotonic()
        if not calling:
            return now - self._since, now - self._since
        in_call_s = now - self._call_at
        usual_s = worked_s / self._done if self._done else 0.0
        return max(0.0, self._call_at - self._since), usual_s - in_call_s if in_call_s < usual_s else in_call_s

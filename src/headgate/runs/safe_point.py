"""How far an attempt is from its next safe point: between two steps, where it can stop and lose nothing."""

from __future__ import annotations

from headgate.clock import Clock


class SafePoint:
    """What is known of it. One per attempt."""

    __slots__ = ("_call_at", "_clock", "_done", "_since", "asked", "longest_s", "once")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._since = self._call_at = clock.monotonic()
        self._done = 0
        self.longest_s = 0.0
        """The longest call of this attempt so far."""
        self.once = 0
        """Calls under way whose effect must not be repeated."""
        self.asked: float | None = None
        """Monotonic moment at which the attempt was last asked to make room, whether or not it did."""

    def passed(self, *, step: bool = True) -> None:
        """It is there: the workflow begins, or (``step``) a call was remembered."""
        self._since = self._clock.monotonic()
        if step:
            self._done += 1
            self.longest_s = max(self.longest_s, self._since - self._call_at)

    def call_begins(self) -> None:
        """It will be at the end of this call at the earliest."""
        self._call_at = self._clock.monotonic()

    def usual_s(self, worked_s: float) -> float:
        """What a call of this attempt took on average, of ``worked_s`` in all; 0 if it made none."""
        return worked_s / self._done if self._done else 0.0

    def cost_s(self, *, calling: bool, usual_s: float, longest_s: float) -> tuple[float, float]:
        """What stopping there would cost from now: seconds of work outside of calls that are done again, and seconds
        until then.

        A call is taken to last its usual time; one that lasts longer, half of what is left to the longest; one that
        lasts longer than any, as long again.
        """
        now = self._clock.monotonic()
        if not calling:
            return now - self._since, now - self._since
        in_call_s = now - self._call_at
        left_s = in_call_s if in_call_s > longest_s else max(usual_s - in_call_s, (longest_s - in_call_s) / 2)
        return max(0.0, self._call_at - self._since), left_s

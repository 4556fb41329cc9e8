"""What refusals say about a hard cap, and when they say nothing.

Decides: how far one refusal ("you have too many calls in flight") cuts the limit, and how far growth may go after.

* With c calls in flight, the refused one included, c − 1 were accepted: the first refusal cuts to that, at most by
  30 %. The next one before a clean group of calls cuts to 70 % of what was accepted.
* The lowest refused count is a *wall*. The limit stays one below it; after a number of good calls it steps onto the
  wall once, which costs at most one refusal. Each time the wall is found standing, the wait doubles; a good
  answer to a call at or above it takes it down.
* A refusal is *contradicted* when a call that was sent after the one before with as many or more calls in
  flight was accepted, or when it was alone: the number of calls was not the reason (somebody else's load, a rate).
  Then the cuts are
  taken back, and how often such refusals come is remembered: as long as a row of refusals is explained by that, it
  cuts nothing. Pacing by Retry-After is the guard's.

Sources: TCP's one cut per round trip; the probe that grows rarer is our own, from the measure of 2 % refusals.
"""

from __future__ import annotations

import math

CUT = 0.7
PROBE_PER_SLOT, PROBE_LEAST, PROBE_MOST = 10, 20, 200
"""Good calls between two steps onto the wall: per slot, and the bounds."""
RARE = 0.001
"""A row of refusals less likely than this by chance is taken for a wall."""
MEMORY = 0.98
"""How much of the evidence of chance refusals is kept from call to call."""


class Wall:
    """The refusals of one dependency."""

    __slots__ = ("_before", "_good", "_random", "_row", "_strikes", "_taken", "_times", "count", "last_at")

    def __init__(self) -> None:
        self.count: int | None = None
        """The lowest number of calls in flight that was refused; None: no wall is known."""
        self._times = 1
        """How often as many good calls as usual are waited for before the next probe: 1, 2, 4."""
        self._good = 0
        """Good answers since the last refusal."""
        self._strikes = 0
        """Cuts since the last group of calls without a refusal."""
        self._before = 0.0
        """The level before them."""
        self.last_at = -math.inf
        self._taken = 0
        """The most calls in flight with which a call was accepted since the last refusal."""
        self._row = 0
        self._random = 0.0
        """Contradicted refusals per call, lately."""

    def accepted(self, inflight: int, begun_at: float) -> bool:
        """A call got a good answer. True when it took the wall down."""
        self._good += 1
        self._random *= MEMORY
        if begun_at > self.last_at:
            self._taken = max(self._taken, inflight)
        if self.count is None or inflight < self.count or begun_at <= self.last_at:
            return False
        self.count, self._times = None, 1
        return True

    def refused(self, inflight: int, level: float, accepted_later: int, now: float) -> float:
        """A call of the present generation was refused: the level that the limit should have.

        ``accepted_later``: the most calls in flight with which a call was sent after the last refusal and is still
        running.
        """
        taken = max(self._taken, accepted_later)
        self._taken, self.last_at = 0, now
        self._row = 1 if taken else self._row + 1
        if inflight == 1 or (taken >= inflight and (self._strikes or self._random > RARE)):
            self._random = self._random * MEMORY + (1 - MEMORY)
            if inflight == 1:
                return level
            self.count, before, self._before = None, self._before, 0.0
            return max(level, before)
        if self._random > 0 and self._random**self._row > RARE:
            return level
        self._good = 0
        self._times = min(4, 2 * self._times) if self.count == inflight else 1
        self.count = inflight
        self._strikes += 1
        room = min(level, inflight - 1.0)
        if self._strikes > 1:
            return CUT * room
        self._before = level
        return max(room, CUT * level)

    def clean(self) -> None:
        """A group of calls ended without a refusal."""
        self._strikes = 0

    def bound(self, wish: float) -> tuple[float, bool]:
        """How far a level may grow that wants to be ``wish``; and whether that is a step onto the wall."""
        if self.count is None or wish < self.count:
            return wish, False
        wait = self._times * min(PROBE_MOST // 2, max(PROBE_LEAST, PROBE_PER_SLOT * self.count))
        if self._good >= min(PROBE_MOST, wait):
            return float(self.count), True
        return self.count - 1.0, False

"""A dependency with a known capacity.

Model: processor sharing. A call is an amount of work, in seconds that it takes alone. Up to ``knee`` calls advance
at full speed; more share that capacity, and ``collapse`` of it is lost to each other. ``cap`` refuses at once what
would be one call too many; ``per_min`` refuses what exceeds a rate (a bucket of ten seconds' worth). What is not the
caller's doing: ``slow`` (everything takes that many times as long), ``stalled`` (accepts, never answers), ``empty``
(a share of calls is answered in 18 ms with nothing), ``refuses`` (a share is refused whatever the load), ``fails``
(a share breaks half way).

Invariant: the work of all calls is conserved, and the same calls at the same times have the same answers.
"""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass
from itertools import count
from random import Random

EMPTY_S = 0.018
BUCKET_S = 10.0
RETRY_AFTER_S = 1.0
"""What a refusal asks for when it does not know better."""


@dataclass(frozen=True, slots=True)
class Phase:
    """The weather for a while."""

    lasts_s: float
    knee: float = math.inf
    collapse: float = 0.0
    """Capacity at n calls is knee / (1 + collapse · (n / knee − 1)), but at least 40 % of ``knee``."""
    cap: float = math.inf
    per_min: float = math.inf
    slow: float = 1.0
    stalled: bool = False
    empty: float = 0.0
    refuses: float = 0.0
    fails: float = 0.0

    def capacity(self, mean_work_s: float) -> float:
        """Seconds of work per second that can be finished by who uses this phase perfectly."""
        if self.stalled:
            return 0.0
        kept = (1 - self.fails) / (1 - self.fails / 2)
        return min(min(self.knee, self.cap) / self.slow * kept, self.per_min / 60 * mean_work_s)


@dataclass(slots=True, eq=False)
class Accepted:
    """A call under way."""

    number: int
    work_s: float
    outcome: str
    """``ok``, ``empty`` or ``failed``: how it will end if it is let."""
    gone: bool = False


class Plant:
    """The state under one phase; `enter` brings the next."""

    def __init__(self, phase: Phase, rng: Random) -> None:
        self.phase = phase
        self.active = 0
        self._rng = rng
        self._now = 0.0
        self._work_clock = 0.0
        self._ends: list[tuple[float, int, Accepted]] = []
        self._quick: list[tuple[float, int, Accepted]] = []
        """Empty answers: they use no capacity, so they have their own clock."""
        self._numbers = count()
        self._bucket = 0.0
        self._filled_at = 0.0

    def enter(self, phase: Phase, now: float) -> None:
        self.advance(now)
        if math.isfinite(phase.per_min) and not math.isfinite(self.phase.per_min):
            self._bucket, self._filled_at = phase.per_min / 60 * BUCKET_S, now
        self.phase = phase

    def offer(self, work_s: float, now: float) -> Accepted | float:
        """The call, accepted; or the seconds after which a refused caller should come again."""
        self.advance(now)
        phase = self.phase
        wait_s = self._rate_wait(now)
        if wait_s > 0:
            return wait_s
        if self.active >= phase.cap or (phase.refuses and self._rng.random() < phase.refuses):
            return RETRY_AFTER_S
        call = Accepted(next(self._numbers), work_s, "ok")
        if phase.empty and not phase.stalled and self._rng.random() < phase.empty:
            call.outcome = "empty"
            heapq.heappush(self._quick, (now + EMPTY_S, call.number, call))
            return call
        if phase.fails and self._rng.random() < phase.fails:
            call.outcome, work_s = "failed", work_s / 2
        self.active += 1
        heapq.heappush(self._ends, (self._work_clock + work_s, call.number, call))
        return call

    def withdraw(self, call: Accepted, now: float) -> None:
        """The caller gave up."""
        self.advance(now)
        call.gone = True
        if call.outcome != "empty":
            self.active -= 1

    def next_end(self) -> float:
        """When the next call ends if nothing else happens."""
        quick = self._quick[0][0] if self._quick else math.inf
        ends = self._ends
        while ends and ends[0][2].gone:
            heapq.heappop(ends)
        if not ends:
            return quick
        speed = self._speed()
        return min(quick, self._now + (ends[0][0] - self._work_clock) / speed) if speed else quick

    def take_ended(self, now: float) -> Accepted:
        """The call that `next_end` spoke of; ``now`` is that moment."""
        self.advance(now)
        if self._quick and self._quick[0][0] <= now:
            return heapq.heappop(self._quick)[2]
        end, _, call = heapq.heappop(self._ends)
        self._work_clock = max(self._work_clock, end)
        self.active -= 1
        return call

    def advance(self, now: float) -> None:
        if now > self._now:
            self._work_clock += (now - self._now) * self._speed()
            self._now = now

    def _speed(self) -> float:
        phase, calls = self.phase, self.active
        if phase.stalled:
            return 0.0
        if calls <= phase.knee:
            return 1.0 / phase.slow
        kept = max(0.4, 1 / (1 + phase.collapse * (calls / phase.knee - 1)))
        return phase.knee / calls * kept / phase.slow

    def _rate_wait(self, now: float) -> float:
        per_s = self.phase.per_min / 60
        if per_s == math.inf:
            return 0.0
        self._bucket = min(per_s * BUCKET_S, self._bucket + (now - self._filled_at) * per_s)
        self._filled_at = now
        if self._bucket < 1:
            return max(0.1, (1 - self._bucket) / per_s)
        self._bucket -= 1
        return 0.0

"""Which running run makes room for a waiting run of a higher lane, if any does.

Decides: for which lane's head of line room is to be made (`wanted`), which run is asked to stop at its next step
(`victim`), how far that step is (`CallTimes`), and whether a worker may ask once more at this moment (`may_ask`).

Source: cooperative preemption at safe points. The run stops between two steps, what it did is remembered, and it goes
on from there. Among the runs that may be asked the cheapest to stop is taken, by lane first: the choice of least
wasted work of schedulers that preempt by recomputation. How long a call still takes is its mean residual life, from
the calls that were seen to last longer than it has.

Inputs: the heads of the lanes and how long they have waited, how many slots each lane has on this worker, now and on
average of the last minute, and how many it is entitled to; and of each running run its lane, what it would do again,
how far its next safe point is, how far it is from its end, and how often it was preempted.

Invariants: only a run of a strictly lower lane is asked, never one inside a ``once`` call or near its end, never one
more often than ``per_run`` times or sooner than ``every_s`` after the last time; no lane falls below its entitlement
by it, but for the fraction of a slot, which is judged by the average. A worker asks at most ``per_minute`` times in a
minute.

Trade-off: a lane that uses its share in full is not preempted for a higher one, however long that waits: shares are
promises too. Steps that take long make the handover slow; nothing is cancelled to make it faster.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

NEAR_END = 0.8
"""From this part of its usual calls on a run is spared. One that made all of them and goes on is not near its end."""
MINUTE_S = 60.0
_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much is preempted. Times are seconds."""

    after_s: float = 2.0
    """A higher run has to have waited so long, if its lane has its share already."""
    per_run: int = 3
    every_s: float = 60.0
    """Between two preemptions of one run."""
    per_minute: int = 30
    """Of one worker."""


@dataclass(frozen=True, slots=True)
class Use:
    """A lane's slots on this worker."""

    running: int
    entitled: float
    average: float
    """Slots in use, averaged over about a minute."""

    @property
    def short(self) -> bool:
        """It has less than its share, now and on average."""
        return min(self.entitled - self.running, self.entitled - self.average) > _ROUNDING

    @property
    def lent(self) -> bool:
        """It has at least a whole slot more than its share."""
        return self.running - 1 >= self.entitled - _ROUNDING

    @property
    def over(self) -> bool:
        """It has more than its share: by a whole slot, or by a fraction of one on average too. With few slots a lane
        has none or one, which says nothing about its share."""
        return self.lent or min(self.running, self.average) > self.entitled + _ROUNDING


@dataclass(frozen=True, slots=True)
class Head:
    """The next run of a lane that waits. ``rank`` is the lane's place in the file; 0 is the highest."""

    lane: str
    rank: int
    waited_s: float


@dataclass(frozen=True, slots=True)
class Candidate:
    """A running run. Times are seconds."""

    key: int
    """Whatever names it for the caller."""
    lane: str
    rank: int
    redo_s: float = 0.0
    """Time since its last remembered step outside of calls: this would be done again."""
    to_step_s: float = 0.0
    """Until its next safe point, as far as one can tell."""
    remaining_s: float | None = None
    """Until its end; ``None``: unknown."""
    done: float | None = None
    """The part of its usual calls that it made, 0..1; ``None``: unknown."""
    preemptions: int = 0
    since_s: float | None = None
    """Since it was last preempted or asked to; ``None``: never."""
    spared: bool = False
    """Inside a ``once`` call, stopping already, or of a lane that is not to be preempted."""

    @property
    def cost_s(self) -> float:
        """What stopping it costs: work done twice, and time until its slot is free."""
        return self.redo_s + self.to_step_s

    @property
    def near_end(self) -> bool:
        """Whether its slot comes back by itself about as soon."""
        if self.done is not None and NEAR_END <= self.done < 1.0:
            return True
        return self.remaining_s is not None and 0 < self.remaining_s <= self.to_step_s


class CallTimes:
    """How long calls took, in seconds, and so how long one still takes."""

    __slots__ = ("_seconds", "_sums")

    def __init__(self, seconds: Iterable[float]) -> None:
        self._seconds = sorted(seconds)
        self._sums = [0.0, *accumulate(self._seconds)]

    def left_s(self, elapsed_s: float) -> float:
        """What a call that has lasted for ``elapsed_s`` still takes on average: as much as those seen that lasted
        longer, beside one imagined that lasts as long again. With none seen that is all there is to go by."""
        at = bisect_right(self._seconds, elapsed_s)
        longer = len(self._seconds) - at
        left_s = self._sums[-1] - self._sums[at] - longer * elapsed_s
        return (max(0.0, left_s) + elapsed_s) / (longer + 1)


def average(before: float, now: float, *, elapsed_s: float, age_s: float) -> float:
    """The average of the last minute or so, after ``elapsed_s`` at ``now``. ``age_s`` is the time over which it was
    taken before; while that is short, all of it counts evenly."""
    weight = elapsed_s / min(age_s + elapsed_s, MINUTE_S) if elapsed_s > 0 else 0.0
    return before + min(1.0, weight) * (now - before)


def wanted(heads: Sequence[Head], lanes: Mapping[str, Use], bounds: Bounds, *, others_s: float) -> Head | None:
    """The highest head of line for which room is to be made; ``None``: nobody's.

    A lane below its share is helped once the others of the fleet could have taken its run (``others_s``; 0 if none
    of them has a free slot), any other one after ``after_s``.
    """
    for head in sorted(heads, key=lambda head: head.rank):
        patience_s = min(bounds.after_s, others_s) if lanes[head.lane].short else bounds.after_s
        if head.waited_s >= patience_s:
            return head
    return None


def victim(candidates: Sequence[Candidate], head: Head, lanes: Mapping[str, Use], bounds: Bounds) -> Candidate | None:
    """The run that makes room for ``head``: of the lowest lane, and of those the cheapest to stop. A lane that has
    its share already gets only slots that are lent."""
    short = lanes[head.lane].short
    fit = [
        one
        for one in candidates
        if one.rank > head.rank
        and not one.spared
        and not one.near_end
        and one.preemptions < bounds.per_run
        and (one.since_s is None or one.since_s >= bounds.every_s)
        and one.lane in lanes
        and (lanes[one.lane].over if short else lanes[one.lane].lent)
    ]
    return min(fit, key=lambda one: (-one.rank, one.cost_s, one.preemptions, one.key), default=None)


def may_ask(asked_s: Sequence[float], now_s: float, bounds: Bounds) -> bool:
    """Whether a worker that asked at those moments may ask once more."""
    return sum(1 for at_s in asked_s if now_s - at_s < MINUTE_S) < bounds.per_minute

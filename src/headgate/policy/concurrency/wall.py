"""What refusals say about a hard cap, and when they say nothing.

Decides: how far one refusal ("you have too many calls in flight") cuts the limit, and how far growth may go after.

* With c calls in flight, the refused one included, c − 1 were accepted: the first refusal cuts to that, at most by
  30 %. The next one before a clean group of calls cuts to 70 % of what was accepted.
* The lowest refused count is a *wall*. The limit stays one below it; after a number of good calls it steps onto the
  wall once, which costs at most one refusal. Each time the wall is found standing, the wait doubles; a good
  answer to a call at or above it takes it down.
* Refusals that come at every number of calls alike say nothing about the number (somebody else's load, an outage, a
  rate). From the first refusal on, the calls in flight of those refused and of those accepted are kept; as soon as
  a share that is the same everywhere explains them better than any wall does, the cuts are taken back. The share is
  remembered: a row of refusals that it explains cuts nothing.
* A call that was alone and was refused is proof of that. The limit stays where it is, because nothing is accepted
  there to climb on, and what was cut is given back by a climb with the good answers that come.

Pacing by Retry-After is the guard's.

Sources: TCP's one cut per round trip; the choice between two models by their likelihood is Bayes' (Kass and Raftery,
1995); the probe that grows rarer is our own, from the measure of 2 % refusals.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence

from headgate.policy.concurrency.protocol import Stamp

CUT = 0.7
PROBE_PER_SLOT, PROBE_LEAST, PROBE_MOST = 10, 20, 200
"""Good calls between two steps onto the wall: per slot, and the bounds."""
RARE = 0.00001
"""A row of refusals less likely than this by chance is taken for a wall."""
MEMORY = 0.98
"""How much of the evidence of chance refusals is kept from call to call."""
SEEN = 32
"""Calls that are kept to tell a wall from chance."""
STRAY = math.log(50.0)
"""Minus the log of the chance by which a wall takes a call beyond it, or refuses one below."""


class Wall:
    """The refusals of one dependency."""

    __slots__ = ("_good", "_random", "_row", "_seen", "_strikes", "_times", "before", "count", "last_at", "since")

    def __init__(self) -> None:
        self.count: int | None = None
        """The lowest number of calls in flight that was refused; None: no wall is known."""
        self._times = 1
        """How often as many good calls as usual are waited for before the next probe: 1, 2, 4."""
        self._good = 0
        """Good answers since the last refusal."""
        self._strikes = 0
        """Cuts since the last group of calls without a refusal."""
        self.before = 0.0
        """The level before them."""
        self.since: float | None = None
        """The first refusal since the last group of calls without one."""
        self._seen: deque[tuple[int, bool]] = deque(maxlen=SEEN)
        """Calls that were sent since: in flight, and whether it was refused."""
        self.last_at = -math.inf
        self._row = 0
        """Refusals since the last call that was accepted."""
        self._random = 0.0
        """Refusals that are no wall's, per call, lately."""

    def accepted(self, inflight: int, begun_at: float) -> bool:
        """A call got a good answer. True when it took the wall down."""
        self._good += 1
        self._random *= MEMORY
        if self._good >= SEEN:
            self._strikes, self.before = 0, 0.0  # so many calls went well that the cuts were right
        if self.since is not None and begun_at > self.since:
            self._seen.append((inflight, False))
        if begun_at > self.last_at:
            self._row = 0
        if self.count is None or inflight < self.count or begun_at <= self.last_at:
            return False
        self.count, self._times = None, 1
        return True

    def refused(self, call: Stamp, level: float, running: Sequence[Stamp], now: float, *, cuts: bool = True) -> float:
        """A call was refused: the level that the limit should have.

        ``running``: calls that were sent since `since` and are at work, so that they were accepted. Without ``cuts``
        the refusal only teaches.
        """
        inflight = call.inflight
        if any(other.begun_at > self.last_at for other in running):
            self._row = 0
        self.last_at = now
        if self.since is None or call.begun_at > self.since:
            self._row += 1
            self._seen.append((inflight, True))
        if self.since is None:
            self.since = now
        if self._is_chance(inflight, running):
            before = self.before
            self.count, self._strikes, self.before = None, 0, 0.0
            return level if inflight == 1 else max(level, before)
        if not cuts:
            return level
        self._good = 0
        self._times = min(4, 2 * self._times) if self.count == inflight else 1
        self.count = inflight
        self._strikes += 1
        room = min(level, inflight - 1.0)
        if self._strikes > 1:
            return CUT * room
        self.before = level
        return max(room, CUT * level)

    def clean(self) -> None:
        """A group of calls ended without a refusal."""
        self._strikes, self.before, self.since = 0, 0.0, None
        self._seen.clear()

    def bound(self, wish: float) -> tuple[float, bool]:
        """How far a level may grow that wants to be ``wish``; and whether that is a step onto the wall."""
        if self.count is None or wish <= self.count - 1:
            return wish, False
        wait = self._times * min(PROBE_MOST // 2, max(PROBE_LEAST, PROBE_PER_SLOT * self.count))
        if self._good >= min(PROBE_MOST, wait):
            return float(self.count), True
        return self.count - 1.0, False

    def _is_chance(self, inflight: int, running: Sequence[Stamp]) -> bool:
        """Whether the latest refusal had nothing to do with the number of calls."""
        usual = self._random ** max(1, self._row) > RARE
        if not usual and self._random > 0:  # what was seen before such a row is over
            latest = [call for call in self._seen if call[1]][-self._row :]
            self._seen.clear()
            self._seen.extend(latest)
            self._random, running = 0.0, ()
        calls = [*self._seen, *((other.inflight, False) for other in running)]
        bad = sum(1 for _, bad in calls if bad)
        row = min(bad, self._row)
        share = (bad - row + 1) / (len(calls) - row + 2)  # before the row: no row is its own explanation
        if inflight > 1 and _for_a_wall(calls) >= (-math.log(RARE) if usual else 0.0):
            return False
        if inflight > 1:
            self._random = max(self._random, share)
        if self._row <= 1:
            self._random = self._random * MEMORY + (1 - MEMORY)
        return True


def _for_a_wall(calls: Sequence[tuple[int, bool]]) -> float:
    """The log of how many times likelier a wall makes these calls (in flight, refused) than one share everywhere.

    A wall refuses all from a number on, but for strays; or another share from it on than below it, which may be any.
    """
    walls = {number for number, bad in calls if bad and number > 1}
    wall = -STRAY * len(calls)
    for number in walls:
        above, below = [bad for n, bad in calls if n >= number], [bad for n, bad in calls if n < number]
        wall = max(wall, -STRAY * (above.count(False) + below.count(True)))
        wall = max(wall, _at_some_share(above) + _at_some_share(below) - math.log(len(walls)))
    return wall - _at_some_share([bad for _, bad in calls])


def _at_some_share(refused: Sequence[bool]) -> float:
    """The log of the chance of these refusals, when every share is as likely as any other: r! t! / (r + t + 1)!"""
    bad = refused.count(True)
    return math.lgamma(bad + 1) + math.lgamma(len(refused) - bad + 1) - math.lgamma(len(refused) + 2)

"""Is a run going round in circles?

Decides: warn, refuse or stop a run that makes the same calls again and again. Source: the stuck detectors of coding
agents (repeated action with the same observation, repeated action with an error, alternating actions), with counts
instead of a look at the last few messages.

Two signs, each counted for a call (resource, function and arguments):

* *failing*: it failed so often without one success in between, whatever else was done meanwhile.
* *no progress*: it gave the same result so often while nothing new was learned by any call. One call alone is a
  repetition, two in turn a ping-pong, more a cycle. Any result that was not seen lately is progress and begins the
  count anew. So does a result that only changed, where one call is made by itself: that is watching something move.

Calls that were begun before the last equal one had ended count once together, so a fan-out over the same arguments
(votes of a model, say) is one. Repetition of calls without effects (``pure``: polling) is judged at `PURE_TIMES`
the thresholds. Memory is bounded: the `KEPT` most recent calls and results.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from enum import IntEnum
from typing import TypeVar

K = TypeVar("K")
V = TypeVar("V")

KEPT = 256
PURE_TIMES = 4


class Level(IntEnum):
    """What is to be done."""

    FINE = 0
    WARN = 1
    REFUSE = 2
    STOP = 3


@dataclass(frozen=True, slots=True)
class Thresholds:
    """How often, from which on; warn ≤ refuse ≤ stop."""

    warn: int = 3
    refuse: int = 5
    stop: int = 8


@dataclass(frozen=True, slots=True)
class Judgement:
    """What the detector thinks of one call."""

    level: Level
    count: int = 0
    why: str = ""
    """``failing``, ``repetition``, ``ping_pong`` or ``cycle``."""
    refuse_at: int = 0
    """From so many times on this call is refused …"""
    stop_at: int = 0
    """… and from so many on the run is stopped."""


FINE = Judgement(Level.FINE)


class _Kept:
    """What is remembered of one call, or of one (call, result)."""

    __slots__ = ("count", "epoch", "last")

    def __init__(self) -> None:
        self.count = 0
        self.epoch = -1
        self.last = 0
        """When it was last counted."""


class LoopDetector:
    """The memory of one run. Keys are any hashable that is equal for equal calls."""

    def __init__(self, thresholds: Thresholds) -> None:
        self._thresholds = thresholds
        self._failing: OrderedDict[object, _Kept] = OrderedDict()
        self._seen: OrderedDict[tuple[object, object], _Kept] = OrderedDict()
        self._last_result: OrderedDict[object, object] = OrderedDict()
        self._epoch = 0
        self._turning: set[object] = set()
        """Calls made since the last progress, at most `KEPT`."""
        self._now = 0

    def begin(self) -> int:
        """A call is about to be made; hand what this returns to `failed` or `succeeded`. (A result from memory is
        handed over with -1: it shows what is known, and is not counted again.)"""
        return self._now

    def ask(self, call: object, *, pure: bool = False) -> Judgement:
        """Whether a call may be made now. From the refusing threshold on it may not; asking counts then."""
        failing = self._failing.get(call)
        if failing is not None and failing.count >= self._thresholds.refuse:
            failing.count += 1
            return self._judge(failing.count, "failing", 1)
        result = self._last_result.get(call)
        kept = None if result is None else self._seen.get((call, result))
        times = PURE_TIMES if pure else 1
        if kept is not None and kept.epoch == self._epoch and kept.count >= self._thresholds.refuse * times:
            kept.count += 1
            return self._judge(kept.count, self._shape(), times)
        return FINE

    def failed(self, call: object, begun: int) -> Judgement:
        """It failed for a reason of its own (a refusal by a limit is no failure)."""
        kept = _kept(self._failing, call)
        self._now += 1
        if kept.count == 0 or begun >= kept.last:
            kept.count += 1
            kept.last = self._now
        return self._judge(kept.count, "failing", 1)

    def succeeded(self, call: object, result: object, begun: int, *, pure: bool = False) -> Judgement:
        """It gave this result."""
        self._failing.pop(call, None)
        moved = self._turning == {call} and self._last_result.get(call, result) != result
        self._last_result[call] = result
        self._last_result.move_to_end(call)
        _bound(self._last_result)
        new = (call, result) not in self._seen
        kept = _kept(self._seen, (call, result))
        self._now += 1
        if new or moved:
            self._epoch += 1
            self._turning = set()
        if len(self._turning) < KEPT:
            self._turning.add(call)
        if kept.epoch != self._epoch:
            kept.epoch, kept.count, kept.last = self._epoch, 1, self._now
        elif begun >= kept.last:
            kept.count += 1
            kept.last = self._now
        return self._judge(kept.count, self._shape(), PURE_TIMES if pure else 1)

    def _shape(self) -> str:
        return {1: "repetition", 2: "ping_pong"}.get(len(self._turning), "cycle")

    def _judge(self, count: int, why: str, times: int) -> Judgement:
        thresholds = self._thresholds
        warn_at, refuse_at, stop_at = (n * times for n in (thresholds.warn, thresholds.refuse, thresholds.stop))
        if count < warn_at:
            return FINE
        level = Level.STOP if count >= stop_at else Level.REFUSE if count >= refuse_at else Level.WARN
        return Judgement(level, count, why, refuse_at, stop_at)


def _kept(table: OrderedDict[K, _Kept], key: K) -> _Kept:
    kept = table.get(key)
    if kept is None:
        kept = table[key] = _Kept()
        _bound(table)
    else:
        table.move_to_end(key)
    return kept


def _bound(table: OrderedDict[K, V]) -> None:
    if len(table) > KEPT:
        table.popitem(last=False)

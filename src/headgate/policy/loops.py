"""Is a run going round in circles?

Decides: warn, refuse or stop a run that makes the same calls again and again. Source: the stuck detectors of coding
agents (repeated action with the same observation, repeated action with an error, alternating actions), with counts
instead of a look at the last few messages.

Two signs, each counted for a call (resource, function and arguments):

* *failing*: it failed so often without one success in between, whatever else was done meanwhile.
* *no progress*: it gave the same result so often while nothing new was learned. One call alone is a repetition, two
  in turn a ping-pong, more a cycle.

What is new, and begins the counts of the second kind anew: a tool call with arguments and result that were not seen
lately, and a result that moved of itself (it changed, although the run did nothing in between that it had not done in
between before as well: that is watching something). A result that changed after another action begins only the count
of its own call anew, so two actions that undo each other are found. Answers of models are new only for models: an
agent whose prompt grows gets a new answer each time, and would otherwise always seem to get somewhere.

Calls that were begun before the last equal one had ended count once together, so a fan-out over the same arguments
(votes of a model, say) is one. In the same way a refusal counts once until somebody can have read it. Calls that are
meant to repeat (``repeats``: polling) are never counted. Memory is bounded: the `KEPT` most recent calls and results
of tools, and as many of models.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, replace
from enum import IntEnum
from itertools import islice, takewhile
from typing import TypeVar

K = TypeVar("K")
V = TypeVar("V")

KEPT = 256
BETWEEN_AT_MOST = 16
"""Distinct calls between two equal ones that are compared; with more, a changed result is not taken as watching."""


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
    refuse: int = 4
    stop: int = 6


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
    counted: bool = True
    """False for a refusal that came before an earlier one of the same call could be read."""


FINE = Judgement(Level.FINE)


class _Kept:
    """What is remembered of one call, or of one (call, result)."""

    __slots__ = ("count", "epoch", "last", "refused")

    def __init__(self) -> None:
        self.count = 0
        self.epoch = -1
        self.last = 0
        """When it was last counted."""
        self.refused = 0
        """Number of its latest refusal that counted; 0: none since the count began."""

    def begin(self, epoch: int, now: int) -> None:
        """This is the first of a new count."""
        self.count, self.epoch, self.last, self.refused = 1, epoch, now, 0

    def add(self, begun: int, now: int) -> None:
        """Once more, unless it was begun before the last one was counted."""
        if begun >= self.last:
            self.count += 1
            self.last = now


@dataclass(slots=True)
class _Latest:
    """The latest success of a call."""

    result: object
    between: frozenset[object] | None
    """The calls since the success before; ``None``: there was none, or they are too many."""


class _Memory:
    """What was learned from one kind of calls: those of tools, or those of models."""

    __slots__ = ("epoch", "latest", "seen", "turning")

    def __init__(self) -> None:
        self.seen: OrderedDict[tuple[object, object], _Kept] = OrderedDict()
        self.latest: OrderedDict[object, _Latest] = OrderedDict()
        """By call, in the order of their latest success."""
        self.epoch = 0
        self.turning: set[object] = set()
        """Calls made since the last progress, at most `KEPT`."""

    def begin_anew(self) -> None:
        """There was progress."""
        self.epoch += 1
        self.turning = set()

    def learn(self, call: object, result: object) -> tuple[_Kept, bool, bool]:
        """Take a result in: what is kept of it, whether it differs from the call's last one, if it is progress."""
        before, between = self.latest.get(call), self._between(call)
        self.latest[call] = _Latest(result, between)
        self.latest.move_to_end(call)
        _bound(self.latest)
        changed = before is not None and before.result != result
        before_that = frozenset() if before is None or before.between is None else before.between
        of_itself = changed and between is not None and between <= before_that
        new = (call, result) not in self.seen
        return _kept(self.seen, (call, result)), changed, new or of_itself

    def current(self, call: object) -> _Kept | None:
        """What counts for the call now, if it was made since the last progress."""
        latest = self.latest.get(call)
        kept = None if latest is None else self.seen.get((call, latest.result))
        return kept if kept is not None and kept.epoch == self.epoch else None

    def turn(self, call: object) -> None:
        if len(self.turning) < KEPT:
            self.turning.add(call)

    def shape(self) -> str:
        return {1: "repetition", 2: "ping_pong"}.get(len(self.turning), "cycle")

    def _between(self, call: object) -> frozenset[object] | None:
        if call not in self.latest:
            return None
        since = list(islice(takewhile(lambda other: other != call, reversed(self.latest)), BETWEEN_AT_MOST + 1))
        return frozenset(since) if len(since) <= BETWEEN_AT_MOST else None


class LoopDetector:
    """The memory of one run. Keys are any hashable that is equal for equal calls."""

    def __init__(self, thresholds: Thresholds) -> None:
        self._thresholds = thresholds
        self._failing: OrderedDict[object, _Kept] = OrderedDict()
        self._tools, self._models = _Memory(), _Memory()
        self._now = 0
        self.refusals = 0
        """How many refusals counted so far, of any call."""

    def begin(self) -> int:
        """A call is about to be made; hand what this returns to `failed` or `succeeded`. (A result from memory is
        handed over with -1: it shows what is known, and is not counted again.)"""
        return self._now

    def ask(self, call: object, *, model: bool = False, repeats: bool = False, aware: int | None = None) -> Judgement:
        """Whether a call may be made now. From the refusing threshold on it may not; asking counts then.

        Args:
            model: it is a call of a model, not of a tool.
            repeats: it is meant to be made again and again.
            aware: how many of the `refusals` whoever asks can have read; all by default. A call that was refused
                since then is refused, and that is not counted: nobody has insisted on it yet.
        """
        if repeats:
            return FINE
        failing = self._failing.get(call)
        if failing is not None and failing.count >= self._thresholds.refuse:
            return self._refuse(failing, "failing", aware)
        memory = self._models if model else self._tools
        kept = memory.current(call)
        if kept is not None and kept.count >= self._thresholds.refuse:
            return self._refuse(kept, memory.shape(), aware)
        return FINE

    def failed(self, call: object, begun: int, *, repeats: bool = False) -> Judgement:
        """It failed for a reason of its own (a refusal by a limit is no failure)."""
        if repeats:
            return FINE
        kept = _kept(self._failing, call)
        self._now += 1
        if kept.count == 0:
            kept.begin(0, self._now)
        else:
            kept.add(begun, self._now)
        return self._judge(kept.count, "failing")

    def succeeded(
        self, call: object, result: object, begun: int, *, model: bool = False, repeats: bool = False
    ) -> Judgement:
        """It gave this result."""
        self._failing.pop(call, None)
        memory = self._models if model else self._tools
        kept, changed, progress = memory.learn(call, result)
        self._now += 1
        if progress:
            memory.begin_anew()
            if not model:
                self._models.begin_anew()
        if repeats:
            return FINE
        memory.turn(call)
        if changed or kept.epoch != memory.epoch:
            kept.begin(memory.epoch, self._now)
        else:
            kept.add(begun, self._now)
        return self._judge(kept.count, memory.shape())

    def _refuse(self, kept: _Kept, why: str, aware: int | None) -> Judgement:
        if aware is not None and kept.refused > aware:
            return replace(self._judge(kept.count, why), level=Level.REFUSE, counted=False)
        first = not kept.refused
        kept.count += 1
        self.refusals += 1
        kept.refused = self.refusals
        judged = self._judge(kept.count, why)
        return replace(judged, level=Level.REFUSE) if first else judged

    def _judge(self, count: int, why: str) -> Judgement:
        thresholds = self._thresholds
        if count < thresholds.warn:
            return FINE
        level = Level.WARN if count < thresholds.refuse else Level.REFUSE if count < thresholds.stop else Level.STOP
        return Judgement(level, count, why, thresholds.refuse, thresholds.stop)


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

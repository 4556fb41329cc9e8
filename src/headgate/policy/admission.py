"""May this run come in? The depth bounds, decided in the transaction that would store it.

Decides: the first full bound, or whether the run is taken on the degraded path.

Inputs: for each bound the depth and bytes that wait now. Invariant: a bound of depth d never holds more than
d, because the caller evaluates this and writes the run under one write lock.

Where a workflow has runs of several lanes, each lane leaves a part of the places free for every lane before it, or a
flood of later lanes would shut the door to the first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


class Bound(Protocol):
    """The part of a bound that the decision needs."""

    @property
    def name(self) -> str: ...
    @property
    def depth(self) -> int | None: ...
    @property
    def bytes(self) -> int | None: ...
    @property
    def degrade_from(self) -> int | None: ...
    @property
    def shadow(self) -> bool: ...


class Load(Protocol):
    """What the decision needs to know of a scope."""

    @property
    def depth(self) -> int: ...
    @property
    def bytes(self) -> int: ...


HELD_BACK = 0.1
"""Part of a queue's places that is kept from a lane for each lane in use before it."""


def places_left_to(depth: int, higher: int) -> int:
    """How many places of ``depth`` are open to a lane with ``higher`` lanes in use before it; at least one."""
    return max(1, depth - int(min(1.0, HELD_BACK * higher) * depth))


@dataclass(frozen=True, slots=True)
class Waiting:
    """What waits within one bound's scope."""

    depth: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """``full`` is the index of the first enforced bound without room, or ``None``."""

    full: int | None
    unit: str
    """``runs`` or ``content-bytes``: what is full."""
    degraded: bool
    shadowed: tuple[int, ...]
    """Indexes of shadow bounds that would have refused."""


def decide(bounds: Sequence[Bound], waiting: Sequence[Load], *, size_bytes: int) -> Verdict:
    """Judge one run of ``size_bytes`` against every bound, in order."""
    degraded = False
    shadowed: list[int] = []
    for index, (bound, now) in enumerate(zip(bounds, waiting, strict=True)):
        unit = None
        if bound.depth is not None and now.depth >= bound.depth:
            unit = "runs"
        elif bound.bytes is not None and now.bytes + size_bytes > bound.bytes:
            unit = "content-bytes"
        if unit is not None:
            if not bound.shadow:
                return Verdict(index, unit, degraded, tuple(shadowed))
            shadowed.append(index)
        if bound.degrade_from is not None and now.depth >= bound.degrade_from:
            degraded = True
    return Verdict(None, "runs", degraded, tuple(shadowed))

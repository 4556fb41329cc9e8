"""May this run come in? The depth bounds, decided in the transaction that would store it.

Decides: the first full bound, or whether the run is taken on the degraded path.

Inputs: for each bound the depth and bytes that wait now. Invariant: a bound of depth d never holds more than
d, because the caller evaluates this and writes the run under one write lock.
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

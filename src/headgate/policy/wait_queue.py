"""The bounded line in front of a resource: who is next.

Order: smaller rank first (the lane's place in the file), then first come first served. The bound is exact: a line
of depth d never holds more than d. Ages are bounded by the owner's timers, which remove what waited too long.

Every operation costs O(number of ranks in use), whatever the length.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, Protocol, TypeVar


class Waiting(Protocol):
    """What the line needs to know of a waiter."""

    @property
    def rank(self) -> int:
        """Smaller goes first."""
        ...

    @property
    def asked_at(self) -> float:
        """When it came, in seconds."""
        ...


W = TypeVar("W", bound=Waiting)


class WaitQueue(Generic[W]):
    """Waiters by rank, then by arrival."""

    __slots__ = ("_by_rank", "_length", "_ranks", "depth")

    def __init__(self, depth: int) -> None:
        if depth < 1:
            raise ValueError(f"depth must be at least 1, got {depth!r}")
        self.depth = depth
        self._by_rank: dict[int, OrderedDict[W, None]] = {}
        self._ranks: list[int] = []
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def push(self, waiter: W) -> bool:
        """Join the line; ``False`` when it is full (the line is unchanged).

        Raises:
            ValueError: the waiter stands in line already.
        """
        if self._length >= self.depth:
            return False
        line = self._by_rank.get(waiter.rank)
        if line is None:
            line = self._by_rank[waiter.rank] = OrderedDict()
            self._ranks = sorted(self._by_rank)
        if waiter in line:
            raise ValueError("a waiter can stand in line only once")
        line[waiter] = None
        self._length += 1
        return True

    def head(self) -> W | None:
        """Who is next, or ``None``."""
        if not self._length:
            return None
        return next(iter(self._by_rank[self._ranks[0]]))

    def discard(self, waiter: W) -> bool:
        """Take a waiter out, wherever it stands; ``False`` when it is not in line."""
        line = self._by_rank.get(waiter.rank)
        if line is None or waiter not in line:
            return False
        del line[waiter]
        self._length -= 1
        if not line:
            del self._by_rank[waiter.rank]
            self._ranks = sorted(self._by_rank)
        return True

    def everybody(self) -> list[W]:
        """Who stands in line, in order."""
        return [waiter for rank in self._ranks for waiter in self._by_rank[rank]]

    def oldest_age_s(self, now: float) -> float:
        """How long the one who came first has waited; 0 while nobody waits."""
        if not self._length:
            return 0.0
        return max(0.0, now - min(next(iter(line)).asked_at for line in self._by_rank.values()))

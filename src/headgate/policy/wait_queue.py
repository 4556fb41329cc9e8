"""The bounded line in front of a resource: who is next, and who has to make room.

Order: smaller rank first (the lane's place in the file); within a lane the tenant whose turn it is
(`headgate.policy.tenant_turns`); within a tenant the most urgent (`headgate.policy.urgency`), then first come, first
served. The bounds are exact: a line of depth d never holds more than d waiters, nor more than its bytes. Ages are
bounded by the owner's timers, which remove what waited too long.

When the line is full, a waiter that is worth less makes room: the newest of the tenant with most waiters in the last
lane, if the newcomer is of an earlier lane, or of the same lane with fewer waiters. So one tenant's flood fills its
own part of the line, not everybody's. Source: the longest-queue drop of fair queueing (Suter and others, 1998). When
only the line's bytes have run out, later lanes make room for earlier ones.

Operations cost O(log n), amortised, plus the number of lanes in use; making room in bytes costs O(n log n).
"""

from __future__ import annotations

import heapq
from collections import OrderedDict
from collections.abc import Mapping
from typing import Generic, Protocol, TypeVar

from headgate.policy.tenant_turns import TenantTurns


class Waiting(Protocol):
    """What the line needs to know of a waiter."""

    @property
    def rank(self) -> int:
        """Smaller goes first."""
        ...

    @property
    def tenant(self) -> str:
        """Who shares the lane."""
        ...

    @property
    def urgency(self) -> float:
        """Smaller goes first within the tenant."""
        ...

    @property
    def bytes(self) -> int:
        """Memory that it holds while it waits; 0 when unknown."""
        ...

    @property
    def asked_at(self) -> float:
        """When it came, in seconds."""
        ...


W = TypeVar("W", bound=Waiting)
Number = int


class _Line(Generic[W]):
    """The waiters of one tenant in one lane."""

    __slots__ = ("heap", "members")

    def __init__(self) -> None:
        self.heap: list[tuple[float, Number, W]] = []
        self.members: OrderedDict[W, Number] = OrderedDict()
        """In the order of joining; a heap entry is valid while its number stands here."""

    def push(self, waiter: W, number: Number) -> None:
        self.members[waiter] = number
        heapq.heappush(self.heap, (waiter.urgency, number, waiter))

    def head(self) -> W:
        heap = self.heap
        while self.members.get(heap[0][2]) != heap[0][1]:
            heapq.heappop(heap)
        return heap[0][2]

    def discard(self, waiter: W) -> None:
        del self.members[waiter]
        if len(self.heap) > 64 + 2 * len(self.members):
            self.heap = [(one.urgency, number, one) for one, number in self.members.items()]
            heapq.heapify(self.heap)


class _Lane(Generic[W]):
    """The tenants of one lane."""

    __slots__ = ("_longest", "lines", "turns")

    def __init__(self, weights: Mapping[str, float]) -> None:
        self.turns = TenantTurns(weights)
        self.lines: dict[str, _Line[W]] = {}
        self._longest: list[tuple[int, str]] = []
        """Heap of (-waiters, tenant); entries that no longer agree with the lines are passed over."""

    def push(self, waiter: W, number: Number) -> None:
        line = self.lines.get(waiter.tenant)
        if line is None:
            line = self.lines[waiter.tenant] = _Line()
            self.turns.join(waiter.tenant)
        line.push(waiter, number)
        self._note(waiter.tenant, len(line.members))

    def discard(self, waiter: W) -> None:
        line = self.lines[waiter.tenant]
        line.discard(waiter)
        if line.members:
            self._note(waiter.tenant, len(line.members))
        else:
            del self.lines[waiter.tenant]
            self.turns.leave(waiter.tenant)

    def length(self, tenant: str) -> int:
        line = self.lines.get(tenant)
        return 0 if line is None else len(line.members)

    def longest(self) -> tuple[int, str]:
        while -self._longest[0][0] != self.length(self._longest[0][1]):
            heapq.heappop(self._longest)
        return -self._longest[0][0], self._longest[0][1]

    def _note(self, tenant: str, length: int) -> None:
        heapq.heappush(self._longest, (-length, tenant))
        if len(self._longest) > 64 + 2 * len(self.lines):
            self._longest = [(-len(line.members), name) for name, line in self.lines.items()]
            heapq.heapify(self._longest)


class WaitQueue(Generic[W]):
    """Waiters by lane, tenant and urgency."""

    __slots__ = ("_lanes", "_number", "_ranks", "_waiters", "_weights", "bytes", "depth", "most_bytes")

    LANES_REMEMBERED = 64
    """Ranks beyond this whose line is empty are forgotten, and with them what their tenants were charged."""

    def __init__(self, depth: int, *, most_bytes: int = 2**63, weights: Mapping[str, float] | None = None) -> None:
        if depth < 1 or most_bytes < 1:
            raise ValueError(f"depth and bytes must be at least 1, got {depth!r} and {most_bytes!r}")
        self.depth = depth
        self.most_bytes = most_bytes
        self.bytes = 0
        """Held by everybody who waits."""
        self._weights = weights or {}
        self._lanes: dict[int, _Lane[W]] = {}
        self._ranks: list[int] = []
        """Of lanes in which somebody waits, smallest first."""
        self._waiters: OrderedDict[W, None] = OrderedDict()
        self._number = 0

    def __len__(self) -> int:
        return len(self._waiters)

    def fits(self, waiter: W) -> bool:
        """Whether there is room, without anybody making it."""
        return len(self._waiters) < self.depth and self.bytes + waiter.bytes <= self.most_bytes

    def push(self, waiter: W) -> bool:
        """Join the line; ``False`` when it is full (the line is unchanged).

        Raises:
            ValueError: the waiter stands in line already.
        """
        if waiter in self._waiters:
            raise ValueError("a waiter can stand in line only once")
        if not self.fits(waiter):
            return False
        lane = self._lane(waiter.rank)
        if not lane.lines:
            self._ranks = sorted((*self._ranks, waiter.rank))
        self._number += 1
        lane.push(waiter, self._number)
        self._waiters[waiter] = None
        self.bytes += waiter.bytes
        return True

    def head(self) -> W | None:
        """Who is next, or ``None``."""
        if not self._ranks:
            return None
        lane = self._lanes[self._ranks[0]]
        tenant = lane.turns.first()
        return None if tenant is None else lane.lines[tenant].head()

    def discard(self, waiter: W) -> bool:
        """Take a waiter out, wherever it stands; ``False`` when it is not in line."""
        if waiter not in self._waiters:
            return False
        del self._waiters[waiter]
        self.bytes -= waiter.bytes
        lane = self._lanes[waiter.rank]
        lane.discard(waiter)
        if not lane.lines:
            self._ranks.remove(waiter.rank)
        return True

    def makes_room_for(self, newcomer: W) -> W | None:
        """Who has to leave a line that is at its depth, for this newcomer; ``None``: nobody, refuse the newcomer."""
        if not self._ranks or newcomer.rank > self._ranks[-1]:
            return None
        lane = self._lanes[self._ranks[-1]]
        length, tenant = lane.longest()
        if newcomer.rank == self._ranks[-1] and self._part(length, tenant) <= self._part(
            lane.length(newcomer.tenant) + 1, newcomer.tenant
        ):
            return None
        return next(reversed(lane.lines[tenant].members))

    def makes_room_in_bytes_for(self, newcomer: W) -> list[W] | None:
        """Who of later lanes has to leave so that the newcomer's bytes fit, the newest of the last lane first;
        ``None``: that would not be enough, refuse the newcomer. O(n log n) when bytes have run out, else O(1)."""
        short = self.bytes + newcomer.bytes - self.most_bytes
        if short <= 0:
            return []
        later = [one for one in reversed(self._waiters) if one.rank > newcomer.rank and one.bytes > 0]
        later.sort(key=lambda one: -one.rank)
        leave: list[W] = []
        for one in later:
            leave.append(one)
            short -= one.bytes
            if short <= 0:
                return leave
        return None

    def charge(self, starter: W, cost: float) -> None:
        """A call starts, from the line or straight from the door, and is expected to take ``cost`` seconds."""
        self._lane(starter.rank).turns.charge(starter.tenant, cost)

    def correct(self, starter: W, cost: float) -> None:
        """A call that was charged has ended after ``cost`` seconds more than that (negative: less)."""
        lane = self._lanes.get(starter.rank)
        if lane is not None:
            lane.turns.correct(starter.tenant, cost)

    def everybody(self) -> list[W]:
        """Who stands in line, by lane and arrival."""
        return sorted(self._waiters, key=lambda one: one.rank)

    def oldest_age_s(self, now: float) -> float:
        """How long the one who joined first has waited; 0 while nobody waits."""
        first = next(iter(self._waiters), None)
        return 0.0 if first is None else max(0.0, now - first.asked_at)

    def _part(self, length: int, tenant: str) -> float:
        return length / self._weights.get(tenant, 1.0)

    def _lane(self, rank: int) -> _Lane[W]:
        lane = self._lanes.get(rank)
        if lane is None:
            if len(self._lanes) >= self.LANES_REMEMBERED:
                self._lanes = {known: one for known, one in self._lanes.items() if one.lines}
            lane = self._lanes[rank] = _Lane(self._weights)
        return lane

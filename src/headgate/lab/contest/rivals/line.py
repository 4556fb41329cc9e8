"""A bounded line in front of some slots: first come first served, newest first with CoDel, or by rank."""

from __future__ import annotations

import asyncio
import heapq
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from headgate.clock import Clock


class NoPlace(Exception):
    """Refused on this side, before the dependency was asked; the text says why."""


@dataclass(slots=True, eq=False)
class Waiter:
    """Somebody in line."""

    turn: asyncio.Future[None]
    since: float
    rank: int
    patience_s: float
    """It is dropped rather than served after so long."""


class Order(Protocol):
    """Who is next."""

    def patience_s(self, now: float) -> float:
        """How long a newcomer may wait."""
        ...

    def push(self, waiter: Waiter) -> None: ...

    def pop(self, now: float) -> Waiter | None: ...

    def oldest(self) -> Waiter | None: ...

    def stale(self, now: float) -> list[Waiter]:
        """Those who have waited too long; they leave the order."""
        ...


class Fifo:
    """First come, first served."""

    def __init__(self) -> None:
        self._waiters: deque[Waiter] = deque()

    def patience_s(self, now: float) -> float:
        return float("inf")

    def push(self, waiter: Waiter) -> None:
        self._waiters.append(waiter)

    def pop(self, now: float) -> Waiter | None:
        return self._waiters.popleft() if self._waiters else None

    def oldest(self) -> Waiter | None:
        while self._waiters and self._waiters[0].turn.done():
            self._waiters.popleft()
        return self._waiters[0] if self._waiters else None

    def stale(self, now: float) -> list[Waiter]:
        return []


class CodelLifo(Fifo):
    """Facebook's controlled delay with adaptive LIFO (Maurer, *Fail at Scale*, ACM Queue 13-8, 2015).

    Whoever comes while the line has not been empty for ``interval_s`` may wait ``target_s``, anybody else
    ``interval_s``; in the same state the newest goes first. There ``interval_s`` is 100 ms and ``target_s`` 5 ms.
    """

    def __init__(self, *, target_s: float, interval_s: float) -> None:
        super().__init__()
        self._target_s, self._interval_s = target_s, interval_s
        self._empty_at = 0.0

    def patience_s(self, now: float) -> float:
        return self._target_s if self._crowded(now) else self._interval_s

    def pop(self, now: float) -> Waiter | None:
        crowded = self._crowded(now)
        if not self._waiters:
            return None
        return self._waiters.pop() if crowded else self._waiters.popleft()

    def stale(self, now: float) -> list[Waiter]:
        found = [one for one in self._waiters if now - one.since > one.patience_s]
        if found:
            self._waiters = deque(one for one in self._waiters if now - one.since <= one.patience_s)
        return found

    def _crowded(self, now: float) -> bool:
        if self.oldest() is None:
            self._empty_at = now
        return now - self._empty_at > self._interval_s


class ByRank:
    """Smaller ranks first, and within a rank first come, first served."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, Waiter]] = []
        self._count = 0

    def patience_s(self, now: float) -> float:
        return float("inf")

    def push(self, waiter: Waiter) -> None:
        self._count += 1
        heapq.heappush(self._heap, (waiter.rank, self._count, waiter))

    def pop(self, now: float) -> Waiter | None:
        return heapq.heappop(self._heap)[2] if self._heap else None

    def oldest(self) -> Waiter | None:
        return min((one[2] for one in self._heap if not one[2].turn.done()), key=lambda one: one.since, default=None)

    def stale(self, now: float) -> list[Waiter]:
        return []


class Line:
    """Some slots with a bounded line; ``depth`` counts each rank apart where the order is by rank."""

    def __init__(self, limit: Callable[[], float], depth: int, order: Order, clock: Clock) -> None:
        self._limit = limit
        self._depth = depth
        self._order = order
        self._clock = clock
        self._apart = isinstance(order, ByRank)
        self._waiting: dict[int, int] = {}
        self.inflight = 0

    @property
    def waiting(self) -> int:
        return sum(self._waiting.values())

    def oldest_s(self) -> float:
        """How long the oldest has waited."""
        oldest = self._order.oldest()
        return 0.0 if oldest is None else self._clock.monotonic() - oldest.since

    def join(self, rank: int) -> Waiter:
        """Take a slot, or a place in the line; whoever joins must await `turn`.

        Raises:
            NoPlace: the line is full.
        """
        now = self._clock.monotonic()
        self._drop_stale(now)
        rank_in_line = rank if self._apart else 0
        waiter = Waiter(asyncio.get_running_loop().create_future(), now, rank_in_line, self._order.patience_s(now))
        if not self.waiting and self.inflight < self._limit():
            self.inflight += 1
            waiter.turn.set_result(None)
            return waiter
        if self._waiting.get(rank_in_line, 0) >= self._depth:
            raise NoPlace("queue_full")
        self._waiting[rank_in_line] = self._waiting.get(rank_in_line, 0) + 1
        self._order.push(waiter)
        return waiter

    async def turn(self, waiter: Waiter) -> None:
        """Wait for the slot; it must be left again.

        Raises:
            NoPlace: dropped from the line.
        """
        try:
            await waiter.turn
        except asyncio.CancelledError:
            if waiter.turn.cancelled():
                self._waiting[waiter.rank] -= 1
            elif waiter.turn.exception() is None:  # it was given the slot at this very moment
                self.leave()
            raise

    def leave(self) -> None:
        """Give the slot back."""
        self.inflight -= 1
        self.admit()

    def admit(self) -> None:
        """Give free slots to those who wait; also to be called when the limit rose."""
        now = self._clock.monotonic()
        self._drop_stale(now)
        while self.inflight < self._limit() and (waiter := self._order.pop(now)) is not None:
            if not waiter.turn.done():
                self._waiting[waiter.rank] -= 1
                self.inflight += 1
                waiter.turn.set_result(None)

    def _drop_stale(self, now: float) -> None:
        for waiter in self._order.stale(now):
            if not waiter.turn.done():
                self._waiting[waiter.rank] -= 1
                waiter.turn.set_exception(NoPlace("queue_delay"))

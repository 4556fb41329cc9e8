"""Whose turn it is: tenants of one lane share a resource by seconds in use.

Decides: which of the waiting tenants gets the next slot.

Source: start-time fair queueing (Goyal, Vin, Cheng, SIGCOMM 1996) with the lift of VTC (OSDI 2024) and of Kubernetes
API Priority and Fairness: whoever was idle begins at the present, so idle time earns no credit.

Rule: every tenant has a tag. A call that starts raises it by its expected seconds over the tenant's weight; when the
call has ended, the tag is corrected to the seconds it really took. The waiting tenant with the smallest tag is next.
A tenant that begins to wait is lifted to the lane's virtual time, the largest tag with which a call was started.

Invariants: two tenants of equal weight that both always have somebody waiting get seconds that differ by at most the
largest cost times the slots plus one. Operations cost O(log tenants), amortised.

Known failure: what a call takes beyond its expected seconds is charged only when it ends.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping

REMEMBERED = 1024
"""Idle tenants beyond this are forgotten once they have no charge left that matters."""


class _Turn:
    __slots__ = ("stamp", "tag", "waiting")

    def __init__(self, tag: float) -> None:
        self.tag = tag
        self.stamp = 0
        """Of its valid entry in the heap; 0 when it has none."""
        self.waiting = False


class TenantTurns:
    """The tags of one lane. ``weights`` of tenants that are not named are 1."""

    __slots__ = ("_forget_at", "_heap", "_stamp", "_turns", "_virtual", "_waiting", "_weights")

    def __init__(self, weights: Mapping[str, float]) -> None:
        self._weights = weights
        self._turns: dict[str, _Turn] = {}
        self._heap: list[tuple[float, int, str]] = []
        self._stamp = 0
        self._virtual = 0.0
        self._waiting = 0
        self._forget_at = REMEMBERED

    def __len__(self) -> int:
        return len(self._turns)

    def first(self) -> str | None:
        """The tenant whose turn it is, or ``None`` when nobody waits."""
        heap = self._heap
        while heap:
            _, stamp, tenant = heap[0]
            turn = self._turns.get(tenant)
            if turn is not None and turn.stamp == stamp:
                return tenant
            heapq.heappop(heap)
        return None

    def join(self, tenant: str) -> None:
        """The tenant begins to wait (it did not wait before)."""
        turn = self._turn(tenant)
        if turn.tag < self._virtual:
            turn.tag = self._virtual
        if self._waiting == 1 and (alone := self.first()) is not None:
            self._place(alone, self._turns[alone])
        turn.waiting = True
        self._waiting += 1
        self._place(tenant, turn)

    def leave(self, tenant: str) -> None:
        """Nobody of the tenant waits any more."""
        turn = self._turns[tenant]
        turn.waiting = False
        turn.stamp = 0
        self._waiting -= 1

    def charge(self, tenant: str, cost: float) -> None:
        """A call of the tenant starts; it is expected to take ``cost`` seconds."""
        turn = self._turn(tenant)
        if turn.tag > self._virtual:
            self._virtual = turn.tag
        elif not turn.waiting:
            turn.tag = self._virtual
        turn.tag += cost / self._weights.get(tenant, 1.0)
        if turn.waiting and self._waiting > 1:
            self._place(tenant, turn)

    def correct(self, tenant: str, cost: float) -> None:
        """The tenant's calls took ``cost`` seconds more (negative: less) than they were charged."""
        turn = self._turns.get(tenant)
        if turn is not None:
            turn.tag += cost / self._weights.get(tenant, 1.0)
            if turn.waiting and self._waiting > 1:  # one alone is placed anew when another joins
                self._place(tenant, turn)

    def _turn(self, tenant: str) -> _Turn:
        turn = self._turns.get(tenant)
        if turn is None:
            if len(self._turns) >= self._forget_at:
                self._forget()
            turn = self._turns[tenant] = _Turn(self._virtual)
        return turn

    def _place(self, tenant: str, turn: _Turn) -> None:
        self._stamp += 1
        turn.stamp = self._stamp
        heapq.heappush(self._heap, (turn.tag, turn.stamp, tenant))
        if len(self._heap) > 64 + 2 * self._waiting:
            self._heap = [(one.tag, one.stamp, name) for name, one in self._turns.items() if one.stamp]
            heapq.heapify(self._heap)

    def _forget(self) -> None:
        """Drop idle tenants that would be lifted anyway, and then the least charged until half the bound is left."""
        idle = sorted((turn.tag, name) for name, turn in self._turns.items() if not turn.waiting)
        surplus = len(self._turns) - REMEMBERED // 2
        for place, (tag, name) in enumerate(idle):
            if tag > self._virtual and place >= surplus:
                break
            del self._turns[name]
        self._forget_at = max(REMEMBERED, 2 * len(self._turns))

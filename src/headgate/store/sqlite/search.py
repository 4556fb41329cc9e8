"""Which waiting runs of a lane are next. Only reads.

The tables know, for every lane and workflow, the tenants that wait in the order of their virtual times, for every
tenant its users, and for every user the runs in the lane's order. A search reads the beginnings of these three, a few
rows at a time, and merges them over the workflows that are wanted. So it reads a few rows for every run that it
finds, however many runs and tenants wait, and whatever else waits.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from headgate.policy import fair_queue
from headgate.policy.run_order import overloaded
from headgate.store.sqlite.flows import Whose
from headgate.store.sqlite.rows import Row
from headgate.store.sqlite.transaction import Reading

GROWTH = 4
"""Every page of a beginning is so many times as long as the one before; the first has one row (of tenants: as many as
runs are wanted)."""


class Pick(NamedTuple):
    """A run that is next."""

    seq: int
    whose: Whose
    cost: float
    charged: float


class _Turns:
    """Names in the order of their virtual times; each comes back at another one after its turn."""

    def __init__(self, beginnings: Sequence[Iterator[Row]]) -> None:
        self._fresh = heapq.merge(*beginnings) if len(beginnings) > 1 else beginnings[0]
        self._next: Row | None = None
        self._over = False
        self._again: list[tuple[float, int, str]] = []
        self._seen: set[str] = set()

    def take(self) -> Row | None:
        """(virtual time, since, name, …) of the next; what stands after the name only the first time."""
        while not self._over and (self._next is None or self._next[2] in self._seen):
            self._next = next(self._fresh, None)  # read no earlier than needed; seen: it waits with two workflows
            self._over = self._next is None
        fresh = self._next
        if self._again and (fresh is None or self._again[0] < fresh[:3]):
            return heapq.heappop(self._again)
        if fresh is not None:
            self._seen.add(fresh[2])
        return fresh

    def put_back(self, virtual: float, since: int, name: str) -> None:
        heapq.heappush(self._again, (virtual, since, name))


class _Waiting(NamedTuple):
    """What one tenant has waiting."""

    weight: float
    users: _Turns
    runs: dict[str, Iterator[Row]]


class Search:
    """One look for the next runs of a lane. Changes nothing."""

    def __init__(
        self,
        tx: Reading,
        lane: str,
        workflows: Sequence[str],
        *,
        now_ms: int,
        newest_after_ms: int | None = None,
        not_tenants: frozenset[str] = frozenset(),
    ) -> None:
        self._tx = tx
        self._now_ms = now_ms
        self._lane = lane
        self._workflows = workflows
        self._newest = False
        self._wanted = 0
        self._not_tenants = not_tenants
        self.passed: list[str] = []
        """Tenants whose turn it was, but who get none."""
        self.exhausted: list[tuple[str, str, str, str, int]] = []
        """(lane, workflow, tenant, user, found) of which every run was found that may be claimed."""
        if newest_after_ms is not None:
            oldest = tx.row("oldest_in_lane", lane)
            self._newest = overloaded(None if oldest is None else oldest[0], newest_after_ms, now_ms=now_ms)

    def picks(self, count: int) -> list[Pick]:
        """The next ``count`` runs, or as many as there are."""
        self._wanted = count
        tenants = _Turns([self._pages("tenants_in_line", workflow) for workflow in self._workflows])
        waiting: dict[str, _Waiting] = {}
        found: list[Pick] = []
        while len(found) < count and (turn := tenants.take()) is not None:
            virtual, since, tenant = turn[:3]
            if tenant in self._not_tenants:
                self.passed.append(tenant)
                continue
            if tenant not in waiting:
                users = _Turns([self._pages("users_in_line", workflow, tenant) for workflow in self._workflows])
                waiting[tenant] = _Waiting(turn[3], users, {})
            pick = self._of_tenant(tenant, waiting[tenant])
            if pick is not None:
                found.append(pick)
                amount = fair_queue.due(pick.cost, pick.charged)
                tenants.put_back(fair_queue.charge(virtual, amount, waiting[tenant].weight), since, tenant)
        return found

    def _of_tenant(self, tenant: str, waiting: _Waiting) -> Pick | None:
        while (turn := waiting.users.take()) is not None:
            virtual, since, user = turn[:3]
            runs = waiting.runs.get(user)
            if runs is None:
                runs = waiting.runs[user] = self._runs(tenant, user)
            row = next(runs, None)
            if row is not None:
                _, seq, cost, charged, workflow = row
                waiting.users.put_back(virtual + fair_queue.due(cost, charged), since, user)
                return Pick(seq, Whose(self._lane, tenant, user, workflow), cost, charged)
        return None

    def _runs(self, tenant: str, user: str) -> Iterator[Row]:
        statement = "newest_runs_in_line" if self._newest else "runs_in_line"
        lines = [self._line(statement, workflow, tenant, user) for workflow in self._workflows]
        return heapq.merge(*lines, reverse=self._newest) if len(lines) > 1 else lines[0]

    def _line(self, statement: str, workflow: str, tenant: str, user: str) -> Iterator[Row]:
        found = 0
        for row in self._pages(statement, workflow, tenant, user, self._now_ms):
            found += 1
            yield (*row, workflow)
        self.exhausted.append((self._lane, workflow, tenant, user, found))

    def _pages(self, statement: str, *keys: object) -> Iterator[Row]:
        size, read = self._wanted if statement == "tenants_in_line" else 1, 0
        while True:
            size = min(size, self._wanted)
            rows = self._tx.rows(statement, self._lane, *keys, size, read)
            yield from rows
            if len(rows) < size:
                return
            read += size
            size *= GROWTH


def next_of_lane(
    tx: Reading, lane: str, workflows: Sequence[str], *, now_ms: int, not_tenants: frozenset[str] = frozenset()
) -> int | None:
    """The run that a claim of these workflows would bring first, by number."""
    picks = Search(tx, lane, workflows, now_ms=now_ms, not_tenants=not_tenants).picks(1) if workflows else []
    if picks:
        return picks[0].seq
    wanted = {name.encode() for name in workflows}
    passed = {name.encode() for name in not_tenants}
    for seq, tenant, _, workflow, _ in tx.rows("delayed_runs_now_due", lane, now_ms, 10):
        if workflow in wanted and tenant not in passed:
            return int(seq)
    return None

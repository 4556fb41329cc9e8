"""The flows of every lane: tenants, and the users of each, with what they were charged and what they have waiting.

Read once and written once per transaction, like the other numbers (`numbers`), and before the claim looks for the
flows with the smallest virtual time, because it finds them in the tables.

Invariant: after every commit ``waiting`` and ``backlog`` say what counting the rows of ``runs`` that may start says.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from headgate.policy import fair_queue
from headgate.store.sqlite.transaction import Reading, Transaction


class Whose(NamedTuple):
    """To which flows a run belongs."""

    lane: str
    tenant: str
    user: str
    """Empty for runs without a user."""
    workflow: str


class Line:
    """The runs of one workflow that a flow has waiting."""

    __slots__ = ("since", "waiting")

    def __init__(self, waiting: int = 0, since: int = 0) -> None:
        self.waiting = waiting
        self.since = since


class Flow:
    """One tenant of a lane, or one user of a tenant there. Users have no ``reached``, ``backlog`` and ``weight``."""

    __slots__ = ("backlog", "lines", "reached", "virtual", "weight")

    def __init__(self, virtual: float = 0.0, weight: float = 1.0, reached: float = 0.0, backlog: float = 0.0) -> None:
        self.virtual = virtual
        self.weight = weight
        self.reached = reached
        self.backlog = backlog
        self.lines: dict[str, Line] = {}

    def line(self, workflow: str) -> Line:
        line = self.lines.get(workflow)
        if line is None:
            line = self.lines[workflow] = Line()
        return line


class Flows:
    """All of them, for the one connection that writes."""

    __slots__ = ("_arrivals", "_reading", "_tenants", "_touched_tenants", "_touched_users", "_users")

    def __init__(self, reading: Reading, arrivals: Callable[[str], int]) -> None:
        """``arrivals`` counts up, by lane, as flows begin to wait."""
        self._reading = reading
        self._arrivals = arrivals
        self.forget()

    def forget(self) -> None:
        """Nothing read so far counts any more."""
        self._tenants: dict[tuple[str, str], Flow] = {}
        self._users: dict[tuple[str, str, str], Flow] = {}
        self._touched_tenants: set[tuple[str, str]] = set()
        self._touched_users: set[tuple[str, str, str]] = set()

    def __len__(self) -> int:
        return max(len(self._tenants), len(self._users))

    def tenant(self, lane: str, tenant: str) -> Flow:
        """A tenant's flow; to be changed by the methods here only."""
        key = (lane, tenant)
        flow = self._tenants.get(key)
        if flow is None:
            flow = Flow()
            for workflow, virtual, weight, reached, backlog, waiting, since in self._reading.rows(
                "tenant_flow", *key
            ):
                flow.virtual, flow.weight, flow.reached, flow.backlog = virtual, weight, reached, backlog
                flow.lines[workflow] = Line(waiting, since)
            self._tenants[key] = flow
        return flow

    def user(self, lane: str, tenant: str, user: str) -> Flow:
        key = (lane, tenant, user)
        flow = self._users.get(key)
        if flow is None:
            flow = Flow()
            for workflow, virtual, waiting, since in self._reading.rows("user_flow", *key):
                flow.virtual = virtual
                flow.lines[workflow] = Line(waiting, since)
            self._users[key] = flow
        return flow

    def weigh(self, whose: Whose, weight: float) -> None:
        """The tenant's weight, as it is configured now."""
        flow = self.tenant(whose.lane, whose.tenant)
        if flow.weight != weight:
            flow.weight = weight
            self._touched_tenants.add((whose.lane, whose.tenant))

    def lift(self, lane: str, tenant: str, reached: float) -> None:
        """Let a tenant that waits stand no further back than ``reached``."""
        flow = self.tenant(lane, tenant)
        if flow.virtual < reached:
            flow.virtual = fair_queue.arrive(flow.virtual, reached)
            self._touched_tenants.add((lane, tenant))

    def present(self, tx: Transaction, whose: Whose, reached: float) -> float:
        """To what a tenant that begins to wait is lifted."""
        if self.tenant(whose.lane, whose.tenant).virtual >= reached:
            return reached  # nothing to lift
        self.write(tx)
        row = tx.row("least_virtual_in_line", whose.lane, whose.workflow)
        return fair_queue.present(reached, None if row is None else row[0])

    def enter(self, tx: Transaction, whose: Whose, cost: float, reached: float) -> float:
        """One more of its runs waits. Its virtual start: where the tenant will stand once what it has waiting
        already was charged."""
        lane, name, user, workflow = whose
        tenant, person = self.tenant(lane, name), self.user(lane, name, user)
        line, own = tenant.line(workflow), person.line(workflow)
        if not line.waiting:
            tenant.virtual = fair_queue.arrive(tenant.virtual, self.present(tx, whose, reached))
            line.since = self._arrivals(lane)
        if not own.waiting:
            person.virtual = fair_queue.arrive(person.virtual, tenant.reached)
            own.since = self._arrivals(lane)
        start = fair_queue.charge(tenant.virtual, tenant.backlog, tenant.weight)
        line.waiting += 1
        own.waiting += 1
        tenant.backlog += cost
        self._touch(whose)
        return start

    def would_start(self, tx: Transaction, whose: Whose, weight: float, reached: float) -> float:
        """The virtual start that `enter` would give; nothing changes."""
        flow = self.tenant(whose.lane, whose.tenant)
        line, virtual = flow.lines.get(whose.workflow), flow.virtual
        if line is None or not line.waiting:
            virtual = fair_queue.arrive(virtual, self.present(tx, whose, reached))
        return fair_queue.charge(virtual, flow.backlog, weight)

    def leave(self, whose: Whose, cost: float) -> None:
        """One of its waiting runs waits no longer."""
        lane, name, user, workflow = whose
        tenant = self.tenant(lane, name)
        tenant.line(workflow).waiting -= 1
        self.user(lane, name, user).line(workflow).waiting -= 1
        some = any(line.waiting > 0 for line in tenant.lines.values())
        tenant.backlog = max(0.0, tenant.backlog - cost) if some else 0.0
        self._touch(whose)

    def dispatch(self, whose: Whose, cost: float, amount: float) -> float:
        """One of its waiting runs starts and is charged; the virtual time at which it did."""
        lane, name, user, _ = whose
        tenant, person = self.tenant(lane, name), self.user(lane, name, user)
        self.leave(whose, cost)
        at = tenant.virtual
        tenant.reached = fair_queue.dispatch(tenant.reached, person.virtual)
        self.charge(whose, amount)
        return at

    def charge(self, whose: Whose, amount: float) -> None:
        """Charge a run's flows, or give back (less than 0)."""
        lane, name, user, workflow = whose
        tenant, person = self.tenant(lane, name), self.user(lane, name, user)
        tenant.virtual = fair_queue.charge(tenant.virtual, amount, tenant.weight)
        person.virtual = fair_queue.charge(person.virtual, amount, 1.0)
        tenant.line(workflow)  # there must be a row that remembers it
        person.line(workflow)
        self._touch(whose)

    def restore(self, whose: Whose, waiting: int, cost: float) -> None:
        """For recounting: so many of its runs wait, in addition."""
        lane, name, user, workflow = whose
        tenant = self.tenant(lane, name)
        tenant.line(workflow).waiting += waiting
        self.user(lane, name, user).line(workflow).waiting += waiting
        tenant.backlog += cost
        self._touch(whose)

    def _touch(self, whose: Whose) -> None:
        self._touched_tenants.add(whose[:2])
        self._touched_users.add(whose[:3])

    def write(self, tx: Transaction) -> None:
        """Write back what changed."""
        if self._touched_tenants:
            tx.run_each(
                "keep_tenant_flow",
                [
                    (*key, workflow, flow.virtual, flow.weight, flow.reached, flow.backlog, line.waiting, line.since)
                    for key in self._touched_tenants
                    for flow in (self._tenants[key],)
                    for workflow, line in flow.lines.items()
                ],
            )
            self._touched_tenants.clear()
        if self._touched_users:
            tx.run_each(
                "keep_user_flow",
                [
                    (*key, workflow, flow.virtual, line.waiting, line.since)
                    for key in self._touched_users
                    for flow in (self._users[key],)
                    for workflow, line in flow.lines.items()
                ],
            )
            self._touched_users.clear()

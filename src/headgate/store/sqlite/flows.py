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

    __slots__ = ("backlog", "key", "lines", "reached", "touched", "virtual", "weight")

    def __init__(self, key: tuple[str, ...]) -> None:
        """``key``: (lane, tenant) or (lane, tenant, user)."""
        self.key = key
        self.virtual = 0.0
        self.weight = 1.0
        self.reached = 0.0
        self.backlog = 0.0
        self.lines: dict[str, Line] = {}
        self.touched = False
        """It is to be written back."""

    @property
    def waiting(self) -> int:
        """Its runs that may start."""
        return sum(line.waiting for line in self.lines.values())

    def line(self, workflow: str) -> Line:
        line = self.lines.get(workflow)
        if line is None:
            line = self.lines[workflow] = Line()
        return line


class Flows:
    """All of them, for the one connection that writes."""

    __slots__ = ("_arrivals", "_known", "_reading", "_tenants", "_touched_tenants", "_touched_users", "_users")

    def __init__(self, reading: Reading, arrivals: Callable[[str], int]) -> None:
        """``arrivals`` counts up, by lane, as flows begin to wait."""
        self._reading = reading
        self._arrivals = arrivals
        self.forget()

    def forget(self) -> None:
        """Nothing read so far counts any more."""
        self._tenants: dict[tuple[str, str], Flow] = {}
        self._users: dict[tuple[str, str, str], Flow] = {}
        self._known: dict[Whose, tuple[Flow, Flow, Line, Line]] = {}
        self._touched_tenants: list[Flow] = []
        self._touched_users: list[Flow] = []

    def __len__(self) -> int:
        return max(len(self._tenants), len(self._users), len(self._known))

    def tenant(self, lane: str, tenant: str) -> Flow:
        """A tenant's flow; to be changed by the methods here only."""
        key = (lane, tenant)
        flow = self._tenants.get(key)
        if flow is None:
            flow = Flow(key)
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
            flow = Flow(key)
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
            self._touch_tenant(flow)

    def lift(self, lane: str, tenant: str, reached: float) -> None:
        """Let a tenant that waits stand no further back than ``reached``."""
        flow = self.tenant(lane, tenant)
        if flow.virtual < reached:
            flow.virtual = fair_queue.arrive(flow.virtual, reached)
            self._touch_tenant(flow)

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
        lane = whose.lane
        tenant, person, line, own = self._of(whose)
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
        self._touch(tenant, person)
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
        tenant, person, line, own = self._of(whose)
        line.waiting -= 1
        own.waiting -= 1
        if line.waiting > 0 or any(other.waiting > 0 for other in tenant.lines.values()):
            tenant.backlog = max(0.0, tenant.backlog - cost)
        else:
            tenant.backlog = 0.0
        self._touch(tenant, person)

    def dispatch(self, whose: Whose, cost: float, amount: float) -> float:
        """One of its waiting runs starts and is charged; the virtual time at which it did."""
        self.leave(whose, cost)
        tenant, person, _, _ = self._of(whose)
        at = tenant.virtual
        tenant.reached = fair_queue.dispatch(tenant.reached, person.virtual)
        tenant.virtual = fair_queue.charge(at, amount, tenant.weight)
        person.virtual = fair_queue.charge(person.virtual, amount, 1.0)
        return at

    def correct(self, whose: Whose, amount: float, reached: float) -> float:
        """Charge a run's flows, or give back (less than 0); the tenant's virtual time after that. A tenant that was
        forgotten, because it was behind its lane, stands where the lane is."""
        if whose not in self._known:
            forgotten = self.tenant(whose.lane, whose.tenant)
            if not forgotten.lines:
                forgotten.virtual = reached
        tenant, person, _, _ = self._of(whose)
        tenant.virtual = fair_queue.charge(tenant.virtual, amount, tenant.weight)
        person.virtual = fair_queue.charge(person.virtual, amount, 1.0)
        self._touch(tenant, person)
        return tenant.virtual

    def restore(self, whose: Whose, waiting: int, cost: float) -> None:
        """For recounting: so many of its runs wait, in addition."""
        tenant, person, line, own = self._of(whose)
        line.waiting += waiting
        own.waiting += waiting
        tenant.backlog += cost
        self._touch(tenant, person)

    def _of(self, whose: Whose) -> tuple[Flow, Flow, Line, Line]:
        found = self._known.get(whose)
        if found is None:
            lane, name, user, workflow = whose
            tenant, person = self.tenant(lane, name), self.user(lane, name, user)
            found = self._known[whose] = tenant, person, tenant.line(workflow), person.line(workflow)
        return found

    def _touch_tenant(self, tenant: Flow) -> None:
        if not tenant.touched:
            tenant.touched = True
            self._touched_tenants.append(tenant)

    def _touch(self, tenant: Flow, person: Flow) -> None:
        self._touch_tenant(tenant)
        if not person.touched:
            person.touched = True
            self._touched_users.append(person)

    def write(self, tx: Transaction) -> None:
        """Write back what changed."""
        if self._touched_tenants:
            tx.run_each(
                "keep_tenant_flow",
                [
                    (
                        *flow.key,
                        workflow,
                        flow.virtual,
                        flow.weight,
                        flow.reached,
                        flow.backlog,
                        line.waiting,
                        line.since,
                    )
                    for flow in self._touched_tenants
                    for workflow, line in flow.lines.items()
                ],
            )
            _written(self._touched_tenants)
        if self._touched_users:
            tx.run_each(
                "keep_user_flow",
                [
                    (*flow.key, workflow, flow.virtual, line.waiting, line.since)
                    for flow in self._touched_users
                    for workflow, line in flow.lines.items()
                ],
            )
            _written(self._touched_users)


def _written(flows: list[Flow]) -> None:
    for flow in flows:
        flow.touched = False
    flows.clear()

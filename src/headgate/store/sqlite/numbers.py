"""The counters, virtual times and rate buckets of the store, read once and written once per transaction.

Operations of one transaction see each other's changes here. What was read stays valid for later transactions
until another connection writes (`data_version` tells) or a transaction is rolled back.

Invariant: after every commit the table ``queues`` says what counting the rows of ``runs`` would say.
"""

from __future__ import annotations

from collections.abc import Sequence

from headgate.model.run import RunState
from headgate.policy import fair_queue
from headgate.store.sqlite.flows import Flows, Whose
from headgate.store.sqlite.transaction import Reading, Transaction

_QUEUED, _RUNNING, _SUSPENDED = RunState.QUEUED, RunState.RUNNING, RunState.SUSPENDED
_FAILED, _EXPIRED = RunState.FAILED, RunState.EXPIRED

KEPT_AT_MOST = 20_000
"""Entries of one kind kept between transactions; more are forgotten and read again."""

Scope = tuple[str, str, str]


class Queue:
    """The counters of one scope; ``horizon`` is remembered for `position` and not stored."""

    __slots__ = ("bytes", "dead", "depth", "horizon", "running", "started", "suspended", "waiting")

    def __init__(
        self,
        depth: int = 0,
        bytes: int = 0,
        waiting: int = 0,
        running: int = 0,
        suspended: int = 0,
        dead: int = 0,
        started: int = 0,
    ) -> None:
        self.depth = depth
        self.bytes = bytes
        self.waiting = waiting
        self.running = running
        self.suspended = suspended
        self.dead = dead
        self.started = started
        self.horizon: float | None = None


class LaneTime:
    """A lane's virtual time, the largest virtual start it gave, how often a flow began to wait, its latest claim."""

    __slots__ = ("arrivals", "claimed_ms", "last_start", "virtual_time")

    def __init__(
        self, virtual_time: float = 0.0, last_start: float = 0.0, arrivals: int = 0, claimed_ms: int = 0
    ) -> None:
        self.virtual_time = virtual_time
        self.last_start = last_start
        self.arrivals = arrivals
        self.claimed_ms = claimed_ms


class Scopes:
    """The three scopes that count a run: its workflow, its tenant there, and its lane."""

    __slots__ = ("keys", "queues")

    def __init__(self, keys: tuple[Scope, Scope, Scope], queues: tuple[Queue, Queue, Queue]) -> None:
        self.keys = keys
        self.queues = queues

    def queue(self, by: int, *, fresh: bool = False, size: int = 0) -> None:
        """Count ``by`` (1 or -1) queued runs; ``fresh``: it never started and its input has ``size`` bytes.

        The run's flows must be told as well: `line.line_up` and `line.stop_waiting` do both.
        """
        for queue in self.queues:
            queue.waiting += by
            if by < 0:
                queue.horizon = None
            if fresh:
                queue.depth += by
                queue.bytes += by * size

    def count(self, state: RunState, by: int) -> None:
        """Count ``by`` (1 or -1) runs in ``state``, which is not queued.

        Raises:
            ValueError: it is; see `queue`.
        """
        if state is _QUEUED:
            raise ValueError(
                "runs that get into line, or leave it, are counted by line.line_up and line.stop_waiting"
            )
        for queue in self.queues:
            if state is _RUNNING:
                queue.running += by
            elif state is _SUSPENDED:
                queue.suspended += by
            elif state is _FAILED or state is _EXPIRED:
                queue.dead += by

    def claimed(self, *, fresh: bool, size: int) -> None:
        """A queued run became a running one."""
        for queue in self.queues:
            queue.waiting -= 1
            queue.horizon = None
            queue.running += 1
            if fresh:
                queue.depth -= 1
                queue.bytes -= size
                queue.started += 1


class Numbers:
    """All of them, for the one connection that writes."""

    __slots__ = (
        "_arrivals",
        "_lanes",
        "_new_arrivals",
        "_queues",
        "_scopes",
        "_tx",
        "_version",
        "all_lanes_read",
        "flows",
        "touched",
        "touched_lanes",
    )

    def __init__(self, tx: Reading) -> None:
        self._tx = tx
        self._version: int | None = None
        self.flows = Flows(tx, self._next_arrival)
        self.forget()

    def forget(self) -> None:
        """Nothing read so far counts any more (a rollback, or somebody else wrote)."""
        self._queues: dict[Scope, Queue] = {}
        self._scopes: dict[Scope, Scopes] = {}
        self._lanes: dict[str, LaneTime] = {}
        self._arrivals: dict[str, float | None] = {}
        self.touched: set[Scopes] = set()
        self.touched_lanes: set[str] = set()
        self._new_arrivals: dict[str, float] = {}
        self.all_lanes_read = False
        self.flows.forget()

    def begin(self) -> bool:
        """At the start of a write transaction. True if somebody else has written since the last one."""
        row = self._tx.row("data_version")
        version = None if row is None else row[0]
        if version == self._version:
            return False
        others = self._version is not None
        self._version = version
        self.forget()
        return others

    def queue(self, workflow: str, tenant: str, lane: str) -> Queue:
        """The counters of one scope, to read. Changes go through `scopes`."""
        scope = (workflow, tenant, lane)
        queue = self._queues.get(scope)
        if queue is None:
            row = self._tx.row("queue_numbers", workflow, tenant, lane)
            queue = self._queues[scope] = Queue() if row is None else Queue(*row)
        return queue

    def scopes(self, workflow: str, tenant: str, lane: str) -> Scopes:
        """The counters of a run, to change."""
        name = (workflow, tenant, lane)
        scopes = self._scopes.get(name)
        if scopes is None:
            keys = ((workflow, "", ""), (workflow, tenant, ""), ("", "", lane))
            first, second, third = (self.queue(*key) for key in keys)
            scopes = self._scopes[name] = Scopes(keys, (first, second, third))
        self.touched.add(scopes)
        return scopes

    def running(self) -> int:
        """Runs that run in the whole store."""
        if not self.all_lanes_read:
            for (lane,) in self._tx.rows("lanes_with_numbers"):
                self.queue("", "", lane)
            self.all_lanes_read = True
        return sum(
            queue.running for (workflow, tenant, _), queue in self._queues.items() if not workflow and not tenant
        )

    def lane(self, lane: str) -> LaneTime:
        """A lane's virtual time, to read; call `touch_lane` after a change."""
        time = self._lanes.get(lane)
        if time is None:
            row = self._tx.row("lane_numbers", lane)
            time = self._lanes[lane] = LaneTime() if row is None else LaneTime(*row)
        return time

    def _next_arrival(self, lane: str) -> int:
        time = self.lane(lane)
        time.arrivals += 1
        self.touched_lanes.add(lane)
        return time.arrivals

    def enter(self, tx: Transaction, whose: Whose, cost: float) -> float:
        """A run of these flows that may start begins to wait; its virtual start."""
        return self.flows.enter(tx, whose, cost, self.lane(whose.lane).virtual_time)

    def dispatch(self, whose: Whose, *, cost: float, charged: float, now_ms: int) -> None:
        """A waiting run of these flows starts, and is charged what it was not charged before."""
        time = self.lane(whose.lane)
        at = self.flows.dispatch(whose, cost, fair_queue.due(cost, charged))
        time.virtual_time = fair_queue.dispatch(time.virtual_time, at)
        time.claimed_ms = now_ms
        self.touched_lanes.add(whose.lane)

    def pass_over(self, lane: str, tenants: Sequence[str]) -> None:
        """The turn of these waiting tenants has passed, as if they had not waited."""
        for tenant in tenants:
            self.flows.lift(lane, tenant, self.lane(lane).virtual_time)

    def correct(self, whose: Whose, amount: float) -> None:
        """A run cost its flows more (or less) than it was charged."""
        time = self.lane(whose.lane)
        virtual = self.flows.correct(whose, amount, time.virtual_time)
        lane = self.queue("", "", whose.lane)
        if lane.waiting + lane.running == 0:  # a busy time ends, and with it what anybody owes
            time.virtual_time = fair_queue.dispatch(time.virtual_time, virtual)
            self.touched_lanes.add(whose.lane)

    def arrival(self, key: str) -> float | None:
        """The theoretical arrival time of a rate bucket; ``None`` if it was never used."""
        try:
            return self._arrivals[key]
        except KeyError:
            row = self._tx.row("rate_arrival", key)
            arrival = self._arrivals[key] = None if row is None else row[0]
            return arrival

    def set_arrival(self, key: str, arrival_ms: float) -> None:
        self._arrivals[key] = self._new_arrivals[key] = arrival_ms

    def write(self, tx: Transaction) -> None:
        """Write back what changed; before the commit."""
        self.flows.write(tx)
        if self.touched:
            changed = {
                key: queue for scopes in self.touched for key, queue in zip(scopes.keys, scopes.queues, strict=True)
            }
            tx.run_each(
                "keep_queue_numbers",
                (
                    (*key, q.depth, q.bytes, q.waiting, q.running, q.suspended, q.dead, q.started)
                    for key, q in changed.items()
                ),
            )
            self.touched.clear()
        if self.touched_lanes:
            times = ((lane, self._lanes[lane]) for lane in self.touched_lanes)
            tx.run_each(
                "keep_lane_numbers",
                ((lane, time.virtual_time, time.last_start, time.arrivals, time.claimed_ms) for lane, time in times),
            )
            self.touched_lanes.clear()
        if self._new_arrivals:
            tx.run_each("keep_rate_arrival", self._new_arrivals.items())
            self._new_arrivals.clear()

    def trim(self) -> None:
        """After a commit: keep what is kept within bounds."""
        if max(len(self._queues), len(self.flows), len(self._arrivals)) > KEPT_AT_MOST:
            self.forget()


def recount(tx: Transaction) -> None:
    """Count every run anew and replace the counters (``started`` is kept). Reads the whole table."""
    tx.numbers.write(tx)
    started = {(workflow, tenant, lane): number for workflow, tenant, lane, number in tx.rows("started_counts")}
    queues: dict[Scope, list[int]] = {}
    for *labels, in_line, size, waiting, running, suspended, dead in tx.rows("recounted_queues"):
        workflow, tenant, lane = (label.decode("utf-8", "replace") for label in labels)
        counts = (in_line, size, waiting, running, suspended, dead)
        for scope in ((workflow, "", ""), (workflow, tenant, ""), ("", "", lane)):
            sums = queues.setdefault(scope, [0] * len(counts))
            sums[:] = [a + b for a, b in zip(sums, counts, strict=True)]
    tx.run("drop_queue_numbers")
    for scope in started.keys() - queues.keys():
        if not scope[1]:
            queues[scope] = [0] * 6
    tx.run_each("keep_queue_numbers", ((*scope, *sums, started.get(scope, 0)) for scope, sums in queues.items()))
    tx.numbers.forget()
    tx.run("empty_tenant_flows")
    tx.run("empty_user_flows")
    for *labels, waiting, cost in tx.rows("recounted_flows"):
        whose = Whose(*(label.decode("utf-8", "replace") for label in labels))
        tx.numbers.flows.restore(whose, waiting, cost)
    tx.numbers.write(tx)
    tx.numbers.forget()

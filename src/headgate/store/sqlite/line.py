"""A run gets into line, out of it, and settles what it cost: the counters and the flows together."""

from __future__ import annotations

from headgate.model.run import RunState
from headgate.store.sqlite.flows import Whose
from headgate.store.sqlite.transaction import Transaction


def line_up(
    tx: Transaction, seq: int, *, workflow: str, tenant: str, lane: str, fresh: bool = False, size: int = 0
) -> None:
    """The run of this row, which did not wait in line, is queued now, and may start. ``fresh``: for its first start;
    its input has ``size`` bytes."""
    tx.numbers.scopes(workflow, tenant, lane).queue(1, fresh=fresh, size=size)
    user, cost, _, _ = _charges(tx, seq)
    tx.numbers.enter(tx, Whose(lane, tenant, user, workflow), cost)


def stop_waiting(
    tx: Transaction,
    seq: int,
    state: RunState,
    *,
    workflow: str,
    tenant: str,
    lane: str,
    fresh: bool = False,
    size: int = 0,
) -> None:
    """The run of this row leaves ``state``, other than by being claimed. ``fresh``: it never started."""
    scopes = tx.numbers.scopes(workflow, tenant, lane)
    if state is not RunState.QUEUED:
        scopes.count(state, -1)
        return
    scopes.queue(-1, fresh=fresh, size=size)
    user, cost, _, delayed = _charges(tx, seq)
    if not delayed:
        tx.numbers.flows.leave(Whose(lane, tenant, user, workflow), cost)


def settle(tx: Transaction, seq: int, cost: float | None, *, workflow: str, tenant: str, lane: str) -> None:
    """The run of this row, which was running, has cost so much in all; ``None``: unknown, so nothing changes."""
    if cost is None:
        return
    user, _, charged, _ = _charges(tx, seq)
    tx.numbers.correct(Whose(lane, tenant, user, workflow), cost - charged)
    tx.run("settle_run", seq, cost)


def _charges(tx: Transaction, seq: int) -> tuple[str, float, float, bool]:
    user, cost, charged, delayed = tx.row("charges_of_run", seq) or (b"", 0.0, 0.0, 0)
    return user.decode("utf-8", "replace"), cost, charged, delayed != 0

"""What the end of a run does to its relatives: those below end with it, the one that waits for it goes on.

Called in every transaction that ends a run. A run without relatives costs nothing here.
"""

from __future__ import annotations

from headgate.model.reason import Reason
from headgate.model.run import RunState
from headgate.store.sqlite import holds
from headgate.store.sqlite.line import line_up, stop_waiting
from headgate.store.sqlite.transaction import Transaction


def ended(tx: Transaction, run_id: str, *, spawned: int, spawn_key: str | None, now_ms: int) -> None:
    """The run has ended. ``spawned`` and ``spawn_key`` are its row's."""
    if spawned:
        tx.run("drop_waits_of_parent", run_id)
        _cancel_below(tx, run_id, now_ms)
    if spawn_key is not None:
        _let_go_on(tx, run_id, now_ms)


def ended_seq(tx: Transaction, seq: int, *, now_ms: int) -> None:
    """As `ended`, for callers that have not read the row."""
    row = tx.row("family_of_run", seq)
    if row is not None:
        run_id, spawned, spawn_key = row
        ended(tx, run_id, spawned=spawned, spawn_key=spawn_key, now_ms=now_ms)


def _cancel_below(tx: Transaction, run_id: str, now_ms: int) -> None:
    words = f"the run {run_id} above it ended"
    for seq, below_id, workflow, tenant, lane, state, term, size in tx.rows("unfinished_below", run_id):
        if state == RunState.RUNNING:
            tx.run("ask_to_stop", seq, words)
            continue
        tx.run("end_waiting_run", seq, RunState.CANCELLED.value, Reason.CANCELLED.value, words, now_ms)
        holds.settle(tx, (seq,), now_ms=now_ms)
        tx.run("withdraw_approvals", below_id, now_ms)
        tx.run("drop_waits_of_parent", below_id)
        tx.run("drop_waits_for_child", below_id)
        stop_waiting(
            tx, seq, RunState(state), workflow=workflow, tenant=tenant, lane=lane, fresh=term == 0, size=size
        )


def _let_go_on(tx: Transaction, run_id: str, now_ms: int) -> None:
    """Wake the runs for which this was the last one of a branch."""
    waits = tx.rows("waits_for_child", run_id)
    if not waits:
        return
    tx.run("drop_waits_for_child", run_id)
    for parent_id, branch in waits:
        if tx.row("has_waits_left", parent_id, branch) is not None:
            continue
        tx.run("drop_waits_of_parent", parent_id)
        row = tx.row("run_that_waits_for_children", parent_id)
        if row is not None:
            seq, workflow, tenant, lane, deadline_ms = row
            tx.run("wake_for_children", seq, deadline_ms, now_ms)
            tx.numbers.scopes(workflow, tenant, lane).count(RunState.SUSPENDED, -1)
            line_up(tx, seq, workflow=workflow, tenant=tenant, lane=lane)

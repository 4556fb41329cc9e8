"""Working: everything the holder of runs does, fenced by (run, owner, term)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from headgate.model.reason import Reason
from headgate.model.run import TERMINAL, RunState
from headgate.store.protocols import Ceilings, Claim, ClaimRequest, Extension, RunEnd
from headgate.store.sqlite import dead_letters, family, follow_ups, history, holds
from headgate.store.sqlite.admissions import earliest
from headgate.store.sqlite.claiming import claim
from headgate.store.sqlite.flows import Whose
from headgate.store.sqlite.line import line_up, settle, stop_waiting
from headgate.store.sqlite.operations import Operations
from headgate.store.sqlite.rows import Row, json_list
from headgate.store.sqlite.runs import end_waiting
from headgate.store.sqlite.transaction import Transaction

_QUEUED, _RUNNING, _SUSPENDED = RunState.QUEUED, RunState.RUNNING, RunState.SUSPENDED


class SqliteClaims:
    """`headgate.store.protocols.Claims`."""

    def __init__(self, writer: Operations) -> None:
        self._writer = writer

    async def claim(self, request: ClaimRequest) -> list[Claim]:
        claims: list[Claim] = await self._writer.submit(lambda tx: claim(tx, request))
        return claims

    async def extend(
        self,
        owner: str,
        held: Sequence[tuple[str, int]],
        *,
        now_ms: int,
        lease_until_ms: int,
        costs: Mapping[str, float] | None = None,
    ) -> Extension:
        believed = frozenset(held)
        ids = json.dumps([run_id for run_id, _ in believed])
        found: Extension = await self._writer.submit(
            lambda tx: _extend(tx, owner, believed, ids, lease_until_ms, costs or {})
        )
        return found

    async def finish(self, ends: Sequence[RunEnd]) -> list[bool]:
        wanted = tuple(ends)
        for end in wanted:
            if end.state not in TERMINAL:
                raise ValueError(f"run {end.run_id}: {end.state} does not end a run")
        ids = json.dumps([end.run_id for end in wanted])
        ended: list[bool] = await self._writer.submit(lambda tx: _finish(tx, wanted, ids))
        return ended

    async def suspend(
        self,
        run_id: str,
        owner: str,
        term: int,
        *,
        now_ms: int,
        wake_ms: int | None,
        reason: str,
        detail: str | None = None,
        attempts: int = 0,
        used_calls: int = 0,
        used_model_tokens: int = 0,
        used_money: float = 0.0,
        used_wall_ms: int = 0,
        cost: float | None = None,
    ) -> bool:
        def suspend_one(tx: Transaction) -> bool:
            row = tx.row("fenced_run", run_id, owner, term)
            if row is None:
                return False
            suspend(
                tx, row, now_ms=now_ms, wake_ms=wake_ms, reason=reason, detail=detail, attempts=attempts,
                used_calls=used_calls, used_model_tokens=used_model_tokens, used_money=used_money,
                used_wall_ms=used_wall_ms, cost=cost,
            )  # fmt: skip
            return True

        suspended: bool = await self._writer.submit(suspend_one)
        return suspended

    async def release(
        self,
        run_id: str,
        owner: str,
        term: int,
        *,
        now_ms: int,
        reason: str,
        used_calls: int = 0,
        used_model_tokens: int = 0,
        used_money: float = 0.0,
        used_wall_ms: int = 0,
        cost: float | None = None,
    ) -> bool:
        def release_one(tx: Transaction) -> bool:
            row = tx.row("fenced_run", run_id, owner, term)
            if row is None:
                return False
            _release(tx, row, now_ms, reason, cost, used_calls, used_model_tokens, used_money, used_wall_ms)
            return True

        released: bool = await self._writer.submit(release_one)
        return released

    async def pause(
        self,
        run_id: str,
        owner: str,
        term: int,
        *,
        now_ms: int,
        until_ms: int,
        known: Ceilings,
        detail: str,
        used_calls: int = 0,
        used_model_tokens: int = 0,
        used_money: float = 0.0,
        used_wall_ms: int = 0,
        cost: float | None = None,
    ) -> bool | None:
        used = (used_calls, used_model_tokens, used_money, used_wall_ms)

        def pause_one(tx: Transaction) -> bool | None:
            row = tx.row("fenced_run", run_id, owner, term)
            return None if row is None else _pause(tx, row, now_ms, until_ms, known, detail, cost, used)

        paused: bool | None = await self._writer.submit(pause_one)
        return paused


def _extend(
    tx: Transaction,
    owner: str,
    believed: frozenset[tuple[str, int]],
    ids: str,
    lease_until_ms: int,
    costs: Mapping[str, float],
) -> Extension:
    held = []
    seqs = []
    cancel = []
    charges = []
    for seq, run_id, term, cancel_requested, charged, workflow, tenant, lane, user in tx.rows(
        "held_runs", owner, ids
    ):
        if (run_id, term) in believed:
            held.append((run_id, term))
            seqs.append(seq)
            if cancel_requested:
                cancel.append(run_id)
            cost = costs.get(run_id, 0.0)
            if cost > charged:
                tx.numbers.correct(Whose(lane, tenant, user.decode("utf-8", "replace"), workflow), cost - charged)
                charges.append((seq, cost))
    if seqs:
        tx.run("extend_leases", lease_until_ms, json_list(seqs))
    if charges:
        tx.run_each("charge_run", charges)
    return Extension(frozenset(held), frozenset(cancel))


def _finish(tx: Transaction, ends: Sequence[RunEnd], ids: str) -> list[bool]:
    held = {(run_id, owner, term): row for run_id, owner, term, *row in tx.rows("running_runs", ids)}
    answers = []
    updates = []
    relatives = []
    resolved: list[int] = []
    followed = []
    for end in ends:
        # A run ends once, also when one call names it twice.
        row = held.pop((end.run_id, end.owner, end.term), None)
        answers.append(row is not None)
        if row is not None:
            seq, workflow, tenant, lane, spawned, spawn_key, replay_of, charged, user = row
            if end.state is not RunState.SUCCEEDED:
                history.keep(tx, seq, now_ms=end.now_ms, state=end.state.value, reason=end.reason, detail=end.detail)
            elif replay_of is not None:
                resolved.append(seq)
            if end.follow_up is not None and end.state is RunState.SUCCEEDED:
                followed.append((seq, end.follow_up, end.now_ms))
            updates.append(
                (
                    seq, end.state.value, end.reason, end.detail, end.result, end.now_ms, end.used_calls,
                    end.used_model_tokens, end.used_money, end.used_wall_ms, 1 if end.degraded else 0, end.cost,
                )
            )  # fmt: skip
            scopes = tx.numbers.scopes(workflow, tenant, lane)
            scopes.count(_RUNNING, -1)
            scopes.count(end.state, 1)
            if spawned or spawn_key is not None:
                relatives.append((end.run_id, spawned, spawn_key, end.now_ms))
            if end.cost is not None:
                whose = Whose(lane, tenant, user.decode("utf-8", "replace"), workflow)
                tx.numbers.correct(whose, end.cost - charged)
    tx.run_each("finish_run", updates)
    if updates:
        holds.settle(tx, [update[0] for update in updates], now_ms=updates[0][5])
    for seq in resolved:
        dead_letters.resolve_lineage(tx, seq)
    for seq, follow_up, now_ms in followed:
        follow_ups.begin(tx, seq, follow_up, now_ms=now_ms)
    for run_id, spawned, spawn_key, now_ms in relatives:
        family.ended(tx, run_id, spawned=spawned, spawn_key=spawn_key, now_ms=now_ms)
    return answers


def suspend(
    tx: Transaction,
    row: Row,
    *,
    now_ms: int,
    wake_ms: int | None,
    reason: str,
    detail: str | None,
    attempts: int | None,
    used_calls: int,
    used_model_tokens: int,
    used_money: float,
    used_wall_ms: int,
    cost: float | None = None,
) -> None:
    """Suspend the run of a `fenced_run` row. One whose end was asked for is cancelled instead of waiting."""
    seq, _, workflow, tenant, lane, deadline_ms, cancel_requested, _ = row
    if reason != Reason.CHILDREN_WAIT:  # which is how a run with sub-runs goes on, not something that happened to it
        history.keep(tx, seq, now_ms=now_ms, state=_SUSPENDED.value, reason=reason, detail=detail)
    tx.run(
        "suspend_run", seq, reason, detail, wake_ms, earliest(wake_ms, deadline_ms), attempts, used_calls,
        used_model_tokens, used_money, used_wall_ms,
    )  # fmt: skip
    holds.give_back(tx, seq)
    scopes = tx.numbers.scopes(workflow, tenant, lane)
    scopes.count(_RUNNING, -1)
    scopes.count(_SUSPENDED, 1)
    settle(tx, seq, cost, workflow=workflow, tenant=tenant, lane=lane)
    if cancel_requested:
        cancel_waiting(tx, row, _SUSPENDED, now_ms=now_ms)


def _release(tx: Transaction, row: Row, now_ms: int, reason: str | None, cost: float | None, *used: float) -> None:
    """Put the run of a `fenced_run` row back in line."""
    seq, _, workflow, tenant, lane, deadline_ms, cancel_requested, _ = row
    history.keep(tx, seq, now_ms=now_ms, state=_QUEUED.value, reason=reason, detail=None)
    tx.run("release_run", seq, reason, deadline_ms, now_ms if reason == Reason.PREEMPTED else None, *used)
    holds.give_back(tx, seq)
    scopes = tx.numbers.scopes(workflow, tenant, lane)
    scopes.count(_RUNNING, -1)
    settle(tx, seq, cost, workflow=workflow, tenant=tenant, lane=lane)
    line_up(tx, seq, workflow=workflow, tenant=tenant, lane=lane)
    if cancel_requested:
        cancel_waiting(tx, row, _QUEUED, now_ms=now_ms)


def _pause(
    tx: Transaction,
    row: Row,
    now_ms: int,
    until_ms: int,
    known: Ceilings,
    detail: str,
    cost: float | None,
    used: tuple[int, int, float, int],
) -> bool:
    """Suspend the run of a `fenced_run` row at its ceiling, unless the ceilings moved meanwhile."""
    seq, _, workflow, tenant, lane, deadline_ms, cancel_requested, _ = row
    if Ceilings(*(tx.row("ceilings_of_run", seq) or ())) != known:
        _release(tx, row, now_ms, Reason.BUDGET_WAIT.value, cost, *used)
        return False
    history.keep(tx, seq, now_ms=now_ms, state=_SUSPENDED.value, reason=Reason.BUDGET_WAIT.value, detail=detail)
    tx.run("pause_run", seq, detail, until_ms, earliest(until_ms, deadline_ms), *used)
    holds.give_back(tx, seq)
    scopes = tx.numbers.scopes(workflow, tenant, lane)
    scopes.count(_RUNNING, -1)
    scopes.count(_SUSPENDED, 1)
    settle(tx, seq, cost, workflow=workflow, tenant=tenant, lane=lane)
    if cancel_requested:
        cancel_waiting(tx, row, _SUSPENDED, now_ms=now_ms)
    return True


def cancel_waiting(tx: Transaction, row: Row, state: RunState, *, now_ms: int) -> None:
    """Cancel a run, asked to stop while it ran, that has just been put into a waiting ``state``."""
    seq, run_id, workflow, tenant, lane, _, _, asked_by = row
    end_waiting(tx, seq, run_id, RunState.CANCELLED, Reason.CANCELLED.value, asked_by, now_ms)
    stop_waiting(tx, seq, state, workflow=workflow, tenant=tenant, lane=lane)

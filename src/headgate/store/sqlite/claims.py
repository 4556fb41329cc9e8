"""Working: everything the holder of runs does, fenced by (run, owner, term)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress

from headgate.model.reason import Reason
from headgate.model.run import TERMINAL, RunState
from headgate.model.step import Step
from headgate.policy.fair_queue import dispatch
from headgate.store.protocols import Ceilings, Claim, ClaimRequest, Extension, RunEnd
from headgate.store.sqlite import dead_letters, family, history, holds
from headgate.store.sqlite.admissions import earliest
from headgate.store.sqlite.damage import end_undecodable
from headgate.store.sqlite.operations import Operations
from headgate.store.sqlite.rows import RUN_WIDTH, UNREADABLE, Row, json_list, run_of, step_of
from headgate.store.sqlite.runs import end_waiting
from headgate.store.sqlite.transaction import Transaction

_QUEUED, _RUNNING, _SUSPENDED = RunState.QUEUED, RunState.RUNNING, RunState.SUSPENDED
_STEPS_WIDTH = 17


class SqliteClaims:
    """`headgate.store.protocols.Claims`."""

    def __init__(self, writer: Operations) -> None:
        self._writer = writer

    async def claim(self, request: ClaimRequest) -> list[Claim]:
        claims: list[Claim] = await self._writer.submit(lambda tx: claim(tx, request))
        return claims

    async def extend(
        self, owner: str, held: Sequence[tuple[str, int]], *, now_ms: int, lease_until_ms: int
    ) -> Extension:
        believed = frozenset(held)
        ids = json.dumps([run_id for run_id, _ in believed])
        found: Extension = await self._writer.submit(lambda tx: _extend(tx, owner, believed, ids, lease_until_ms))
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
    ) -> bool:
        def suspend_one(tx: Transaction) -> bool:
            row = tx.row("fenced_run", run_id, owner, term)
            if row is None:
                return False
            suspend(
                tx, row, now_ms=now_ms, wake_ms=wake_ms, reason=reason, detail=detail, attempts=attempts,
                used_calls=used_calls, used_model_tokens=used_model_tokens, used_money=used_money,
                used_wall_ms=used_wall_ms,
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
    ) -> bool:
        def release_one(tx: Transaction) -> bool:
            row = tx.row("fenced_run", run_id, owner, term)
            if row is None:
                return False
            _release(tx, row, now_ms, reason, used_calls, used_model_tokens, used_money, used_wall_ms)
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
    ) -> bool | None:
        used = (used_calls, used_model_tokens, used_money, used_wall_ms)

        def pause_one(tx: Transaction) -> bool | None:
            row = tx.row("fenced_run", run_id, owner, term)
            return None if row is None else _pause(tx, row, now_ms, until_ms, known, detail, used)

        paused: bool | None = await self._writer.submit(pause_one)
        return paused


def claim(tx: Transaction, request: ClaimRequest) -> list[Claim]:
    """Lease at most what each lane may have, in the order of the lanes."""
    queue_of = tx.numbers.queue
    # Where nothing waits nothing is searched: most claims are polls of an empty line.
    names = [workflow for workflow in request.workflows if queue_of(workflow, "", "").waiting]
    if not names:
        return []
    workflows = json.dumps(names)
    left = sum(count for _, count in request.lanes)
    if request.total is not None:
        left = min(left, request.total)
    if request.max_running is not None:
        left = min(left, request.max_running - tx.numbers.running())
    fitting = holds.Fitting(tx, request.most, now_ms=request.now_ms)
    claims: list[Claim] = []
    for lane, most in request.lanes:
        count = min(most, left)
        if count <= 0 or not queue_of("", "", lane).waiting:
            continue
        try:
            found = _claimable(tx, request, lane, workflows, count + fitting.ahead)
        except UNREADABLE:
            found = _claimable_in_spite_of_damage(tx, request, lane, workflows, count + fitting.ahead)
        if fitting.ahead and found:
            fit = fitting.takes([row[RUN_WIDTH] for row, _ in found], at_most=count)
            found = [one for one in found if one[0][RUN_WIDTH] in fit]
        if found:
            left -= len(found)
            claims += _lease(tx, request, lane, found)
    return claims


_Found = tuple[Row, Claim]


def _claimable(tx: Transaction, request: ClaimRequest, lane: str, workflows: str, count: int) -> list[_Found]:
    rows = tx.rows("claimable_runs", request.owner, request.lease_until_ms, request.now_ms, lane, workflows, count)
    runs = [run_of(row) for row in rows]
    # A run that starts for the first time remembers nothing, unless it replays another.
    remembering = [
        row[RUN_WIDTH] for row, run in zip(rows, runs, strict=True) if run.term > 1 or run.replay_of is not None
    ]
    if not remembering:
        return [(row, Claim(run, ())) for row, run in zip(rows, runs, strict=True)]
    steps: dict[int, list[Step]] = {}
    for row in tx.rows("steps_of_runs", json_list(remembering)):
        steps.setdefault(row[_STEPS_WIDTH], []).append(step_of(row))
    return [(row, Claim(run, tuple(steps.get(row[RUN_WIDTH], ())))) for row, run in zip(rows, runs, strict=True)]


def _claimable_in_spite_of_damage(
    tx: Transaction, request: ClaimRequest, lane: str, workflows: str, count: int
) -> list[_Found]:
    for _ in range(3):
        seqs = [seq for (seq,) in tx.rows("claimable_seqs", request.now_ms, lane, workflows, count)]
        end_undecodable(tx, seqs, now_ms=request.now_ms)
        with suppress(*UNREADABLE):  # the room of those ended was taken by others that cannot be read either
            return _claimable(tx, request, lane, workflows, count)
    return []  # what was ended stays ended, so the next claim gets further


def _lease(tx: Transaction, request: ClaimRequest, lane: str, found: list[_Found]) -> list[Claim]:
    numbers = tx.numbers
    seqs = json_list([row[RUN_WIDTH] for row, _ in found])
    tx.run("claim_runs", request.owner, request.lease_until_ms, request.now_ms, seqs)
    for row, claimed in found:
        run = claimed.run
        numbers.scopes(run.workflow, run.tenant, run.lane).claimed(fresh=run.term == 1, size=row[RUN_WIDTH + 1])
    time = numbers.lane(lane)
    reached = dispatch(time.virtual_time, found[-1][1].run.virtual_start)
    if reached != time.virtual_time:
        time.virtual_time = reached
        numbers.touched_lanes.add(lane)
    return [claimed for _, claimed in found]


def _extend(
    tx: Transaction, owner: str, believed: frozenset[tuple[str, int]], ids: str, lease_until_ms: int
) -> Extension:
    held = []
    seqs = []
    cancel = []
    for seq, run_id, term, cancel_requested in tx.rows("held_runs", owner, ids):
        if (run_id, term) in believed:
            held.append((run_id, term))
            seqs.append(seq)
            if cancel_requested:
                cancel.append(run_id)
    if seqs:
        tx.run("extend_leases", lease_until_ms, json_list(seqs))
    return Extension(frozenset(held), frozenset(cancel))


def _finish(tx: Transaction, ends: Sequence[RunEnd], ids: str) -> list[bool]:
    held = {(run_id, owner, term): row for run_id, owner, term, *row in tx.rows("running_runs", ids)}
    answers = []
    updates = []
    relatives = []
    resolved: list[int] = []
    for end in ends:
        # A run ends once, also when one call names it twice.
        row = held.pop((end.run_id, end.owner, end.term), None)
        answers.append(row is not None)
        if row is not None:
            seq, workflow, tenant, lane, spawned, spawn_key, replay_of = row
            if end.state is not RunState.SUCCEEDED:
                history.keep(tx, seq, now_ms=end.now_ms, state=end.state.value, reason=end.reason, detail=end.detail)
            elif replay_of is not None:
                resolved.append(seq)
            updates.append(
                (
                    seq, end.state.value, end.reason, end.detail, end.result, end.now_ms, end.used_calls,
                    end.used_model_tokens, end.used_money, end.used_wall_ms, 1 if end.degraded else 0,
                )
            )  # fmt: skip
            scopes = tx.numbers.scopes(workflow, tenant, lane)
            scopes.count(_RUNNING, -1)
            scopes.count(end.state, 1)
            if spawned or spawn_key is not None:
                relatives.append((end.run_id, spawned, spawn_key, end.now_ms))
    tx.run_each("finish_run", updates)
    if updates:
        holds.settle(tx, [update[0] for update in updates], now_ms=updates[0][5])
    for seq in resolved:
        dead_letters.resolve_lineage(tx, seq)
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
    if cancel_requested:
        cancel_waiting(tx, row, _SUSPENDED, now_ms=now_ms)


def _release(tx: Transaction, row: Row, now_ms: int, reason: str | None, *used: float) -> None:
    """Put the run of a `fenced_run` row back in line."""
    seq, _, workflow, tenant, lane, deadline_ms, cancel_requested, _ = row
    history.keep(tx, seq, now_ms=now_ms, state=_QUEUED.value, reason=reason, detail=None)
    tx.run("release_run", seq, reason, deadline_ms, now_ms if reason == Reason.PREEMPTED else None, *used)
    holds.give_back(tx, seq)
    scopes = tx.numbers.scopes(workflow, tenant, lane)
    scopes.count(_RUNNING, -1)
    scopes.count(_QUEUED, 1)
    if cancel_requested:
        cancel_waiting(tx, row, _QUEUED, now_ms=now_ms)


def _pause(
    tx: Transaction,
    row: Row,
    now_ms: int,
    until_ms: int,
    known: Ceilings,
    detail: str,
    used: tuple[int, int, float, int],
) -> bool:
    """Suspend the run of a `fenced_run` row at its ceiling, unless the ceilings moved meanwhile."""
    seq, _, workflow, tenant, lane, deadline_ms, cancel_requested, _ = row
    if Ceilings(*(tx.row("ceilings_of_run", seq) or ())) != known:
        _release(tx, row, now_ms, Reason.BUDGET_WAIT.value, *used)
        return False
    history.keep(tx, seq, now_ms=now_ms, state=_SUSPENDED.value, reason=Reason.BUDGET_WAIT.value, detail=detail)
    tx.run("pause_run", seq, detail, until_ms, earliest(until_ms, deadline_ms), *used)
    holds.give_back(tx, seq)
    scopes = tx.numbers.scopes(workflow, tenant, lane)
    scopes.count(_RUNNING, -1)
    scopes.count(_SUSPENDED, 1)
    if cancel_requested:
        cancel_waiting(tx, row, _SUSPENDED, now_ms=now_ms)
    return True


def cancel_waiting(tx: Transaction, row: Row, state: RunState, *, now_ms: int) -> None:
    """Cancel a run, asked to stop while it ran, that has just been put into a waiting ``state``."""
    seq, run_id, workflow, tenant, lane, _, _, asked_by = row
    end_waiting(tx, seq, run_id, RunState.CANCELLED, Reason.CANCELLED.value, asked_by, now_ms)
    tx.numbers.scopes(workflow, tenant, lane).count(state, -1)

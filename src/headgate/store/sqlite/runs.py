"""Reading runs, and asking for their end."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Collection, Mapping, Sequence

from headgate.model.reason import Reason
from headgate.model.run import DEAD, RunRecord, RunState
from headgate.model.step import Step
from headgate.policy.run_budget import raised
from headgate.store.protocols import Ceilings, Overview, QueueState, RunFilter
from headgate.store.sqlite import family, holds
from headgate.store.sqlite.damage import run_by_id, runs_by_ids
from headgate.store.sqlite.line import line_up, stop_waiting
from headgate.store.sqlite.operations import Operations
from headgate.store.sqlite.position import position_now
from headgate.store.sqlite.rows import step_of
from headgate.store.sqlite.search import next_of_lane
from headgate.store.sqlite.transaction import Reading, Transaction

PAGE_AT_MOST = 1000


class SqliteRuns:
    """`headgate.store.protocols.Runs`."""

    def __init__(self, writer: Operations, reader: Operations) -> None:
        self._writer = writer
        self._reader = reader

    async def get(self, run_id: str, *, tenant: str | None = None) -> RunRecord | None:
        run: RunRecord | None = await self._reader.submit(lambda tx: run_by_id(tx, run_id))
        return None if run is None or (tenant is not None and run.tenant != tenant) else run

    async def page(self, wanted: RunFilter) -> list[RunRecord]:
        runs: list[RunRecord] = await self._reader.submit(lambda tx: _page(tx, wanted))
        return runs

    async def steps(self, run_id: str) -> list[Step]:
        steps: list[Step] = await self._reader.submit(
            lambda tx: [step_of(row) for row in tx.rows("steps_of_run_id", run_id)]
        )
        return steps

    async def position(self, run: RunRecord, *, ahead_of: Sequence[str]) -> int:
        position: int = await self._reader.submit(lambda tx: _position(tx, run.id, ahead_of))
        return position

    async def heads(
        self, lanes: Sequence[str], workflows: Sequence[str], *, now_ms: int, not_tenants: Collection[str] = ()
    ) -> Mapping[str, int]:
        passed = frozenset(not_tenants)
        found: dict[str, int] = await self._reader.submit(lambda tx: _heads(tx, lanes, workflows, now_ms, passed))
        return found

    async def overview(self) -> Overview:
        overview: Overview = await self._reader.submit(_overview)
        return overview

    async def cancel(self, run_id: str, *, tenant: str | None, now_ms: int, detail: str) -> RunRecord | None:
        run: RunRecord | None = await self._writer.submit(
            lambda tx: _cancel(tx, run_id, tenant=tenant, now_ms=now_ms, detail=detail)
        )
        return run

    async def raise_budget(
        self, run_id: str, *, tenant: str | None, ceilings: Ceilings, more: Ceilings | None = None
    ) -> RunRecord | None:
        run: RunRecord | None = await self._writer.submit(
            lambda tx: _raise_budget(tx, run_id, tenant, ceilings, more or Ceilings())
        )
        return run


def _raise_budget(
    tx: Transaction, run_id: str, tenant: str | None, ceilings: Ceilings, more: Ceilings
) -> RunRecord | None:
    row = tx.row("run_to_raise", run_id)
    if row is None or (tenant is not None and row[2] != tenant):
        return None
    seq, workflow, owner_tenant, lane, state, reason, deadline_ms, crashes, *present = row
    if RunState(state).terminal:
        return run_by_id(tx, run_id)
    rows = zip(present, dataclasses.astuple(ceilings), dataclasses.astuple(more), strict=True)
    after = [raised(old, to, by) for old, to, by in rows]
    if after == present:
        return run_by_id(tx, run_id)
    tx.run("raise_budget", seq, *after)
    # One that waits for sub-runs may do so because they hold what it lacks of its budget.
    if state == RunState.SUSPENDED and reason in (Reason.BUDGET_WAIT, Reason.CHILDREN_WAIT):
        tx.run("drop_waits_of_parent", run_id)
        tx.run("put_back_in_line", seq, None, deadline_ms, crashes)
        tx.numbers.scopes(workflow, owner_tenant, lane).count(RunState.SUSPENDED, -1)
        line_up(tx, seq, workflow=workflow, tenant=owner_tenant, lane=lane)
    return run_by_id(tx, run_id)


def _page(tx: Reading, wanted: RunFilter) -> list[RunRecord]:
    states = {state.value for state in wanted.states}
    values = (
        wanted.tenant,
        wanted.workflow,
        wanted.lane,
        wanted.reason,
        json.dumps(sorted(states)) if states else None,
        wanted.before,
        max(0, min(wanted.limit, PAGE_AT_MOST)),
    )
    if wanted.parent is not None:
        ids = tx.rows("ids_of_children_page", *values, wanted.parent)
        return runs_by_ids(tx, json.dumps([run_id for (run_id,) in ids]))
    if states and states <= {state.value for state in DEAD}:
        statement = "ids_of_dead_page"
    elif wanted.tenant is not None:
        statement = "ids_of_tenant_page"
    else:
        statement = "ids_of_page"
    ids = tx.rows(statement, *values)
    return runs_by_ids(tx, json.dumps([run_id for (run_id,) in ids]))


def _position(tx: Reading, run_id: str, ahead_of: Sequence[str]) -> int:
    """From one snapshot, and from the row as it is now."""
    with tx.snapshot():
        run = run_by_id(tx, run_id)
        if run is None:
            return 0
        found = tx.row("run_to_cancel", run_id)
        return 0 if found is None else position_now(tx, run, found[0], ahead_of)


def _heads(
    tx: Reading, lanes: Sequence[str], workflows: Sequence[str], now_ms: int, not_tenants: frozenset[str]
) -> dict[str, int]:
    found = {}
    with tx.snapshot():
        for lane in lanes:
            seq = next_of_lane(tx, lane, workflows, now_ms=now_ms, not_tenants=not_tenants)
            row = None if seq is None else tx.row("waits_since", seq)
            if row is not None:
                found[lane] = row[0]
    return found


def _overview(tx: Reading) -> Overview:
    with tx.snapshot():
        rows = tx.rows("queues_of_overview")
        lanes = [row for row in rows if not row[0]]
        oldest = {row[2]: tx.row("oldest_in_lane", row[2]) for row in lanes if row[3]}
    return Overview(
        tuple(
            QueueState(workflow, tenant, lane, depth, size, running, started)
            for workflow, tenant, lane, depth, size, running, started, *_ in rows
        ),
        {lane: row[0] for lane, row in oldest.items() if row is not None and row[0] is not None},
        {
            RunState.QUEUED.value: sum(row[7] for row in lanes),
            RunState.RUNNING.value: sum(row[5] for row in lanes),
            RunState.SUSPENDED.value: sum(row[8] for row in lanes),
        },
        sum(row[9] for row in lanes),
    )


def _cancel(tx: Transaction, run_id: str, *, tenant: str | None, now_ms: int, detail: str) -> RunRecord | None:
    row = tx.row("run_to_cancel", run_id)
    if row is None or (tenant is not None and row[2] != tenant):
        return None
    seq, workflow, owner_tenant, lane, stored, term, size = row
    state = RunState(stored)
    if state is RunState.RUNNING:
        tx.run("ask_to_stop", seq, detail)
    elif state in (RunState.QUEUED, RunState.SUSPENDED):
        end_waiting(
            tx, seq, run_id, RunState.CANCELLED, Reason.CANCELLED.value, detail, now_ms,
        )  # fmt: skip
        stop_waiting(tx, seq, state, workflow=workflow, tenant=owner_tenant, lane=lane, fresh=term == 0, size=size)
    return run_by_id(tx, run_id)


def end_waiting(
    tx: Transaction, seq: int, run_id: str, state: RunState, reason: str, detail: str | None, now_ms: int
) -> None:
    """End a queued or suspended run; questions it asked are withdrawn. Counting is the caller's."""
    tx.run("end_waiting_run", seq, state.value, reason, detail, now_ms)
    tx.run("withdraw_approvals", run_id, now_ms)
    holds.settle(tx, (seq,), now_ms=now_ms)
    family.ended_seq(tx, seq, now_ms=now_ms)

"""Dead letters: listing them, and what ends their stay on the list."""

from __future__ import annotations

import json

from headgate.model.run import RunRecord, RunState
from headgate.store.dead_protocols import DeadChange, DeadFilter, HistoryLine
from headgate.store.sqlite.damage import runs_by_ids
from headgate.store.sqlite.operations import Operations
from headgate.store.sqlite.rows import json_list
from headgate.store.sqlite.transaction import Reading, Transaction

PAGE_AT_MOST = 1000
REPLAYS_AT_MOST = 100
RECORD_MS = 90 * 86_400_000
RECORD_LINES = 10_000


class SqliteDeadLetters:
    """`headgate.store.dead_protocols.DeadLetters`."""

    def __init__(self, writer: Operations, reader: Operations) -> None:
        self._writer = writer
        self._reader = reader

    async def page(self, wanted: DeadFilter) -> list[RunRecord]:
        found: list[RunRecord] = await self._reader.submit(lambda tx: _page(tx, wanted))
        return found

    async def history(self, run_id: str) -> list[HistoryLine]:
        lines: list[HistoryLine] = await self._reader.submit(
            lambda tx: [HistoryLine(*row) for row in tx.rows("history_of_run_id", run_id)]
        )
        return lines

    async def replays(self, origin_id: str) -> list[RunRecord]:
        def find(tx: Reading) -> list[RunRecord]:
            ids = [run_id for (run_id,) in tx.rows("replays_of_origin", origin_id)]
            return runs_by_ids(tx, json.dumps(ids[-REPLAYS_AT_MOST:]))[::-1]

        found: list[RunRecord] = await self._reader.submit(find)
        return found

    async def dismiss(self, run_id: str, *, tenant: str | None, by: str, why: str, now_ms: int) -> bool:
        done: bool = await self._writer.submit(lambda tx: _dismiss(tx, run_id, tenant, by, why, now_ms))
        return done

    async def purge(self, run_id: str, *, tenant: str | None, by: str, why: str, now_ms: int) -> bool:
        done: bool = await self._writer.submit(lambda tx: _purge(tx, run_id, tenant, by, why, now_ms))
        return done

    async def changes(self, *, tenant: str | None, limit: int) -> list[DeadChange]:
        found: list[DeadChange] = await self._reader.submit(
            lambda tx: [DeadChange(*row) for row in tx.rows("dead_changes", tenant, max(0, limit))]
        )
        return found


def resolve_lineage(tx: Transaction, seq: int) -> None:
    """The replay has succeeded: every dead letter of its lineage is resolved by it."""
    row = tx.row("origin_of_run", seq)
    if row is None:
        return
    run_id, origin_id = row
    for dead, workflow, tenant, lane, state in tx.rows("dead_of_lineage", origin_id):
        tx.run("resolve_dead", dead, run_id)
        tx.numbers.scopes(workflow, tenant, lane).count(RunState(state), -1)


def _page(tx: Reading, wanted: DeadFilter) -> list[RunRecord]:
    found = tx.rows(
        "ids_of_dead_letters_oldest_first" if wanted.oldest_first else "ids_of_dead_letters",
        wanted.tenant,
        wanted.workflow,
        wanted.lane,
        json.dumps(sorted(wanted.reasons)) if wanted.reasons else None,
        wanted.ended_before_ms,
        wanted.ended_from_ms,
        1 if wanted.stale else 0,
        1 if wanted.resolved else 0,
        json.dumps(sorted(wanted.ids)) if wanted.ids else None,
        wanted.beyond,
        max(0, min(wanted.limit, PAGE_AT_MOST)),
    )
    runs = runs_by_ids(tx, json.dumps([run_id for (run_id,) in found]))
    return runs[::-1] if wanted.oldest_first else runs


def _dismiss(tx: Transaction, run_id: str, tenant: str | None, by: str, why: str, now_ms: int) -> bool:
    row = tx.row("dead_letter_to_settle", run_id)
    if row is None or (tenant is not None and row[2] != tenant):
        return False
    seq, workflow, owner, lane, state, cause, _, resolved_by = row
    if resolved_by is not None:
        return False
    tx.run("resolve_dead", seq, f"dismissed by {by}"[:200])
    tx.numbers.scopes(workflow, owner, lane).count(RunState(state), -1)
    _record(tx, now_ms, "dismiss", run_id, workflow, owner, cause, by, why)
    return True


def _purge(tx: Transaction, run_id: str, tenant: str | None, by: str, why: str, now_ms: int) -> bool:
    row = tx.row("dead_letter_to_settle", run_id)
    if row is None or (tenant is not None and row[2] != tenant):
        return False
    seq, workflow, owner, lane, state, cause, origin_id, resolved_by = row
    if tx.row("unfinished_replay", origin_id) is not None:
        return False
    if resolved_by is None:
        tx.numbers.scopes(workflow, owner, lane).count(RunState(state), -1)
    seqs = json_list([seq])
    for statement in ("prune_steps", "prune_inputs", "prune_history", "prune_collapsed_keys"):
        tx.run(statement, seqs)
    tx.run("prune_approvals", json.dumps([run_id]))
    tx.run("prune_runs", seqs)
    _record(tx, now_ms, "purge", run_id, workflow, owner, cause, by, why)
    return True


def _record(tx: Transaction, now_ms: int, *line: str | None) -> None:
    tx.run("keep_dead_change", now_ms, *line)
    tx.run("prune_dead_changes", now_ms - RECORD_MS, RECORD_LINES)

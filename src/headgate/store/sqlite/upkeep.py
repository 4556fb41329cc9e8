"""What must happen on time: expiry, rescue, waking and pruning. Safe in several processes at once."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

from headgate.model.reason import Reason
from headgate.model.run import RunState
from headgate.policy.admission import Waiting
from headgate.store.protocols import Moved, Opening
from headgate.store.sqlite import family, history, holds, later
from headgate.store.sqlite.damage import read_each
from headgate.store.sqlite.line import line_up, stop_waiting
from headgate.store.sqlite.numbers import Scopes
from headgate.store.sqlite.operations import Operations
from headgate.store.sqlite.rows import UNREADABLE, json_list
from headgate.store.sqlite.runs import end_waiting
from headgate.store.sqlite.transaction import Reading, Transaction

_QUEUED = RunState.QUEUED


class SqliteUpkeep:
    """`headgate.store.protocols.Upkeep`."""

    def __init__(self, writer: Operations, reader: Operations) -> None:
        self._writer = writer
        self._reader = reader

    async def expire(self, *, now_ms: int, limit: int) -> list[Moved]:
        return await self._move(lambda tx: _expire(tx, now_ms, limit))

    async def rescue(self, *, now_ms: int, max_crashes: int, limit: int) -> list[Moved]:
        return await self._move(lambda tx: _rescue(tx, now_ms, max_crashes, limit))

    async def wake(self, *, now_ms: int, limit: int) -> list[Moved]:
        return await self._move(lambda tx: _wake(tx, now_ms, limit))

    async def let_in(self, opening: Opening, *, now_ms: int, limit: int) -> list[Moved]:
        # Nearly always nothing is delayed, which a reader sees without holding anybody up.
        held: dict[str, Waiting] = await self._reader.submit(lambda tx: later.held_back(tx, opening.workflow))
        if Reason.DELAYED.value not in held:
            return []
        return await self._move(lambda tx: later.let_in(tx, opening, now_ms=now_ms, limit=limit))

    async def next_due_ms(self) -> int | None:
        def earliest_moment(tx: Reading) -> int | None:
            row = tx.row("next_due")
            return None if row is None else row[0]

        moment: int | None = await self._reader.submit(earliest_moment)
        return moment

    async def prune(self, *, before_ms: int, limit: int) -> int:
        pruned: int = await self._writer.submit(lambda tx: _prune(tx, before_ms, limit))
        return pruned

    async def _move(self, operation: Callable[[Transaction], list[Moved]]) -> list[Moved]:
        moved: list[Moved] = await self._writer.submit(operation)
        return moved


@dataclass(slots=True)
class _Due:
    """One run that something is due for, as `due_runs` shows it."""

    scopes: Scopes
    seq: int
    run_id: str
    workflow: str
    tenant: str
    lane: str
    state: str
    term: int
    size: int
    deadline_ms: int | None
    crashes: int
    cancel_requested: int
    detail: str | None
    reason: str | None
    queue_deadline_ms: int | None

    def leave(self, tx: Transaction) -> None:
        """Stop counting it where it stood."""
        stop_waiting(
            tx, self.seq, RunState(self.state), workflow=self.workflow, tenant=self.tenant, lane=self.lane,
            fresh=self.term == 0, size=self.size,
        )  # fmt: skip

    def line_up(self, tx: Transaction) -> None:
        """Count it among those that wait."""
        line_up(tx, self.seq, workflow=self.workflow, tenant=self.tenant, lane=self.lane)

    def moved(self, state: RunState, reason: Reason) -> Moved:
        return Moved(self.run_id, self.workflow, self.tenant, self.lane, state, reason.value)


def _due(tx: Transaction, statement: str, now_ms: int, limit: int) -> list[_Due]:
    if limit <= 0:
        return []
    seqs = [seq for (seq,) in tx.rows(statement, now_ms, limit)]
    if not seqs:
        return []
    try:
        rows = tx.rows("due_runs", json_list(seqs))
    except UNREADABLE:
        rows = read_each(tx, seqs, lambda seq: tx.rows("due_runs", json_list([seq]))[0], now_ms=now_ms)
    return [_Due(tx.numbers.scopes(*row[2:5]), *row) for row in rows]


def _expire(tx: Transaction, now_ms: int, limit: int) -> list[Moved]:
    # One after the other: a damaged row among the later ones makes the numbers be read anew.
    moved = [_expire_one(tx, one, now_ms) for one in _due(tx, "seqs_overdue_in_line", now_ms, limit)]
    moved += [_expire_one(tx, one, now_ms) for one in _due(tx, "seqs_past_deadline", now_ms, limit - len(moved))]
    return moved + [_give_up(tx, one, now_ms) for one in _due(tx, "seqs_out_of_patience", now_ms, limit - len(moved))]


def _give_up(tx: Transaction, one: _Due, now_ms: int) -> Moved:
    """A run that was paused at its ceiling, which nobody raised in time."""
    words = f"{one.detail or 'its ceiling was reached'}; nobody raised it in time"
    _remember(tx, one, now_ms, RunState.FAILED, Reason.BUDGET_EXHAUSTED, words)
    end_waiting(tx, one.seq, one.run_id, RunState.FAILED, Reason.BUDGET_EXHAUSTED.value, words, now_ms)
    one.leave(tx)
    one.scopes.count(RunState.FAILED, 1)
    return one.moved(RunState.FAILED, Reason.BUDGET_EXHAUSTED)


def _expire_one(tx: Transaction, one: _Due, now_ms: int) -> Moved:
    late = one.deadline_ms is not None and one.deadline_ms <= now_ms
    reason = Reason.DEADLINE_PASSED if late else Reason.QUEUE_EXPIRED
    words = _unanswered(tx, one) if late else None
    _remember(tx, one, now_ms, RunState.EXPIRED, reason, words)
    end_waiting(tx, one.seq, one.run_id, RunState.EXPIRED, reason.value, words, now_ms)
    one.leave(tx)
    one.scopes.count(RunState.EXPIRED, 1)
    return one.moved(RunState.EXPIRED, reason)


def _unanswered(tx: Transaction, one: _Due) -> str | None:
    """What a run waited for whose deadline passed while it waited for a person; ``None``: it did not."""
    if one.reason != Reason.APPROVAL_WAIT.value:
        return None
    row = tx.row("queue_of_waiting_question", one.run_id)
    return None if row is None else f"nobody answered its question in {row[0]!r} before its deadline"


def _rescue(tx: Transaction, now_ms: int, max_crashes: int, limit: int) -> list[Moved]:
    return [_rescue_one(tx, one, now_ms, max_crashes) for one in _due(tx, "seqs_with_lapsed_lease", now_ms, limit)]


def _rescue_one(tx: Transaction, one: _Due, now_ms: int, max_crashes: int) -> Moved:
    crashes = one.crashes + 1
    one.leave(tx)
    end: tuple[RunState, Reason] | None = None
    if one.cancel_requested:
        end = RunState.CANCELLED, Reason.CANCELLED
    elif one.deadline_ms is not None and one.deadline_ms <= now_ms:
        end = RunState.EXPIRED, Reason.DEADLINE_PASSED
    elif crashes >= max_crashes:
        end = RunState.FAILED, Reason.CRASH_LOOP
    if end is None:
        _remember(tx, one, now_ms, _QUEUED, Reason.LEASE_EXPIRED, "its worker vanished")
        holds.give_back(tx, one.seq)
        tx.run("put_back_in_line", one.seq, Reason.LEASE_EXPIRED.value, one.deadline_ms, crashes)
        one.line_up(tx)
        return one.moved(_QUEUED, Reason.LEASE_EXPIRED)
    state, reason = end
    detail = one.detail if one.cancel_requested else f"{crashes} workers vanished while they held it"
    _remember(tx, one, now_ms, state, reason, detail)
    tx.run("end_lapsed_run", one.seq, state.value, reason.value, detail, now_ms, crashes)
    holds.settle(tx, (one.seq,), now_ms=now_ms)
    family.ended_seq(tx, one.seq, now_ms=now_ms)
    one.scopes.count(state, 1)
    return one.moved(state, reason)


def _remember(tx: Transaction, one: _Due, now_ms: int, state: RunState, reason: Reason, detail: str | None) -> None:
    history.keep(tx, one.seq, now_ms=now_ms, state=state.value, reason=reason.value, detail=detail)


def _wake(tx: Transaction, now_ms: int, limit: int) -> list[Moved]:
    moved = []
    for one in _due(tx, "seqs_to_wake", now_ms, limit):
        if one.reason in later.HELD_BACK:
            later.let_in_line(
                tx, one.seq, (one.workflow, one.tenant, one.lane), size=one.size, deadline_ms=one.deadline_ms,
                queue_deadline_ms=one.queue_deadline_ms, now_ms=now_ms,
            )  # fmt: skip
            moved.append(one.moved(_QUEUED, Reason(one.reason or Reason.DELAYED)))
            continue
        tx.run("put_back_in_line", one.seq, None, one.deadline_ms, one.crashes)
        one.leave(tx)
        one.line_up(tx)
        moved.append(one.moved(_QUEUED, Reason.RETRY_WAIT))
    return moved


def _prune(tx: Transaction, before_ms: int, limit: int) -> int:
    found = tx.rows("seqs_to_prune", before_ms, limit)
    found += tx.rows("seqs_of_resolved_to_prune", before_ms, limit - len(found)) if len(found) < limit else []
    if found:
        seqs = json_list([seq for seq, _ in found])
        tx.run("prune_steps", seqs)
        tx.run("prune_inputs", seqs)
        tx.run("prune_history", seqs)
        tx.run("prune_collapsed_keys", seqs)
        tx.run("prune_approvals", json.dumps([run_id for _, run_id in found]))
        tx.run("prune_runs", seqs)
    tx.numbers.write(tx)
    tx.run("prune_tenant_flows", limit)
    tx.run("prune_user_flows", limit)
    tx.run("prune_rates", before_ms, limit)
    tx.run("prune_queues", limit)
    tx.numbers.forget()
    return len(found)

"""Bounded queues of people: questions, answers, and the runs that wait for them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from headgate.model.decision import Refusal
from headgate.model.reason import Reason
from headgate.model.run import RunState
from headgate.store.operator_protocols import Escalation
from headgate.store.protocols import Approval
from headgate.store.sqlite.admissions import RETRY_FLOOR_MS
from headgate.store.sqlite.claims import suspend
from headgate.store.sqlite.line import line_up
from headgate.store.sqlite.operations import Operations
from headgate.store.sqlite.transaction import Reading, Transaction


class SqliteApprovals:
    """`headgate.store.protocols.Approvals`."""

    def __init__(self, writer: Operations, reader: Operations) -> None:
        self._writer = writer
        self._reader = reader

    async def ask(
        self,
        approval: Approval,
        owner: str,
        term: int,
        *,
        depth: int,
        attempts: int | None = None,
        used_calls: int = 0,
        used_model_tokens: int = 0,
        used_money: float = 0.0,
        used_wall_ms: int = 0,
        cost: float | None = None,
    ) -> Approval | Refusal | None:
        answer: Approval | Refusal | None = await self._writer.submit(
            lambda tx: _ask(
                tx,
                approval,
                owner,
                term,
                depth,
                attempts,
                used_calls,
                used_model_tokens,
                used_money,
                used_wall_ms,
                cost,
            )
        )
        return answer

    async def decide(
        self, approval_id: str, *, tenant: str | None, approved: bool, by: str, note: str | None, now_ms: int
    ) -> Approval | None:
        def decide_one(tx: Transaction) -> Approval | None:
            row = tx.row("approval_by_id", approval_id)
            approval = None if row is None else Approval(*row)
            if approval is None or (tenant is not None and approval.tenant != tenant):
                return None
            if approval.state != "waiting":
                return approval
            return _answer(tx, approval, "approved" if approved else "denied", by=by, note=note, now_ms=now_ms)

        decided: Approval | None = await self._writer.submit(decide_one)
        return decided

    async def waiting(self, *, queue: str | None, tenant: str | None, limit: int) -> list[Approval]:
        def find(tx: Reading) -> list[Approval]:
            if queue is None:
                rows = tx.rows("waiting_approvals", tenant, limit)
            else:
                rows = tx.rows("waiting_approvals_of_queue", queue, tenant, limit)
            return [Approval(*row) for row in rows]

        found: list[Approval] = await self._reader.submit(find)
        return found

    async def loads(self, queues: Sequence[str]) -> dict[str, tuple[int, int | None]]:
        def read(tx: Reading) -> dict[str, tuple[int, int | None]]:
            with tx.snapshot():
                rows = {name: tx.row("load_of_approvals", name) for name in queues}
            return {name: (0, None) if row is None else (row[0], row[1]) for name, row in rows.items()}

        found: dict[str, tuple[int, int | None]] = await self._reader.submit(read)
        return found

    async def expire_due(
        self, *, now_ms: int, limit: int, escalations: Mapping[str, Escalation] | None = None
    ) -> list[tuple[Approval, str]]:
        def expire(tx: Transaction) -> list[tuple[Approval, str]]:
            due = [Approval(*row) for row in tx.rows("due_approvals", now_ms, limit)]
            return [(_lapse(tx, one, (escalations or {}).get(one.queue), now_ms), one.queue) for one in due]

        expired: list[tuple[Approval, str]] = await self._writer.submit(expire)
        return expired


def _ask(
    tx: Transaction,
    approval: Approval,
    owner: str,
    term: int,
    depth: int,
    attempts: int | None,
    used_calls: int,
    used_model_tokens: int,
    used_money: float,
    used_wall_ms: int,
    cost: float | None,
) -> Approval | Refusal | None:
    run = tx.row("fenced_run", approval.run_id, owner, term)
    if run is None:
        return None
    row = tx.row("approval_of_step", approval.run_id, approval.step_key)
    if row is not None:
        asked = Approval(*row)
        if asked.state != "waiting":
            return asked
    else:
        used = _waiting(tx, approval.queue, depth)
        if used >= depth:
            return Refusal(
                Reason.QUEUE_FULL,
                f"approval:{approval.queue}",
                f"{used} questions wait for people and the queue takes {depth}",
                limit=depth,
                used=used,
                retry_after_ms=RETRY_FLOOR_MS,
                unit="approvals",
            )
        asked = dataclasses.replace(approval, state="waiting", decided_by=None, decided_ms=None, note=None)
        _keep(tx, asked)
    suspend(
        tx, run, now_ms=approval.asked_ms, wake_ms=None, reason=Reason.APPROVAL_WAIT.value,
        detail=f"waits for an answer in {asked.queue!r}", attempts=attempts, used_calls=used_calls,
        used_model_tokens=used_model_tokens, used_money=used_money, used_wall_ms=used_wall_ms,
        cost=cost,
    )  # fmt: skip
    return asked


def _keep(tx: Transaction, approval: Approval) -> None:
    tx.run("keep_approval", *(getattr(approval, field.name) for field in dataclasses.fields(Approval)))


def _waiting(tx: Transaction, queue: str, at_most: int) -> int:
    counted = tx.row("count_waiting_approvals", queue, at_most)
    return 0 if counted is None else int(counted[0])


def _lapse(tx: Transaction, question: Approval, escalation: Escalation | None, now_ms: int) -> Approval:
    """Nobody answered: on to the next queue, or closed."""
    if escalation is None or _waiting(tx, escalation.queue, escalation.depth) >= escalation.depth:
        return _answer(tx, question, "expired", by=None, note=None, now_ms=now_ms)
    left = f"{question.queue}:{now_ms}"  # a step has one question; its earlier ones step aside
    record = dataclasses.replace(
        question,
        id=f"{question.id}:{left}",
        step_key=f"{question.step_key}:{left}",
        state="expired",
        decided_ms=now_ms,
        note=f"escalated to {escalation.queue!r}",
    )
    _keep(tx, record)
    moved = dataclasses.replace(question, queue=escalation.queue, expires_ms=now_ms + escalation.max_age_ms)
    tx.run("move_approval", moved.id, moved.queue, moved.expires_ms)
    return moved


def _answer(
    tx: Transaction, approval: Approval, state: str, *, by: str | None, note: str | None, now_ms: int
) -> Approval:
    """Close a waiting question and wake its run."""
    tx.run("answer_approval", approval.id, state, by, now_ms, note)
    run = tx.row("run_that_waits_for_approval", approval.run_id)
    if run is not None:
        seq, workflow, tenant, lane, deadline_ms, crashes = run
        tx.run("put_back_in_line", seq, None, deadline_ms, crashes)
        tx.numbers.scopes(workflow, tenant, lane).count(RunState.SUSPENDED, -1)
        line_up(tx, seq, workflow=workflow, tenant=tenant, lane=lane)
    return dataclasses.replace(approval, state=state, decided_by=by, decided_ms=now_ms, note=note)

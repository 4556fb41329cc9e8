"""Bounded queues of people: questions, answers, and the runs that wait for them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from headgate.model.decision import Refusal
from headgate.model.reason import Reason
from headgate.model.run import RunState
from headgate.policy.people import ANSWERS_REMEMBERED, Answered, pace
from headgate.policy.question_order import Place, gives_way, place
from headgate.store.operator_protocols import Escalation
from headgate.store.questions import Approval, Displacing, QuestionLoad
from headgate.store.sqlite import history
from headgate.store.sqlite.admissions import RETRY_FLOOR_MS, earliest
from headgate.store.sqlite.claims import suspend
from headgate.store.sqlite.line import line_up
from headgate.store.sqlite.operations import Operations
from headgate.store.sqlite.transaction import Reading, Transaction

_COLUMNS = dataclasses.fields(Approval)
ASKS_AGAIN_MS = 5_000
"""When a run asks again whose question gave way to another."""


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

    async def waiting(
        self, *, queue: str | None, tenant: str | None, limit: int, now_ms: int | None = None
    ) -> list[Approval]:
        def find(tx: Reading) -> list[Approval]:
            with tx.snapshot():
                queues = [name for (name,) in tx.rows("queues_that_wait")] if queue is None else [queue]
                found = [one for name in queues for one in _in_order(tx, name, tenant, limit, now_ms)]
            return [approval for _, approval in sorted(found, key=lambda one: one[0])[:limit]]

        found: list[Approval] = await self._reader.submit(find)
        return found

    async def loads(self, queues: Sequence[str]) -> dict[str, QuestionLoad]:
        def read(tx: Reading) -> dict[str, QuestionLoad]:
            with tx.snapshot():
                return {name: _load(tx, name) for name in queues}

        found: dict[str, QuestionLoad] = await self._reader.submit(read)
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
        asked = dataclasses.replace(
            approval, state="waiting", decided_by=None, decided_ms=None, note=None, lane=run[4], deadline_ms=run[5],
            expires_ms=_expires_ms(tx, approval),
        )  # fmt: skip
        used = _waiting(tx, approval.queue, depth)
        gave_way = _make_room(tx, asked) if used >= depth else None
        if used >= depth and gave_way is None:
            return Refusal(
                Reason.QUEUE_FULL,
                f"approval:{approval.queue}",
                f"{used} questions wait for people and the queue takes {depth}",
                limit=depth,
                used=used,
                retry_after_ms=RETRY_FLOOR_MS,
                unit="approvals",
            )
        _keep(tx, asked)
        if gave_way is not None:
            asked = Displacing(**{field.name: getattr(asked, field.name) for field in _COLUMNS}, gave_way=gave_way)
    suspend(
        tx, run, now_ms=approval.asked_ms, wake_ms=None, reason=Reason.APPROVAL_WAIT.value,
        detail=f"waits for an answer in {asked.queue!r}", attempts=attempts, used_calls=used_calls,
        used_model_tokens=used_model_tokens, used_money=used_money, used_wall_ms=used_wall_ms,
        cost=cost,
    )  # fmt: skip
    return asked


def _expires_ms(tx: Transaction, approval: Approval) -> int:
    """When it expires. One that left this queue before keeps its time; none gives way and comes back for ever."""
    row = tx.row("earlier_expiry_of_step", approval.run_id, f"{approval.step_key}:{approval.queue}:")
    return approval.expires_ms if row is None or row[0] is None else min(approval.expires_ms, row[0])


def _keep(tx: Transaction, approval: Approval) -> None:
    tx.run("keep_approval", *(getattr(approval, field.name) for field in _COLUMNS))


def _waiting(tx: Transaction, queue: str, at_most: int) -> int:
    counted = tx.row("count_waiting_approvals", queue, at_most)
    return 0 if counted is None else int(counted[0])


def _load(tx: Reading, queue: str) -> QuestionLoad:
    rows = tx.rows("load_of_approvals", queue)
    return QuestionLoad(
        waiting={rank: count for rank, count, _ in rows},
        oldest_ms=min((oldest_ms for _, _, oldest_ms in rows), default=None),
        answers=_answers(tx, queue),
    )


def _answers(tx: Reading, queue: str) -> tuple[Answered, ...]:
    return tuple(Answered(*row) for row in tx.rows("latest_answers", queue, ANSWERS_REMEMBERED))


def _takes_ms(tx: Reading, queue: str) -> int:
    known = pace(_answers(tx, queue))
    return 0 if known is None else round(1000 * known.mostly_s)


def _place(approval: Approval, now_ms: int, takes_ms: int) -> Place:
    return place(
        rank=approval.rank,
        asked_ms=approval.asked_ms,
        expires_ms=approval.expires_ms,
        deadline_ms=approval.deadline_ms,
        now_ms=now_ms,
        takes_ms=takes_ms,
    )


def _in_order(
    tx: Reading, queue: str, tenant: str | None, limit: int, now_ms: int | None
) -> list[tuple[Place, Approval]]:
    """The first of what waits in a queue. Without a moment nothing is taken to be late."""
    takes_ms = 0 if now_ms is None else _takes_ms(tx, queue)
    rows = tx.rows("waiting_approvals", queue, tenant, now_ms or 0, (now_ms or 0) + takes_ms, limit)
    return [(_place(one, now_ms or 0, takes_ms), one) for one in (Approval(*row) for row in rows)]


def _make_room(tx: Transaction, asked: Approval) -> Approval | None:
    """Have the last question of a full queue give way, if it should, and return it; ``None``: there is no room."""
    row, now_ms = tx.row("last_waiting_approval", asked.queue), asked.asked_ms
    if row is None:
        return None
    last = Approval(*row)
    if not gives_way(_place(last, now_ms, 0), _place(asked, now_ms, 0)):
        return None
    words = f"its question in {last.queue!r} gave way to one of lane {asked.lane!r}"
    gone = _set_aside(last, now_ms, words)
    tx.run("set_approval_aside", last.id, gone.id, gone.step_key, now_ms, words)
    run = tx.row("run_that_waits_for_approval", last.run_id)
    if run is not None:
        seq, _, _, _, deadline_ms, _ = run
        wake_ms = now_ms + ASKS_AGAIN_MS
        history.keep(
            tx, seq, now_ms=now_ms, state=RunState.SUSPENDED.value, reason=Reason.RETRY_WAIT.value, detail=words
        )
        tx.run("let_run_ask_again", seq, Reason.RETRY_WAIT.value, words, wake_ms, earliest(wake_ms, deadline_ms))
    return last


def _set_aside(question: Approval, now_ms: int, words: str) -> Approval:
    """The record of a question that left its queue unanswered. A step has one question; earlier ones step aside."""
    left = f"{question.queue}:{now_ms}"
    return dataclasses.replace(
        question,
        id=f"{question.id}:{left}",
        step_key=f"{question.step_key}:{left}",
        state="expired",
        decided_ms=now_ms,
        note=words,
    )


def _lapse(tx: Transaction, question: Approval, escalation: Escalation | None, now_ms: int) -> Approval:
    """Nobody answered: on to the next queue, or closed."""
    if escalation is None or _waiting(tx, escalation.queue, escalation.depth) >= escalation.depth:
        return _answer(tx, question, "expired", by=None, note=None, now_ms=now_ms)
    _keep(tx, _set_aside(question, now_ms, f"escalated to {escalation.queue!r}"))
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

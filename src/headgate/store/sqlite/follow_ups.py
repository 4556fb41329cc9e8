"""Follow-ups: runs that make the calls which a succeeded run has postponed. Part of `claims`."""

from __future__ import annotations

from headgate.model.canonical import digest, encode
from headgate.model.degradation import FOLLOW_UP
from headgate.model.duplicates import Duplicates
from headgate.model.step import Effect, Step, StepState
from headgate.store.protocols import FollowUp, RunOffer
from headgate.store.sqlite.admissions import size_of, store_run
from headgate.store.sqlite.rows import RUN_WIDTH, row_of_step, run_of
from headgate.store.sqlite.transaction import Transaction


def begin(tx: Transaction, seq: int, wanted: FollowUp, *, now_ms: int) -> None:
    """Store the run that follows the one which has just ended as ``seq``, with all that one remembers."""
    row = tx.row("run_by_seq", seq)
    if row is None:
        raise ValueError("the run that has ended is there, in the same transaction")
    before = run_of(row[:RUN_WIDTH])
    offer = RunOffer(
        id=wanted.run_id,
        origin_id=before.origin_id,
        replay_of=before.id,
        workflow=before.workflow,
        tenant=before.tenant,
        user=before.user,
        lane=wanted.lane,
        input=before.input,
        now_ms=now_ms,
        available_ms=now_ms,
        queue_deadline_ms=wanted.queue_deadline_ms,
        deadline_ms=wanted.deadline_ms,
        cost=before.cost,
        weight=wanted.weight,
        idempotency_key=None,
        body_hash="",
        content_key=None,
        duplicates=Duplicates.ALLOW,
        bounds=(),
        rates=(),
        budget_calls=before.budget_calls,
        budget_model_tokens=before.budget_model_tokens,
        budget_money=before.budget_money,
        budget_wall_ms=before.budget_wall_ms,
    )
    record, follower, _ = store_run(tx, offer, size_of(offer.input), degraded=False, source=None, foreseen=None)
    if wanted.sheddable:
        tx.run("allow_to_shed", follower)
    tx.run("copy_steps_of_ended", follower, seq)
    tx.run("keep_done_step", follower, *row_of_step(_marker(record.id, before.id, now_ms), StepState.DONE))


def _marker(run_id: str, before: str, now_ms: int) -> Step:
    """Tells the follow-up, and every replay of it, that nothing is postponed any more."""
    return Step(
        key=digest("run", FOLLOW_UP, run_id),
        seq=0,
        resource="run",
        function=FOLLOW_UP,
        nth=0,
        effect=Effect.PURE,
        state=StepState.DONE,
        result=encode({"follows": before}),
        queued_ms=0,
        ran_ms=0,
        tries=0,
        degraded=None,
        model_tokens=0,
        started_ms=now_ms,
        finished_ms=now_ms,
    )

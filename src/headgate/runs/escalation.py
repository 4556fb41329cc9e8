"""A run that used up its attempts may ask a person before it is given up: yes is another round of attempts, no is a
dead letter. The question is an ordinary approval; it belongs to the run's failure instead of a step.
"""

from __future__ import annotations

import logging
from typing import Any

from headgate.config.settings import WorkflowSettings
from headgate.errors import StoreError
from headgate.model.decision import Refusal
from headgate.model.ids import uuid7
from headgate.model.reason import Reason
from headgate.model.run import RunState
from headgate.runs.approvals import NOBODY, rank_of, silence_is_yes, tell_asked
from headgate.runs.attempt import Attempt
from headgate.runs.progress import Equipment
from headgate.runs.values import to_json
from headgate.runs.verdict import Finish, LeaveAlone, TryAgain, Verdict
from headgate.store.protocols import Approval

log = logging.getLogger("headgate.runs")

_STORE_AGAIN_MS = 1000


def queue_of(settings: WorkflowSettings) -> str | None:
    """The queue of people that is asked, if the workflow has one."""
    kind, _, queue = settings.on_failure.partition(":")
    return queue if kind == "approval" else None


async def before_attempt(attempt: Attempt, settings: WorkflowSettings, equipment: Equipment) -> Verdict | None:
    """What people said after the last round of attempts; ``None``: go on."""
    queue, made = queue_of(settings), attempt.run.attempts
    if queue is None or made == 0 or made % settings.attempts:
        return None
    try:
        answer = await _ask(queue, made, {}, attempt, equipment)
    except StoreError as error:
        return TryAgain(equipment.clock.now_ms() + _STORE_AGAIN_MS, made, str(error))
    if answer is None:
        return LeaveAlone(lost=True)
    if isinstance(answer, Refusal):
        return Finish(RunState.FAILED, Reason.APPROVAL_DENIED, answer.detail)
    if answer.state == "waiting":
        return LeaveAlone(lost=False)
    if answer.state == "approved":
        return None
    if silence_is_yes(answer, equipment.settings):
        return None
    words = NOBODY if answer.state == "expired" else f"{answer.decided_by} said no to another round of attempts"
    return Finish(
        RunState.FAILED, Reason.APPROVAL_DENIED, words if answer.note is None else f"{words}: {answer.note}"
    )


async def after_failure(
    outcome: Finish, attempt: Attempt, settings: WorkflowSettings, equipment: Equipment
) -> Verdict:
    """Ask whether the run is to be tried further; the outcome as it was if nobody can be asked."""
    queue = queue_of(settings)
    if queue is None or queue not in equipment.settings.approvals:
        return outcome
    made = attempt.run.attempts + 1
    payload = {
        "question": "The run used up its attempts. Approve to try again, deny to give it up.",
        "workflow": attempt.run.workflow,
        "attempts": made,
        "reason": str(outcome.reason),
        "detail": outcome.detail,
    }
    try:
        answer = await _ask(queue, made, payload, attempt, equipment)
    except StoreError as error:
        log.warning("run %s: people could not be asked: %s", attempt.run.id, error)
        return outcome
    if isinstance(answer, Refusal):
        log.warning("run %s: people could not be asked: %s", attempt.run.id, answer.detail)
        return outcome
    return LeaveAlone(lost=answer is None)


async def _ask(
    queue: str, made: int, payload: dict[str, Any], attempt: Attempt, equipment: Equipment
) -> Approval | Refusal | None:
    run, now_ms, settings = attempt.run, equipment.clock.now_ms(), equipment.settings.approvals.get(queue)
    if settings is None:
        return Refusal(Reason.NOT_FOUND, f"approval:{queue}", f"no approval queue {queue!r} is configured")
    question = Approval(
        id=uuid7(now_ms, equipment.rng.getrandbits),
        queue=queue,
        run_id=run.id,
        tenant=run.tenant,
        step_key=f"failure:{made}",
        payload=to_json(payload, what="the question"),
        asked_ms=now_ms,
        expires_ms=now_ms + round(1000 * settings.max_age),
        rank=rank_of(run.lane, equipment.settings),
    )
    used = attempt.meter
    answer = await equipment.store.approvals.ask(
        question,
        run.owner or "",
        run.term,
        depth=settings.depth,
        attempts=made,
        used_calls=used.used_calls,
        used_model_tokens=used.used_model_tokens,
        used_money=used.used_money,
        used_wall_ms=attempt.wall_ms,
        cost=attempt.cost,
    )
    if isinstance(answer, Approval) and answer.id == question.id:
        tell_asked(answer, attempt, equipment, settings.depth)
    return answer

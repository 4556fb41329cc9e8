"""Questions to people: asked through a bounded queue, waited for without holding anything.

The question is bound to a step of its run. Asking suspends the run in the same write, and unwinds the attempt;
the answer wakes the run, which comes back to the same step and finds the answer in the store. A yes is then
remembered like any step; a no is not, so that a replay asks anew.
"""

from __future__ import annotations

import difflib
from typing import Any

from headgate.config.settings import ApprovalSettings, GateSettings
from headgate.errors import ApprovalDenied, Overloaded, UnknownResource
from headgate.model.canonical import decode, encode
from headgate.model.cost import ASKED
from headgate.model.decision import Refusal
from headgate.model.ids import uuid7
from headgate.runs.attempt import Attempt, AttemptStopped, Stop
from headgate.runs.journal import Place
from headgate.runs.progress import Equipment, Progress, whose
from headgate.runs.values import to_json
from headgate.store.operator_protocols import Escalation
from headgate.store.protocols import Approval
from headgate.store.questions import Displacing

FUNCTION = "approval"
RETRY_S = 5.0
"""When to ask again if the queue of questions is full and does not say."""
NOBODY = "nobody answered in time"


async def ask(queue: str, payload: Any, progress: Progress) -> dict[str, Any]:
    """See `headgate.runs.context.Run.approval`."""
    attempt, journal = progress.attempt, progress.journal
    await attempt.boundary()
    settings = _settings(queue, progress)
    text = to_json(payload, what="the approval's payload")
    place = journal.place(queue, FUNCTION, text)
    known = journal.done(place.key)
    if known is not None:
        answer: dict[str, Any] = decode(known.result or "{}")
        return answer
    try:
        async with attempt.alone():  # suspending the run takes the fence away from calls still in flight
            await journal.write_choices()
            return await _put(queue, text, place, settings, progress)
    except ApprovalDenied:
        raise  # this question has its answer; the same one again is another
    except BaseException:
        journal.give_back(place)
        raise


async def _put(
    queue: str, payload: str, place: Place, settings: ApprovalSettings, progress: Progress
) -> dict[str, Any]:
    attempt, equipment = progress.attempt, progress.equipment
    run, now_ms = attempt.run, equipment.clock.now_ms()
    question = Approval(
        id=uuid7(now_ms, equipment.rng.getrandbits),
        queue=queue,
        run_id=run.id,
        tenant=run.tenant,
        step_key=place.key,
        payload=payload,
        asked_ms=now_ms,
        expires_ms=now_ms + round(1000 * settings.max_age),
        rank=rank_of(run.lane, equipment.settings),
    )
    answer = await equipment.store.approvals.ask(
        question,
        run.owner or "",
        run.term,
        depth=settings.depth,
        used_calls=progress.meter.used_calls,
        used_model_tokens=progress.meter.used_model_tokens,
        used_money=progress.meter.used_money,
        used_wall_ms=attempt.wall_ms,
        cost=attempt.cost,
    )
    if answer is None:
        raise attempt.lose()
    if isinstance(answer, Refusal):
        wait_s = RETRY_S if answer.retry_after_ms is None else answer.retry_after_ms / 1000
        raise Overloaded(
            answer.reason, scope=answer.scope, retry_after_s=wait_s, limit=answer.limit, used=answer.used
        )
    if answer.state == "waiting":
        if answer.id == question.id:
            tell_asked(answer, attempt, equipment, settings.depth)
        attempt.request_stop(Stop.ASKED)
        attempt.signalled = True
        raise AttemptStopped
    return await _decided(answer, place, progress)


def tell_asked(question: Approval, attempt: Attempt, equipment: Equipment, depth: int) -> None:
    """A question was put into its queue, and perhaps another one gave way to it."""
    equipment.bus.emit(
        "approval_asked", **whose(attempt), queue=question.queue, approval_id=question.id, queue_limit=depth
    )
    gone = question.gave_way if isinstance(question, Displacing) else None
    if gone is not None:
        equipment.bus.emit(
            "approval_displaced",
            tenant=gone.tenant,
            lane=gone.lane,
            run_id=gone.run_id,
            queue=gone.queue,
            approval_id=gone.id,
            for_lane=question.lane,
            queued_ms=question.asked_ms - gone.asked_ms,
            queue_limit=depth,
        )


async def _decided(answer: Approval, place: Place, progress: Progress) -> dict[str, Any]:
    if answer.state == "approved":
        given = {"approved_by": answer.decided_by, "note": answer.note}
    elif silence_is_yes(answer, progress.equipment.settings):
        given = {"approved_by": None, "note": NOBODY}
    else:
        words = NOBODY if answer.state == "expired" else f"denied by {answer.decided_by}"
        raise ApprovalDenied(answer.queue, reason=words if answer.note is None else f"{words}: {answer.note}")
    now_ms = progress.equipment.clock.now_ms()
    progress.attempt.note_use(ASKED + answer.queue, calls=0, busy_s=0.0, model_tokens=0)
    progress.journal.choose(place, encode(given), now_ms, degraded=None)
    await progress.journal.write_choices()
    return given


def silence_is_yes(answer: Approval, settings: GateSettings) -> bool:
    """Whether nobody answered, and the queue that the question was in at last takes that for a yes."""
    queue = settings.approvals.get(answer.queue)
    return answer.state == "expired" and queue is not None and queue.on_expiry == "approve"


def rank_of(lane: str, settings: GateSettings) -> int:
    """The lane's place in the file; lanes that it does not list come last."""
    lanes = list(settings.lanes)
    return lanes.index(lane) if lane in settings.lanes else len(lanes)


def escalations(settings: GateSettings) -> dict[str, Escalation]:
    """Where unanswered questions go on to, by the queue that they are in."""
    found = {}
    for name, queue in settings.approvals.items():
        following = None if queue.escalate_to is None else settings.approvals.get(queue.escalate_to)
        if queue.on_expiry == "escalate" and queue.escalate_to is not None and following is not None:
            found[name] = Escalation(queue.escalate_to, following.depth, round(1000 * following.max_age))
    return found


def _settings(queue: str, progress: Progress) -> ApprovalSettings:
    queues = progress.equipment.settings.approvals
    settings = queues.get(queue)
    if settings is None:
        near = difflib.get_close_matches(queue, queues, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise UnknownResource(f"no approval queue {queue!r} is configured{hint}")
    return settings

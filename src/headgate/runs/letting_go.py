"""Letting go of a run that has not ended: back in line, or suspended until something wakes it."""

from __future__ import annotations

from enum import Enum
from typing import TypedDict

from headgate.config.settings import WorkflowSettings
from headgate.model.reason import Reason
from headgate.runs.attempt import Attempt
from headgate.runs.budget import ceilings_of
from headgate.runs.verdict import AwaitChildren, Pause, PutBack, TryAgain
from headgate.store.protocols import Store

LetGo = PutBack | TryAgain | Pause | AwaitChildren
LOOK_AGAIN_MS = 300_000
"""A run that waits for sub-runs looks after them so often even if nothing wakes it."""


class Written(Enum):
    """What became of a run that was let go."""

    NOT = "not ours any more"
    YES = "as it was meant"
    IN_LINE = "back in line, because what it waited for came meanwhile"


class _Used(TypedDict):
    used_calls: int
    used_model_tokens: int
    used_money: float
    used_wall_ms: int
    cost: float


async def let_go(
    attempt: Attempt, outcome: LetGo, *, store: Store, owner: str, settings: WorkflowSettings, now_ms: int
) -> Written:
    """Write it, fenced.

    Raises:
        StoreError: the store does not take it now.
    """
    run, meter, claims = attempt.run, attempt.meter, store.claims
    held = (run.id, owner, run.term)
    used: _Used = {
        "used_calls": meter.used_calls,
        "used_model_tokens": meter.used_model_tokens,
        "used_money": meter.used_money,
        "used_wall_ms": attempt.wall_ms,
        "cost": attempt.cost,
    }
    if isinstance(outcome, Pause):
        until_ms = now_ms + round(1000 * settings.budget.patience)
        known = ceilings_of(attempt)
        paused = await claims.pause(
            *held, now_ms=now_ms, until_ms=until_ms, known=known, detail=outcome.detail, **used
        )
        if paused is None:
            return Written.NOT
        return Written.YES if paused else Written.IN_LINE
    if isinstance(outcome, AwaitChildren):
        waits = await store.children.wait(
            *held,
            now_ms=now_ms,
            branches=outcome.branches,
            wake_ms=now_ms + LOOK_AGAIN_MS,
            detail=outcome.detail,
            **used,
        )
        if waits is None:
            return Written.NOT
        if waits:
            return Written.YES
        fenced = await claims.release(*held, now_ms=now_ms, reason=Reason.CHILDREN_WAIT, **used)
        return Written.IN_LINE if fenced else Written.NOT
    if isinstance(outcome, TryAgain):
        fenced = await claims.suspend(
            *held,
            now_ms=now_ms,
            wake_ms=outcome.wake_ms,
            reason=Reason.RETRY_WAIT,
            detail=outcome.detail,
            attempts=outcome.attempts,
            **used,
        )
    else:
        fenced = await claims.release(*held, now_ms=now_ms, reason=outcome.reason, **used)
    return Written.YES if fenced else Written.NOT


def waits_for(outcome: LetGo) -> tuple[Reason, int | None] | None:
    """Why it is suspended, and until when if that is known; ``None``: it went back in line."""
    match outcome:
        case Pause():
            return Reason.BUDGET_WAIT, None
        case AwaitChildren():
            return Reason.CHILDREN_WAIT, None
        case TryAgain(wake_ms=wake_ms):
            return Reason.RETRY_WAIT, wake_ms
        case PutBack():
            return None

"""What becomes of a run when an attempt is over: ended, put back, suspended for a retry, or nothing to write."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from headgate.errors import (
    ApprovalDenied,
    BudgetExhausted,
    ChildFailed,
    Expired,
    LeaseLost,
    LoopDetected,
    Overloaded,
    StoreError,
    UnknownOutcome,
    UnusableResult,
)
from headgate.guard import classify
from headgate.model.cost import ASKED
from headgate.model.outcome import Outcome
from headgate.model.reason import Reason
from headgate.model.run import RunRecord, RunState
from headgate.model.step import Step
from headgate.policy import backoff
from headgate.runs.attempt import Attempt, AttemptStopped, Stop
from headgate.runs.values import describe

BACKOFF_S = 1.0
"""First wait before a run is tried again; doubles with every attempt."""
BACKOFF_AT_MOST_S = 60.0
HINT_AT_MOST_S = 600.0
"""The longest hint of a refusal that a run waits for."""
THROTTLED_AT_MOST_S = 86400.0
ASKS_AGAIN_AT_MOST_S = 5.0
"""The longest wait of a run that found a queue of people full, however often. To ask costs a read and a write and
no call; who waits for longer stays away while places are free."""
UNUSABLE_AT_MOST = 30
"""A run that went aside because of unusable answers does so without counting an attempt until it was taken up so
often."""
_REASONS = {
    Outcome.TIMEOUT: Reason.TIMEOUT,
    Outcome.OVERLOADED: Reason.PROVIDER_OVERLOADED,
    Outcome.FAILED: Reason.ERROR,
    Outcome.QUOTA: Reason.QUOTA_EXHAUSTED,
    Outcome.CALLER_ERROR: Reason.CALLER_ERROR,
}
_RETRYABLE = frozenset({Outcome.TIMEOUT, Outcome.OVERLOADED, Outcome.FAILED})
_DEEPEST = 8
CLOCKS_APART_MS = 50


@dataclass(frozen=True, slots=True)
class Finish:
    """The run ends."""

    state: RunState
    reason: str
    detail: str | None = None
    result: str | None = None
    exhausted: bool = False
    """It could have been tried again, but its attempts are used up."""


@dataclass(frozen=True, slots=True)
class PutBack:
    """The run goes back in line, unharmed."""

    reason: str


@dataclass(frozen=True, slots=True)
class TryAgain:
    """The run waits and is tried again."""

    wake_ms: int
    attempts: int
    detail: str


@dataclass(frozen=True, slots=True)
class Pause:
    """The run waits until somebody raises its ceiling."""

    detail: str


@dataclass(frozen=True, slots=True)
class AwaitChildren:
    """The run waits until the sub-runs of one of these groups have ended."""

    branches: tuple[tuple[str, ...], ...]
    detail: str


@dataclass(frozen=True, slots=True)
class LeaveAlone:
    """Nothing is to be written: the lease is lost, or the run was suspended already."""

    lost: bool


Verdict = Finish | PutBack | TryAgain | Pause | AwaitChildren | LeaveAlone


def of_stop(attempt: Attempt) -> Verdict | None:
    """The verdict that a request to stop decides, whatever the workflow made of it; ``None`` if there is none."""
    match attempt.stop:
        case None:
            return None
        case Stop.LOST:
            return LeaveAlone(lost=True)
        case Stop.ASKED:
            return LeaveAlone(lost=False)
        case Stop.DEADLINE:
            return Finish(RunState.EXPIRED, Reason.DEADLINE_PASSED, "its deadline passed while it ran")
        case Stop.CANCEL:
            return Finish(RunState.CANCELLED, Reason.CANCELLED)  # the row says who asked
        case Stop.NOW:
            return PutBack(Reason.DRAINING)
        case Stop.BUDGET:
            return _at_ceiling(attempt) if attempt.signalled else None
        case Stop.LOOP:
            return Finish(RunState.FAILED, Reason.LOOP_DETECTED, attempt.loop)
        case Stop.STEP:
            return PutBack(attempt.step_reason) if attempt.signalled else None


def _at_ceiling(attempt: Attempt) -> Verdict:
    if attempt.awaits:
        return AwaitChildren(attempt.awaits, "waits for sub-runs to give back what they do not use of its budget")
    words = str(attempt.ceiling)
    return Finish(RunState.FAILED, Reason.BUDGET_EXHAUSTED, words) if attempt.ceiling_fails else Pause(words)


def of_error(
    error: BaseException,
    attempt: Attempt,
    *,
    unknown: Step | None,
    attempts_at_most: int,
    now_ms: int,
    rng: Random,
) -> Verdict:
    """The verdict on an exception that left the workflow. ``unknown``: a begun ``once`` step, if there is one."""
    cause = leading(error)
    certain = _certain(cause, attempt.run.deadline_ms, now_ms)
    if certain is not None:
        return certain
    reason, again, hint_s, throttled = _how_it_failed(cause, attempt, now_ms)
    if unknown is not None and (again or reason is not Reason.ERROR):
        words = f"{unknown.function} on {unknown.resource} may have taken effect. {describe(cause)}"
        return Finish(RunState.FAILED, Reason.UNKNOWN_OUTCOME, words)
    run = attempt.run
    if again and throttled:
        most_s = ASKS_AGAIN_AT_MOST_S if _people_full(cause) else BACKOFF_AT_MOST_S
        wake_ms = _after_throttle_ms(run, hint_s, now_ms, rng, grows=not _unusable(cause), most_s=most_s)
        if wake_ms is not None:
            return TryAgain(wake_ms, run.attempts, describe(cause))
        again = False
    made = run.attempts + 1
    # More than that many were made only if people allowed another round.
    allowed = attempts_at_most * (1 + run.attempts // attempts_at_most)
    if again and made < allowed:
        wake_ms = now_ms + _wait_ms(made - 1, hint_s, rng)
        if run.deadline_ms is None or wake_ms < run.deadline_ms:
            return TryAgain(wake_ms, made, describe(cause))
    return Finish(RunState.FAILED, reason, describe(cause), exhausted=again and made >= allowed)


def _certain(cause: BaseException, deadline_ms: int | None, now_ms: int) -> Verdict | None:
    """The verdict on errors that leave no choice."""
    match cause:
        case AttemptStopped() | LeaseLost():
            return LeaveAlone(lost=True)
        case KeyboardInterrupt():
            return PutBack(Reason.INTERRUPTED)
        case BudgetExhausted():
            return Finish(RunState.FAILED, Reason.BUDGET_EXHAUSTED, describe(cause))
        case LoopDetected():
            return Finish(RunState.FAILED, Reason.LOOP_DETECTED, describe(cause))
        case UnknownOutcome():
            return Finish(RunState.FAILED, Reason.UNKNOWN_OUTCOME, describe(cause))
        case ChildFailed():
            return Finish(RunState.FAILED, Reason.CHILD_FAILED, describe(cause))
        case ApprovalDenied():
            return Finish(RunState.FAILED, Reason.APPROVAL_DENIED, describe(cause))
        case Expired() | Overloaded(reason=Reason.DEADLINE_UNREACHABLE) if _passed(deadline_ms, now_ms):
            return Finish(RunState.EXPIRED, Reason.DEADLINE_PASSED, describe(cause))
        case Overloaded(reason=Reason.DEADLINE_UNREACHABLE) if deadline_ms is not None:
            return Finish(RunState.EXPIRED, Reason.DEADLINE_UNREACHABLE, describe(cause))
    return None


def _unusable(error: BaseException) -> bool:
    """Whether it is the refusal of a repair: the dependency answers, and to wait for longer makes it no better."""
    return isinstance(error, Overloaded) and isinstance(error.__cause__, UnusableResult)


def _people_full(error: BaseException) -> bool:
    """Whether it is the refusal of a question by a full queue of people."""
    return isinstance(error, Overloaded) and error.reason == Reason.QUEUE_FULL and error.scope.startswith(ASKED)


def _after_throttle_ms(
    run: RunRecord, hint_s: float | None, now_ms: int, rng: Random, *, grows: bool, most_s: float
) -> int | None:
    """When a run that met a lack of room is tried again; ``grows``: later each time, up to ``most_s`` seconds or the
    hint. That is no failed attempt: it ends at the deadline only, or without one a day after the first start,
    because nothing waits for ever."""
    started_ms = now_ms if run.started_ms is None else run.started_ms
    latest_ms = started_ms + round(1000 * THROTTLED_AT_MOST_S) if run.deadline_ms is None else run.deadline_ms
    wake_ms = now_ms + _wait_ms(run.term - 1 if grows else 0, hint_s, rng, most_s=most_s)
    if wake_ms >= latest_ms and hint_s is not None:
        wake_ms = now_ms + round(1000 * hint_s)  # without the jitter it may still be in time
    return wake_ms if wake_ms < latest_ms else None


def _wait_ms(nth: int, hint_s: float | None, rng: Random, *, most_s: float = BACKOFF_AT_MOST_S) -> int:
    own_s = backoff.delay_s(max(0, nth), base_s=BACKOFF_S, most_s=most_s, jitter=rng.uniform(0.5, 1.0))
    if hint_s is not None:  # jittered upward, so that those told the same moment do not come back together
        own_s = max(own_s, min(hint_s, HINT_AT_MOST_S) * rng.uniform(1.0, 1.25))
    return max(1, round(1000 * own_s))


def leading(error: BaseException) -> BaseException:
    """The error that decides: of a group, the weightiest inside; else itself."""
    if not isinstance(error, BaseExceptionGroup):
        return error
    leaves = [leading(one) for one in error.exceptions]
    for kinds in (AttemptStopped, UnknownOutcome, BudgetExhausted, LoopDetected, ApprovalDenied, ChildFailed):
        for leaf in leaves:
            if isinstance(leaf, kinds):
                return leaf
    return next((leaf for leaf in leaves if not isinstance(leaf, Overloaded)), leaves[0])


def _passed(deadline_ms: int | None, now_ms: int) -> bool:
    """Whether the run's own deadline is the one that passed; a guard's clock may be a moment ahead of ours."""
    return deadline_ms is not None and now_ms >= deadline_ms - CLOCKS_APART_MS


def _how_it_failed(error: BaseException, attempt: Attempt, now_ms: int) -> tuple[str, bool, float | None, bool]:
    """Reason, whether the run may be tried again, the hint on when, and whether it only met a lack of room."""
    if isinstance(error, SystemExit):  # counted, so that a workflow that ends its process does not do so for ever
        return Reason.INTERRUPTED, True, None, False
    if isinstance(error, Overloaded):
        throttled = error.retryable and not (_unusable(error) and attempt.run.term > UNUSABLE_AT_MOST)
        return error.reason, error.retryable, error.retry_after_s, throttled
    if isinstance(error, StoreError):
        return Reason.STORE_UNAVAILABLE, True, None, False
    if isinstance(error, Expired):
        return Reason.TIMEOUT, True, None, False
    if isinstance(error, UnusableResult):
        return Reason.ERROR, True, None, False
    if not _from_a_call(error, attempt):
        return Reason.ERROR, False, None, False
    result = classify.of_error(error, now_ms=now_ms)
    reason = _REASONS.get(result.outcome, Reason.ERROR)
    throttled = result.outcome is Outcome.OVERLOADED and result.status is not None
    return reason, result.outcome in _RETRYABLE, result.retry_after_s, throttled


def _from_a_call(error: BaseException, attempt: Attempt) -> bool:
    """Whether a call on a resource raised it, or what it was explicitly raised from."""
    cause: BaseException | None = error
    for _ in range(_DEEPEST):
        if cause is None:
            return False
        if any(cause is one for one in attempt.call_errors):
            return True
        cause = cause.__cause__
    return False

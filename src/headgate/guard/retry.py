"""May this failed try be repeated, and when? One decision for async and sync callers."""

from __future__ import annotations

import random
from typing import NamedTuple

from headgate.config.settings import RetrySettings
from headgate.guard.options import CallOptions
from headgate.model.outcome import CallResult, Outcome
from headgate.policy.backoff import delay_s
from headgate.policy.retry_budget import RetryBudget, RetryKind

_KINDS = {
    Outcome.OVERLOADED: RetryKind.THROTTLE,
    Outcome.FAILED: RetryKind.TRANSIENT,
    Outcome.TIMEOUT: RetryKind.TIMEOUT,
}
_SURELY_NOT_REACHED = (429, 529)
"""Answers with which a dependency says that it did not take the work on."""


class Again(NamedTuple):
    """The verdict on a failed try."""

    delay_s: float | None
    """Seconds to wait outside before competing again; ``None``: no further try."""
    kind: RetryKind = RetryKind.TRANSIENT
    out_of_budget: bool = False
    """A retry was due, but the resource's retry budget has no room."""


NO = Again(None)


def worth_repeating(result: CallResult, options: CallOptions) -> RetryKind | None:
    """The kind of retry that an ending allows, whatever budget and deadline say; ``None`` for none."""
    kind = _KINDS.get(result.outcome)
    if kind is None or not options.retry or result.should_retry is False:
        return None
    return None if options.once and not surely_not_reached(result) else kind


def surely_not_reached(result: CallResult) -> bool:
    """Whether the dependency certainly did not act on the call: it said so, or refused the connection."""
    return result.outcome is Outcome.OVERLOADED and (result.status is None or result.status in _SURELY_NOT_REACHED)


def again(
    result: CallResult,
    options: CallOptions,
    settings: RetrySettings,
    budget: RetryBudget,
    rng: random.Random,
    *,
    tries: int,
    now: float,
    deadline: float | None,
) -> Again:
    """Decide after try number ``tries`` (1 is the first) ended with ``result``; takes from the budget on a yes.

    Not thread-safe by itself; the caller holds the budget's lock.
    """
    kind = worth_repeating(result, options)
    if kind is None or tries >= settings.attempts:
        return NO
    wait_s = delay_s(
        tries - 1,
        base_s=settings.base,
        most_s=settings.max_delay,
        jitter=rng.random(),
        hint_s=result.retry_after_s,
    )
    if deadline is not None and now + wait_s >= deadline:
        return NO
    if not budget.withdraw(kind, now=now):
        return Again(None, kind, out_of_budget=True)
    return Again(wait_s, kind)

"""Refusals of what an operator has paused or drained: 503, because nothing is there."""

from __future__ import annotations

from dataclasses import replace

from headgate.model.control import Control
from headgate.model.decision import Refusal
from headgate.model.reason import Reason

RETRY_MS = 60_000
"""When to ask again for what is paused or drained until somebody ends it."""
LEAST_MS = 1000


def drained(drain: Control, *, now_ms: int) -> Refusal:
    """The fleet takes in nothing new."""
    return Refusal(
        Reason.DRAINING,
        drain.target,
        "the fleet is drained: it takes in nothing new, and finishes what it has",
        retry_after_ms=_wait_ms(drain, now_ms),
    )


def full_and_paused(refusal: Refusal, pause: Control, *, now_ms: int) -> Refusal:
    """A full queue that nobody works on: not contended, but nothing there."""
    return replace(
        refusal,
        reason=Reason.PAUSED,
        scope=pause.target,
        detail=f"{pause.target} is paused and its queue is full",
        retry_after_ms=_wait_ms(pause, now_ms),
    )


def _wait_ms(control: Control, now_ms: int) -> int:
    return max(LEAST_MS, RETRY_MS if control.until_ms is None else control.until_ms - now_ms)

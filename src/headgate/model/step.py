"""A step: one remembered call inside a run."""

from __future__ import annotations

from enum import StrEnum

from headgate.model.record import record


class Effect(StrEnum):
    """What repeating a step's call would do."""

    PURE = "pure"
    """May be repeated freely."""
    IDEMPOTENT = "idempotent"
    """May be repeated with the same idempotency key, which is offered to the callee at every attempt."""
    ONCE = "once"
    """Must not be repeated: the intent is written first, and an unknown outcome goes to a person."""


class StepState(StrEnum):
    BEGUN = "begun"
    """The intent of a ``once`` step is written; whether it took effect is unknown."""
    DONE = "done"


@record
class Step:
    """What the journal remembers of one call. ``key`` is unique within the run."""

    key: str
    """Digest of (resource, function, arguments, nth time)."""
    seq: int
    """Order of first appearance in the run, from 0."""
    resource: str
    function: str
    nth: int
    effect: Effect
    state: StepState
    result: str | None
    """JSON text of what the call returned."""
    queued_ms: int
    """Milliseconds spent waiting for a slot, over all tries."""
    ran_ms: int
    """Milliseconds spent in the call itself, over all tries."""
    tries: int
    degraded: str | None
    """What it was degraded to (e.g. the fallback resource's name), if it was."""
    model_tokens: int
    started_ms: int
    finished_ms: int | None
    money: float = 0.0
    """What the call cost, where that is known."""
    input_tokens: int | None = None
    """Model tokens of the prompt, where the model reported them."""
    degradation: str | None = None
    """JSON text of what was degraded and why, see `headgate.model.degradation`."""

"""Questions to people, as the store keeps them. Times are integer milliseconds since the epoch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from headgate.policy.people import Answered


@dataclass(frozen=True, slots=True)
class Approval:
    """A question to a person, bound to one step of one run."""

    id: str
    queue: str
    run_id: str
    tenant: str
    step_key: str
    payload: str
    """JSON text shown to the person."""
    asked_ms: int
    expires_ms: int
    state: str = "waiting"
    """``waiting``, ``approved``, ``denied`` or ``expired``."""
    decided_by: str | None = None
    decided_ms: int | None = None
    note: str | None = None
    lane: str = ""
    """Of its run."""
    rank: int = 0
    """Of its lane when it was asked; 0 goes first."""
    deadline_ms: int | None = None
    """Of its run, after which nobody needs the answer."""


@dataclass(frozen=True, slots=True)
class Displacing(Approval):
    """A question that found room in a full queue because another one gave way."""

    gave_way: Approval | None = None
    """That one, as it waited."""


@dataclass(frozen=True, slots=True)
class QuestionLoad:
    """What waits in one queue of people, and how it was answered lately."""

    waiting: Mapping[int, int]
    """Rank of the lane → questions that wait."""
    oldest_ms: int | None
    """When the oldest of them was asked."""
    answers: tuple[Answered, ...] = ()
    """The latest ones."""

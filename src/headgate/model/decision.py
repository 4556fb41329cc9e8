"""What intake answers: admitted, or refused with everything a caller needs to act on it."""

from __future__ import annotations

from dataclasses import dataclass

from headgate.model.reason import CONTENDED, NOTHING_THERE, Reason
from headgate.model.record import record
from headgate.model.run import RunRecord


@dataclass(frozen=True, slots=True)
class Refusal:
    """A *no* that says whose limit it was, how full, until when, and what to do instead."""

    reason: Reason
    scope: str
    """Whose limit: ``workflow:triage``, ``tenant:acme``, ``lane:background``, ``fleet`` …"""
    detail: str
    limit: float | None = None
    used: float | None = None
    retry_after_ms: int | None = None
    """``None``: the same request cannot succeed later."""
    window_s: float | None = None
    """Length of the window, for rate limits."""
    unit: str = "runs"
    run_id: str | None = None
    """The run this refusal is about, where there is one (a duplicate, a key's first use)."""
    rule: str | None = None
    """Which of the configured ``limits``, by its name or, without one, its place in the list: ``limits[0]``."""
    ahead: int | None = None
    """Runs that were ahead of it in its lane, where that is why it was refused."""

    @property
    def contended(self) -> bool:
        return self.reason in CONTENDED

    @property
    def nothing_there(self) -> bool:
        return self.reason in NOTHING_THERE


@record
class Admission:
    """A *yes*: the run as stored and where it stands."""

    run: RunRecord
    created: bool
    """False when an idempotency key or a collapsed duplicate led to an existing run."""
    position: int
    """Runs that will start before it, as far as known now; 0 is next, also for runs no longer waiting."""
    eta_ms: int | None = None
    """Milliseconds until it should start (p50); ``None`` while nothing is known about the rate of starts."""
    limits: tuple[LimitUse, ...] = ()
    shadowed: tuple[str, ...] = ()
    """Names of the shadow limits that would have refused it."""
    paused: str | None = None
    """What is paused so that it waits until somebody resumes it: ``workflow:triage`` or ``lane:background``."""
    made_room: tuple[MadeRoom, ...] = ()
    """Waiting runs of lower lanes that were lost to it."""
    eta_p90_ms: int | None = None
    """Nine of ten such runs have started by then."""
    finish_ms: int | None = None
    """Milliseconds until it should have ended (p50); ``None`` until enough runs of its workflow have ended."""
    finish_p90_ms: int | None = None
    collapsed: bool = False
    """The run is that of another submission with the same content, and keeps that one's lane."""


@dataclass(frozen=True, slots=True)
class MadeRoom:
    """A waiting run that ended as ``shed`` because one of a higher lane came."""

    run_id: str
    workflow: str
    tenant: str
    lane: str


@record
class LimitUse:
    """One limit that applied to a request, for the ``RateLimit`` header fields."""

    name: str
    limit: int
    remaining: int
    unit: str
    window_s: float | None
    """``None`` for bounds without a window (queue depth)."""
    reset_s: float | None
    rule: str = ""
    """Which of the configured ``limits``; empty for any other limit."""

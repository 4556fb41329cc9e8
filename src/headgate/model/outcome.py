"""How one call on a resource ended, as its limiter, breaker and retry rules need to know it."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


class Outcome(StrEnum):
    """The classes of endings. A slot ends exactly once, with one of these."""

    OK = "ok"
    FAILED = "failed"
    """The dependency is at fault: 5xx, broken connection, malformed answer. Counts against the breaker."""
    TIMEOUT = "timeout"
    """No answer in time. Counts against the breaker and says nothing good about capacity."""
    OVERLOADED = "overloaded"
    """429, 503, 529, refused connection. Moves the limit; a 429 never counts as broken."""
    CALLER_ERROR = "caller_error"
    """Our request was wrong. Says the dependency is alive; never retried."""
    QUOTA = "quota"
    """Money or quota is used up. Never retried."""
    IGNORED = "ignored"
    """Cancelled or interrupted by us; no sample, no evidence."""


@dataclass(frozen=True, slots=True)
class RateWindow:
    """One limit as a provider's headers tell it; ``None`` is unknown, never zero."""

    unit: str
    """``requests``, ``model_tokens``, ``input_tokens``, ``output_tokens``."""
    limit: int | None
    remaining: int | None
    reset_s: float | None
    """Seconds until the window is full again."""


@dataclass(frozen=True, slots=True)
class CallResult:
    """One classified ending."""

    outcome: Outcome
    status: int | None = None
    """HTTP status, where there was one."""
    retry_after_s: float | None = None
    """The dependency's own hint."""
    should_retry: bool | None = None
    """The dependency's ``x-should-retry``."""
    model_tokens: int | None = None
    """Reported usage."""
    windows: tuple[RateWindow, ...] = field(default=())
    sdk_retries: int = 0
    """Retries that an SDK made inside the call, where it said so."""
    refused_concurrency: bool = False
    """The refusal was about simultaneous calls rather than a rate."""
    no_use: bool = False
    """An answer came that its caller cannot use, though it is one of the resource's ordinary answers."""

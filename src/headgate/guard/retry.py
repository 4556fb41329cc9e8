"""May this failed try be repeated at all, and after which wait? What it costs is in `headgate.guard.retries`."""

from __future__ import annotations

from typing import NamedTuple

from headgate.config.settings import RetrySettings
from headgate.guard.options import CallOptions
from headgate.model.outcome import CallResult, Outcome
from headgate.policy.backoff import delay_s
from headgate.policy.retry_budget import RetryKind

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
    """A retry was due, but the resource's or the run's retry budget has no room."""
    later_s: float | None = None
    """A retry is due, but after a wait that is not sat through here: seconds until then."""
    told: bool = False
    """The dependency itself named that moment."""


NO = Again(None)


def worth_repeating(result: CallResult, options: CallOptions) -> RetryKind | None:
    """The kind of retry that an ending allows, whatever budget and deadline say; ``None`` for none."""
    kind = _KINDS.get(result.outcome)
    if kind is None or not options.retry or result.should_retry is False:
        return None
    return None if options.once and not surely_not_reached(result) else kind


def surely_not_reached(result: CallResult) -> bool:
    """Whether the dependency certainly did not take the call on: it said so, or refused the connection."""
    return result.outcome is Outcome.OVERLOADED and (result.status is None or result.status in _SURELY_NOT_REACHED)


def wait_before(result: CallResult, settings: RetrySettings, *, tries: int, jitter: float) -> float:
    """Seconds to wait after try number ``tries`` (1 is the first). ``jitter`` is uniform in 0..1."""
    return delay_s(
        tries - 1,
        base_s=settings.base,
        most_s=settings.max_delay,
        jitter=jitter,
        hint_s=result.retry_after_s,
    )

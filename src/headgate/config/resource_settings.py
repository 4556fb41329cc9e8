"""Settings of tools, models and stages: what bounds one call."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from headgate.config.fields import Count, Mode, Names, Settings
from headgate.config.units import (
    Amount,
    Concurrency,
    ConcurrencyField,
    Number,
    RateField,
    Seconds,
    Share,
    Size,
    Whole,
)


class WaitQueueSettings(Settings):
    """The bounded queue in front of a resource."""

    depth: Annotated[Whole, Field(ge=1, le=100_000)] = 100
    max_age: Seconds = 30.0
    """Nothing waits longer for a slot."""
    max_age_down: Seconds | None = None
    """How long a call may wait, within ``max_age``, while nothing is there (breaker open, paused); by default it is
    refused at once."""
    bytes: Size = 64 * 1024 * 1024
    """Arguments of all waiting calls together, as far as their sizes are given."""


class BreakerSettings(Settings):
    """Circuit breaker of a resource."""

    kind: Literal["soft", "hard"] = "soft"
    """``soft``: a trickle of probes, two clean ones close it. ``hard``: stays away, one clean probe closes it."""
    failure_rate: Share = 0.8
    """Opens at this share of failures among the window's calls, if it is no accident …"""
    minimum_calls: Annotated[Whole, Field(ge=2, le=1000)] = 8
    """… with at least so many of them …"""
    consecutive: Annotated[Whole, Field(ge=2, le=1000)] = 8
    """… or after so many failures in a row."""
    window: Seconds = 60.0
    probe_every: Seconds = 1.0
    """Of a soft breaker, the time to the first probe; doubles with every failed one, jittered by a quarter."""
    probe_at_most: Seconds = 30.0
    open_for: Seconds = 10.0
    """Of a hard breaker, the first open time; doubles with every failed probe, jittered by a quarter."""
    open_at_most: Seconds = 300.0

    @model_validator(mode="after")
    def _times_grow(self) -> Self:
        if self.probe_every > self.probe_at_most:
            raise ValueError(
                f"probe_every ({self.probe_every:g}s) is longer than probe_at_most ({self.probe_at_most:g}s)"
            )
        return self


class RetrySettings(Settings):
    """Retries of one call. Each one gives its slot back, waits outside and competes again."""

    attempts: Annotated[Whole, Field(ge=1, le=20)] = 3
    """Tries in all; 1 means no retry."""
    budget: Share = 0.1
    """Retries allowed as a share of successful calls."""
    base: Seconds = 0.5
    """First backoff; doubles with every retry, with full jitter."""
    max_delay: Seconds = 30.0
    """The longest backoff, and the longest server hint that is waited for in place."""
    max_inline: Seconds = 5.0
    """Inside a run, a longer wait suspends the run instead; it also bounds the wait while too many retries are
    under way."""


class PauseUntil(Settings):
    """The lower thresholds; half of the upper ones by default."""

    p95: Seconds | None = None
    error_rate: Share | None = None


class PauseWhen(Settings):
    """Work that is held back while this resource is in trouble. One sign begins it; all must be gone to end it."""

    p95: Seconds | None = None
    """Trouble: the p95 of recent successful calls is above this …"""
    error_rate: Share | None = None
    """… or the share of recent calls that failed is above this …"""
    breaker: Literal["open"] | None = None
    """… or the breaker is not closed …"""
    after: Seconds = 10.0
    """… for so long without a break; and it has been gone for as long before the work goes on."""
    least_calls: Count = 8
    """With fewer calls in the last minute, p95 and error rate say nothing."""
    until: PauseUntil = PauseUntil()
    pauses: Annotated[tuple[str, ...], Field(min_length=1, max_length=100)]
    """What is held back: ``resource:publish``, ``lane:background``, ``workflow:report``."""
    thin_to: Share | None = None
    """Instead of a pause: the part of their slots that these lanes and resources keep."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.p95 is None and self.error_rate is None and self.breaker is None:
            raise ValueError("needs p95, error_rate or breaker, for example {p95: 8s, pauses: [lane:background]}")
        for sign in ("p95", "error_rate"):
            upper, lower = getattr(self, sign), getattr(self.until, sign)
            if lower is not None and (upper is None or lower > upper):
                raise ValueError(f"until.{sign} belongs to a {sign} that is at least as large")
        return self


class StaleSettings(Settings):
    """Last good answers, kept for calls that allow a stale one."""

    keep: Annotated[Whole, Field(ge=1, le=1_000_000)] = 1000
    """Answers; the one unused for longest goes first."""
    max_age: Seconds = 3600.0
    """Older ones are never given out."""


class PlainSettings(Settings):
    """The rule that an operator can explain: errors halve the limit, slowness takes two, calm adds one."""

    slow: Seconds
    """p95 above which the limit falls by two."""
    fast: Seconds
    """p95 below which it may rise by one."""
    errors_high: Share = 0.10
    """Share of failed calls above which it is halved."""
    errors_low: Share = 0.02
    """Share of failed calls below which it may rise."""

    @model_validator(mode="after")
    def _thresholds_in_order(self) -> Self:
        if self.fast > self.slow or self.errors_low > self.errors_high:
            raise ValueError("fast must not be above slow, nor errors_low above errors_high")
        return self


class ResourceSettings(Settings):
    """Anything with limited capacity that calls need."""

    concurrency: ConcurrencyField = Concurrency(8, 8)
    """A fixed number, or ``min..max`` to adapt in between to what the dependency carries."""
    queue: WaitQueueSettings = WaitQueueSettings()
    timeout: Seconds = 60.0
    rate: RateField | None = None
    """Calls over a window."""
    breaker: BreakerSettings | None = BreakerSettings()
    retry: RetrySettings = RetrySettings()
    fallback: Names = ()
    """Resource that takes over when this one refuses, is broken or too slow; or several, in this order."""
    stale: StaleSettings = StaleSettings()
    plain: PlainSettings | None = None
    """Adapt by the plain rule with these thresholds, instead of by latency relative to size."""
    pause_when: PauseWhen | None = None
    mode: Mode = Mode.ENFORCE


class ModelSettings(ResourceSettings):
    """A model: a resource that also counts model tokens."""

    model_tokens: RateField | None = None
    tokens_per_call: Amount = 2000.0
    """First guess of a call's model tokens, until reported usage corrects it."""
    price_per_1k: Annotated[Number, Field(gt=0, le=1_000_000)] | None = None
    """Money for 1000 model tokens, for runs' budgets; a cost that the answer reports goes first."""
    context_window: Annotated[Amount, Field(ge=1)] | None = None
    """Model tokens that one prompt may have; warned of from 80 %."""

"""Typed, frozen settings. Every number here is a limit that someone can defend.

Units: durations are seconds (float), sizes are bytes (int), shares are 0..1, rates are `Rate`. People write
``30s``, ``2M/min``, ``15%``, ``8GiB``; `headgate.config.units` reads them. ``None`` means *no such limit*; zero
never means off. Unknown keys are errors. `headgate.config.load` adds file:line:column to every mistake.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from headgate.config.units import (
    Amount,
    Concurrency,
    ConcurrencyField,
    Flag,
    Knob,
    Number,
    RateField,
    Seconds,
    Share,
    Size,
    StoreUrl,
    Whole,
)
from headgate.model.duplicates import Duplicates

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,62}$")]
"""Names of workflows, resources and lanes: they become labels and URLs."""
TenantName = Annotated[str, Field(min_length=1, max_length=128)]
Names = Annotated[tuple[Name, ...], BeforeValidator(lambda given: (given,) if isinstance(given, str) else given)]
"""One name or several."""
Count = Annotated[Whole, Field(ge=1)]


class Mode(StrEnum):
    """Whether a limit refuses, or only reports what it would have refused."""

    ENFORCE = "enforce"
    SHADOW = "shadow"


class Settings(BaseModel):
    """The common strictness: frozen, no unknown keys, no silent coercion beyond the units."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


class LaneSettings(Settings):
    """A priority class of runs. Lanes start in the order in which the file lists them."""

    share: Share | None = None
    """Part of the worker slots this lane is entitled to; unused shares are lent. Unnamed shares split the rest."""
    max_wait: Seconds | None = None
    """Runs of this lane that wait longer expire."""
    sheddable: Flag = False
    """Refused first when pressure is high."""


class FleetBudget(Settings):
    """What the whole fleet carries."""

    model_tokens: RateField | None = None
    tool_calls: Count | None = None
    """Tool calls in flight at once."""
    memory: Size | None = None
    """Resident memory of a serving process above which nothing new is admitted."""
    runs: Count | None = None
    """Runs running at once."""


class LimitRule(Settings):
    """A rate for each key of one level (every tenant, every user …) or for the fleet."""

    name: Name | None = None
    """How operators call it (``limit:NAME``) to change it at run time."""
    per: Literal["fleet", "workflow", "tenant", "user"]
    workflow: Name | None = None
    """Only for runs of this workflow."""
    tenant: TenantName | None = None
    """Only for this tenant."""
    runs: RateField | None = None
    model_tokens: RateField | None = None
    burst: Amount | None = None
    """How much may be taken at once; the whole window's worth by default."""
    mode: Mode = Mode.ENFORCE

    @model_validator(mode="after")
    def _limits_something(self) -> Self:
        if self.runs is None and self.model_tokens is None:
            raise ValueError("a limit needs runs or model_tokens, for example {per: user, runs: 10/min}")
        return self


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


class RunQueueSettings(Settings):
    """The bounded queue of runs that wait for a worker."""

    depth: Annotated[Whole, Field(ge=1, le=10_000_000)] = 1000
    per_tenant: Count | None = None
    max_age: Seconds = 600.0
    bytes: Size = 64 * 1024 * 1024
    """All waiting inputs of the workflow together."""


class RunBudget(Settings):
    """Hard ceilings of one run, over all its attempts."""

    model_tokens: Annotated[Amount, Field(ge=1)] | None = None
    money: Annotated[Number, Field(gt=0, le=1_000_000_000)] | None = None
    """In the unit of the models' prices."""
    calls: Count = 1000
    wall: Seconds | None = None
    """Running time: what workers spend on it, without its waits in line or suspended."""
    step_payload: Annotated[Size, Field(le=4 * 1024 * 1024)] = 4 * 1024 * 1024
    """Largest result of one call, as JSON."""
    at_ceiling: Literal["pause", "fail"] = "pause"
    """``pause``: the run is suspended until somebody raises the ceiling; ``fail``: the call raises."""
    patience: Seconds = 4 * 3600.0
    """How long a paused run waits before it becomes a dead letter."""


class LoopSettings(Settings):
    """When a run that repeats itself is warned, refused and stopped: how often the same happened."""

    warn: Annotated[Whole, Field(ge=2, le=10_000)] = 3
    refuse: Annotated[Whole, Field(ge=2, le=10_000)] = 5
    stop: Annotated[Whole, Field(ge=2, le=10_000)] = 8

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if not self.warn <= self.refuse <= self.stop:
            raise ValueError("must be in the order warn, refuse, stop, for example {warn: 3, refuse: 5, stop: 8}")
        return self


class WhenFull(StrEnum):
    """What happens near and at the bound of a workflow's queue."""

    REJECT = "reject"
    DEGRADE = "degrade"
    """The last fifth of the queue is open only on the cheaper path (the whole ladder applied)."""


class DegradeStep(Settings):
    """One rung of a ladder: from this pressure on, do this instead."""

    at: Share
    knobs: dict[str, Knob] = {}
    models: dict[Name, Name] = {}
    """Use the right-hand resource in place of the left-hand one."""
    skip: tuple[str, ...] = ()
    """What ``run.allows(name)`` answers *no* to."""


class WorkflowSettings(Settings):
    """One kind of run."""

    lane: Name = "standard"
    queue: RunQueueSettings = RunQueueSettings()
    deadline: Seconds | None = None
    """Default time from submission after which nobody wants the result."""
    budget: RunBudget = RunBudget()
    attempts: Annotated[Whole, Field(ge=1, le=100)] = 3
    """Tries of the whole run when it ends in a retryable failure; its remembered steps are not repeated."""
    on_failure: Annotated[str, Field(pattern=r"^(dead_letter|approval:[a-z][a-z0-9_-]{0,62})$")] = "dead_letter"
    """After the last attempt: a dead letter at once, or first a question to that queue of people."""
    loops: LoopSettings | None = LoopSettings()
    duplicates: Duplicates = Duplicates.ALLOW
    when_full: WhenFull = WhenFull.REJECT
    degrade: tuple[DegradeStep, ...] = ()
    cost: Annotated[Number, Field(gt=0, le=1_000_000)] = 1.0
    """Fairness units that one run takes."""


class ApprovalSettings(Settings):
    """A bounded queue of people."""

    depth: Count = 50
    max_age: Seconds = 4 * 3600.0
    on_expiry: Literal["deny", "approve"] = "deny"


class TenantSettings(Settings):
    """What is particular about one tenant."""

    weight: Annotated[Number, Field(gt=0, le=1000)] = 1.0


class WorkerSettings(Settings):
    """One worker process."""

    slots: Annotated[Whole, Field(ge=1, le=10_000)] = 16
    """Runs it carries at once."""
    lease: Annotated[Seconds, Field(ge=1.0)] = 15.0
    """A worker that is silent for so long has lost its runs. Shorter than a second, a pause of the interpreter would
    count as a crash."""
    poll: Seconds = 0.25
    """How often it looks for work that another process stored."""
    drain: Seconds = 20.0
    """How long running work may go on towards its next step once the process was asked to stop."""
    max_crashes: Annotated[Whole, Field(ge=1, le=100)] = 3
    """A run that took so many workers down becomes a dead letter."""
    keep_finished: Seconds = 7 * 86400.0
    """How long succeeded and cancelled runs stay readable."""


class ServerSettings(Settings):
    """The HTTP service."""

    host: Annotated[str, Field(min_length=1)] = "127.0.0.1"
    port: Annotated[Whole, Field(ge=0, le=65535)] = 8400
    max_body: Size = 1024 * 1024
    """Largest request body."""
    connections: Annotated[Whole, Field(ge=8, le=100_000)] = 2000


DEFAULT_LANES: dict[str, LaneSettings] = {
    "critical": LaneSettings(share=0.2),
    "interactive": LaneSettings(share=0.4),
    "standard": LaneSettings(share=0.3),
    "background": LaneSettings(share=0.1, max_wait=86400.0, sheddable=True),
}


class GateSettings(Settings):
    """A whole ``headgate.yaml``."""

    store: StoreUrl = "sqlite:///headgate.db"
    server: ServerSettings = ServerSettings()
    workers: WorkerSettings = WorkerSettings()
    lanes: dict[Name, LaneSettings] = DEFAULT_LANES
    budget: FleetBudget = FleetBudget()
    limits: tuple[LimitRule, ...] = ()
    tenants: dict[TenantName, TenantSettings] = {}
    tools: dict[Name, ResourceSettings] = {}
    models: dict[Name, ModelSettings] = {}
    stages: dict[Name, ResourceSettings] = {}
    workflows: dict[Name, WorkflowSettings] = {}
    approvals: dict[Name, ApprovalSettings] = {}
    shed_at: Share = 0.85
    """Pressure from which sheddable lanes are refused."""

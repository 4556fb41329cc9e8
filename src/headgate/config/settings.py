"""Typed, frozen settings. Every number here is a limit that someone can defend.

Units: durations are seconds (float), sizes are bytes (int), shares are 0..1, rates are `Rate`. People write
``30s``, ``2M/min``, ``15%``, ``8GiB``; `headgate.config.units` reads them. ``None`` means *no such limit*; zero
never means off. Unknown keys are errors. `headgate.config.load` adds file:line:column to every mistake.
"""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from headgate.config.fields import Count, Mode, Name, Names, Settings, TenantName
from headgate.config.full_settings import DelaySettings, DuplicateSettings, WhenFull
from headgate.config.limit_settings import FleetBudget, LimitAmounts, LimitRule, TenantSettings
from headgate.config.resource_settings import (
    BreakerSettings,
    ModelSettings,
    PauseUntil,
    PauseWhen,
    PlainSettings,
    ResourceSettings,
    RetrySettings,
    StaleSettings,
    WaitQueueSettings,
)
from headgate.config.units import Flag, Seconds, Share, Size, StoreUrl, Whole
from headgate.config.workflow_settings import (
    ApprovalSettings,
    DegradeStep,
    ExpectedCost,
    LoopSettings,
    RunBudget,
    RunQueueSettings,
    WorkflowSettings,
)
from headgate.model.duplicates import Duplicates
from headgate.policy.run_order import RunOrder


class LaneSettings(Settings):
    """A priority class of runs. Lanes start in the order in which the file lists them."""

    share: Share | None = None
    """Part of the worker slots this lane is entitled to; unused shares are lent. Unnamed shares split the rest."""
    max_wait: Seconds | None = None
    """Runs of this lane that wait longer expire."""
    depth: Count | None = None
    """Runs of this lane that may wait for their first start, over all workflows."""
    sheddable: Flag = False
    """Refused first when pressure is high; its waiting runs may make room for those of higher lanes."""
    order: RunOrder = RunOrder.FIFO
    """Which of one user's runs is next: the oldest, the one whose deadline is next, or, while the lane's oldest run
    has waited longer than half of ``max_wait``, the newest."""

    @model_validator(mode="after")
    def _newest_needs_a_patience(self) -> Self:
        if self.order is RunOrder.NEWEST and self.max_wait is None:
            raise ValueError("order: newest needs max_wait, for example {order: newest, max_wait: 30s}")
        return self

    preemptible: Flag = True
    """Whether its running runs make room for waiting runs of higher lanes."""


class PreemptionSettings(Settings):
    """When running runs make room for waiting runs of higher lanes."""

    after: Seconds = 2.0
    """A run waits so long before a lower one is stopped for it; less if its lane has less than its share."""
    per_run: Annotated[Whole, Field(ge=1, le=100)] = 3
    """How often one run makes room in its life."""
    every: Seconds = 60.0
    """Between two preemptions of one run."""
    per_minute: Annotated[Whole, Field(ge=1, le=10_000)] = 30
    """Preemptions of one worker."""


class BackgroundSettings(Settings):
    """Slots of a worker process apart from its others."""

    slots: Annotated[Whole, Field(ge=1, le=10_000)]
    """Runs that it carries at once in them, besides those in its other slots."""
    lanes: Names | None = None
    """Whose runs have these slots and no others; the sheddable lanes by default."""


class WorkerSettings(Settings):
    """One worker process."""

    slots: Annotated[Whole, Field(ge=1, le=10_000)] = 16
    """Runs it carries at once."""
    background: BackgroundSettings | None = None
    """Slots of their own for some lanes. ``None``: all lanes share all slots."""
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
    "critical": LaneSettings(share=0.2, preemptible=False),
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
    preemption: PreemptionSettings | None = PreemptionSettings()
    """``null``: running runs never make room."""
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
    holdback: Annotated[Share, Field(lt=1)] | None = None
    """Pressure from which lower lanes are lent fewer worker slots, for example 70%; ``null``: never."""

    @model_validator(mode="after")
    def _background_is_a_part(self) -> Self:
        background, lanes = self.workers.background, self.background_lanes
        if background is None:
            return self
        if unknown := [name for name in background.lanes or () if name not in self.lanes]:
            raise ValueError(f"workers.background.lanes: there is no lane {unknown[0]!r}")
        if not lanes:
            raise ValueError("workers.background: no lane is sheddable; name its lanes, for example lanes: [batch]")
        if len(lanes) == len(self.lanes):
            raise ValueError("workers.background: no lane is left for the other slots")
        return self

    @property
    def background_lanes(self) -> tuple[str, ...]:
        """Lanes whose runs have slots of their own, in the file's order."""
        background = self.workers.background
        if background is None:
            return ()
        named = background.lanes
        return tuple(
            name for name, lane in self.lanes.items() if (lane.sheddable if named is None else name in named)
        )

    def sharing(self, lane: str) -> tuple[str, ...]:
        """The lanes that share slots with this one, itself included, in the file's order."""
        apart = self.background_lanes
        return tuple(name for name in self.lanes if (name in apart) == (lane in apart))


__all__ = [
    "ApprovalSettings",
    "BackgroundSettings",
    "BreakerSettings",
    "Count",
    "DEFAULT_LANES",
    "DegradeStep",
    "DelaySettings",
    "ExpectedCost",
    "DuplicateSettings",
    "Duplicates",
    "FleetBudget",
    "GateSettings",
    "LaneSettings",
    "LimitAmounts",
    "LimitRule",
    "LoopSettings",
    "Mode",
    "ModelSettings",
    "Name",
    "Names",
    "PauseUntil",
    "PauseWhen",
    "PlainSettings",
    "PreemptionSettings",
    "ResourceSettings",
    "RetrySettings",
    "RunBudget",
    "RunQueueSettings",
    "ServerSettings",
    "Settings",
    "StaleSettings",
    "TenantName",
    "TenantSettings",
    "WaitQueueSettings",
    "WhenFull",
    "WorkerSettings",
    "WorkflowSettings",
]

"""Settings of workflows and of the queues of people: what bounds one run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from headgate.config.fields import Count, Name, Settings
from headgate.config.full_settings import DelaySettings, DuplicateSettings, DuplicatesField, WhenFull
from headgate.config.units import Amount, Knob, Number, Seconds, Share, Size, Whole
from headgate.model.duplicates import Duplicates
from headgate.policy.degrade import SHARE
from headgate.policy.run_budget import Ceiling


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
    fan_out: Count = 100
    """Sub-runs that it may spawn itself."""
    depth: Annotated[Whole, Field(ge=1, le=100)] = 5
    """Generations of sub-runs below the run that was submitted."""
    descendants: Count = 1000
    """Sub-runs of its whole tree, from the run that was submitted down."""
    step_payload: Annotated[Size, Field(le=4 * 1024 * 1024)] = 4 * 1024 * 1024
    """Largest result of one call, as JSON."""
    at_ceiling: Literal["pause", "fail"] = "pause"
    """``pause``: the run is suspended until somebody raises the ceiling; ``fail``: the call raises."""
    patience: Seconds = 4 * 3600.0
    """How long a paused run waits before it becomes a dead letter."""

    @property
    def ceiling(self) -> Ceiling:
        """What one run may use of it."""
        tokens = None if self.model_tokens is None else int(self.model_tokens)
        return Ceiling(self.calls, tokens, self.money, self.wall)


class ExpectedCost(Settings):
    """What an ordinary run takes, for the estimate until enough runs have ended."""

    model_tokens: Annotated[Amount, Field(ge=1)] | None = None
    money: Annotated[Number, Field(gt=0, le=1_000_000_000)] | None = None
    calls: Count | None = None
    memory: Size | None = None
    """Memory that a run takes while it runs; never learned."""
    parallel: Annotated[Whole, Field(ge=1, le=10_000)] | None = None
    """Calls in flight at once."""


class LoopSettings(Settings):
    """When a run that repeats itself is warned, refused and stopped: how often the same happened."""

    warn: Annotated[Whole, Field(ge=2, le=10_000)] = 3
    refuse: Annotated[Whole, Field(ge=2, le=10_000)] = 4
    stop: Annotated[Whole, Field(ge=2, le=10_000)] = 6

    @model_validator(mode="before")
    @classmethod
    def _the_others_follow(cls, given: Any) -> Any:
        """What is not given keeps its distance to what is, so that one number alone is a possible rule."""
        if not isinstance(given, Mapping) or not all(type(number) is int for number in given.values()):
            return given
        warn = given.get("warn", max(2, min(3, given.get("refuse", 3), given.get("stop", 3))))
        refuse = given.get("refuse", min(max(4, warn + 1), max(warn, given.get("stop", 10_000))))
        return {"warn": warn, "refuse": refuse, "stop": min(10_000, max(6, refuse + 2)), **given}

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if not self.warn <= self.refuse <= self.stop:
            raise ValueError("must be in the order warn, refuse, stop, for example {warn: 3, refuse: 4, stop: 6}")
        return self


class DegradeStep(Settings):
    """One rung of a ladder: from this pressure on, do this instead."""

    at: Share
    knobs: dict[str, Knob] = {}
    models: dict[Name, Name] = {}
    """Use the right-hand resource in place of the left-hand one."""
    skip: tuple[str, ...] = ()
    """What ``run.allows(name)`` answers *no* to."""
    postpone: tuple[str, ...] = ()
    """Resources, or names that calls give: their postponable calls are made later, by a follow-up run."""
    require_approval: dict[str, Name] = {}
    """What ``run.confirm(name, …)`` asks people about, and through which queue."""


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
    asks: tuple[Name, ...] = ()
    """Queues of people that its runs ask: while these do not keep up, fewer runs are taken in."""
    duplicates: DuplicatesField = DuplicateSettings(mode=Duplicates.ALLOW)
    when_full: WhenFull = WhenFull.REJECT
    when_late: Literal["reject", "accept"] = "reject"
    """What happens to a run that would not end by its deadline as far as can be foreseen: it is refused, and not
    started where that shows later; or it is taken in and started all the same."""
    delay: DelaySettings = DelaySettings()
    degrade: tuple[DegradeStep, ...] = ()
    degrade_slack: Share | None = SHARE
    """A run takes one more rung while what it still needs exceeds this part of the time to its deadline; ``null``:
    rungs are taken by pressure only."""
    cost: Annotated[Number, Field(gt=0, le=1_000_000)] = 1.0
    """How much a second of its calls counts when tenants are compared."""
    expects: ExpectedCost = ExpectedCost()
    estimate: Literal["p50", "p90"] = "p90"
    """Which quantile of what runs took is held for a new one."""


class ApprovalSettings(Settings):
    """A bounded queue of people."""

    depth: Count = 50
    max_age: Seconds = 4 * 3600.0
    on_expiry: Literal["deny", "approve", "escalate"] = "deny"
    """``escalate``: the question goes on to ``escalate_to``; where that is full, it is denied."""
    escalate_to: Name | None = None

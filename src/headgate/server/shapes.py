"""The wire as OpenAPI describes it. Answers are built in `views` and checked against these shapes by the tests."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from headgate.model.run import RunState


class Shape(BaseModel):
    model_config = ConfigDict(extra="forbid")


class RunRequest(Shape):
    """Ask for a run."""

    workflow: str = Field(max_length=63, examples=["triage"])
    input: Any = Field(default=None, description="Any JSON value; the workflow's input.")
    tenant: str | None = Field(default=None, max_length=128, description="Taken from the API key if it has one.")
    user: str | None = Field(default=None, max_length=128)
    lane: str | None = Field(default=None, max_length=63, description="The workflow's own lane by default.")
    deadline: float | str | None = Field(
        default=None,
        description='After this nobody wants the result: seconds, a duration ("2m") or an RFC 3339 time.',
        examples=["2m"],
    )
    idempotency_key: str | None = Field(
        default=None,
        max_length=255,
        description="The same key and body lead to the same run. Also as the header Idempotency-Key.",
    )
    cost: dict[str, float] | None = Field(
        default=None,
        description="What the run will take, as far as you know: model_tokens, money, calls.",
        examples=[{"model_tokens": 20000}],
    )


class Accepted(Shape):
    """A run as it was taken in (202), or as it stands (200: known key, collapsed duplicate)."""

    id: str
    state: RunState
    reason: str | None = Field(description="Why it is held back, if it is: `delayed` or `debounced`.")
    position: int = Field(description="Runs that will start before it.")
    eta_s: float | None = Field(description="Seconds until it should start (p50); null while unknown.")
    eta_p90_s: float | None = Field(default=None, description="Nine of ten such runs have started by then.")
    finish_s: float | None = Field(default=None, description="Seconds until it should have ended (p50).")
    finish_p90_s: float | None = Field(default=None, description="Nine of ten such runs have ended by then.")
    available_at: str | None = Field(description="It is not started before.")
    lane: str
    deadline: str | None
    workflow: str
    tenant: str
    created: bool
    collapsed: bool = Field(description="It is the run of another submission with the same content.")
    degraded: bool
    paused: str | None = Field(description="What is paused so that it waits: `workflow:…` or `lane:…`.")
    replay_of: str | None = None


class Amounts(Shape):
    calls: int | None
    model_tokens: int | None


class RunSummary(Shape):
    id: str
    workflow: str
    tenant: str
    user: str | None
    lane: str
    state: RunState
    reason: str | None
    detail: str | None
    degraded: bool
    cancel_requested: bool
    submitted_at: str
    available_at: str
    started_at: str | None
    finished_at: str | None
    deadline: str | None
    queue_deadline: str | None
    starts: int = Field(description="How often a worker took it up.")
    attempts: int
    crashes: int
    origin_id: str
    replay_of: str | None
    parent_id: str | None = Field(description="The run that spawned it.")
    depth: int = Field(description="Generations of sub-runs below a run that was submitted.")
    spawned: int = Field(description="Sub-runs that it has spawned itself.")
    resolved_by: str | None = Field(description="A dead letter: the replay that succeeded, or who dismissed it.")
    idempotency_key: str | None
    usage: Amounts
    budget: Amounts


class Timings(Shape):
    queued_ms: int = Field(description="From submission to the first start (or until now).")
    ran_ms: int | None = Field(description="From the first start to the end (or until now).")
    call_queued_ms: int = Field(description="Waiting for slots, over all steps.")
    model_ms: int
    tool_ms: int


class StepShape(Shape):
    seq: int
    resource: str
    function: str
    nth: int
    effect: str
    state: str
    queued_ms: int
    ran_ms: int
    tries: int
    degraded: str | None
    model_tokens: int
    started_at: str
    finished_at: str | None


class DegradationShape(Shape):
    what: str = Field(description="The knob, model or part; `run` for all of it.")
    before: Any = Field(alias="from", description="What it would have been.")
    to: Any = Field(description="What it was instead.")
    why: str | None = Field(description="`cheaper_path`, `shed`, `slack` or `fallback`.")


class RunDetail(RunSummary):
    """Everything about one run."""

    degradations: list[DegradationShape] = Field(description="What was done more cheaply.")
    usage_with_sub_runs: Amounts = Field(description="`usage`, and that of everything attached below it.")
    position: int | None
    eta_s: float | None
    eta_p90_s: float | None
    finish_s: float | None
    finish_p90_s: float | None
    paused: str | None
    sub_runs: dict[str, int] = Field(description="Its own sub-runs by state.")
    timings: Timings
    input: Any
    result: Any
    steps: list[StepShape]
    links: dict[str, str]


class RunPage(Shape):
    runs: list[RunSummary]
    next: str | None = Field(description="Pass it as `before` to continue; null at the end.")


class ReplayRequest(Shape):
    assume: Literal["done", "not_done"] | None = Field(
        default=None, description="What became of `once` steps whose outcome is unknown."
    )


class CancelRequest(Shape):
    detail: str | None = Field(default=None, max_length=500, description="Why, in words.")


class ApprovalShape(Shape):
    id: str
    queue: str
    run_id: str
    tenant: str
    lane: str
    state: str
    payload: Any
    asked_at: str
    expires_at: str
    deadline_at: str | None = Field(description="Its run's deadline: later, nobody needs the answer.")
    decided_by: str | None
    decided_at: str | None
    note: str | None


class ApprovalList(Shape):
    approvals: list[ApprovalShape] = Field(description="In the order in which they should be answered.")


class Decision(Shape):
    decision: Literal["approve", "deny"]
    note: str | None = Field(default=None, max_length=1000)


class Decided(ApprovalShape):
    applied: bool = Field(description="False when it had been answered otherwise, or had expired, before.")


class BudgetRequest(Shape):
    """New ceilings as totals, or `+20` to add. Nothing is lowered."""

    calls: int | str | None = Field(default=None, examples=["+20"])
    model_tokens: int | str | None = Field(default=None, examples=["100k"])
    money: float | str | None = None
    wall: str | None = Field(default=None, examples=["10m"], description="Running time.")


class Ceilings(Shape):
    calls: int | None
    model_tokens: int | None
    money: float | None
    wall_ms: int | None


class BudgetState(Shape):
    id: str
    state: RunState
    reason: str | None
    budget: Ceilings
    usage: Ceilings


class ControlRequest(Shape):
    """What to set. An override takes the place of the target's earlier one as a whole."""

    pause: bool | None = Field(
        default=None, description="true pauses, false resumes. Resources, lanes, workflows, tenants."
    )
    limit: int | None = Field(
        default=None, ge=1, description="Resources: calls in flight; limits: unfinished runs; budgets: how much."
    )
    rate: str | None = Field(
        default=None,
        examples=["100/min"],
        description="Resources: calls; limits: what their first rate counts; budgets: model tokens or money.",
    )
    depth: int | None = Field(default=None, ge=1, description="Workflows and lanes: runs that may wait.")
    max_age: str | None = Field(
        default=None, examples=["10m"], description="Workflows and lanes: how long a run may wait for its start."
    )
    share: str | None = Field(default=None, examples=["30%"], description="Lanes: part of the worker slots.")
    weight: float | None = Field(default=None, gt=0, description="Tenants: the share beside other tenants.")
    shed_at: str | None = Field(
        default=None, examples=["70%"], description="The fleet: pressure from which sheddable lanes are refused."
    )
    model_tokens: str | None = Field(
        default=None, examples=["1M/min"], description="Models, and limits that count them: model tokens."
    )
    stop_running: bool | None = Field(
        default=None,
        description="With `pause` of a lane, workflow or tenant: running runs stop at their next step, back in line.",
    )
    reason: str = Field(max_length=500, description="Why, in words for others.")
    expires: str | None = Field(default=None, examples=["30m"], description="Over by itself after this.")


class RateShape(Shape):
    amount: float
    window_s: float


class ControlShape(Shape):
    """What is in force."""

    target: str
    kind: Literal["pause", "override"]
    sets: str = Field(description="In words: `paused`, `limit 4, rate 100/min`.")
    limit: int | None
    rate: RateShape | None
    depth: int | None
    max_age_s: float | None
    share: float | None
    weight: float | None
    shed_at: float | None
    model_tokens: RateShape | None
    declared: str | None = Field(description="What an override stands in place of, in words.")
    reason: str
    by: str = Field(description="The key's label, or `rule of resource:…`.")
    since: str
    until: str | None


class ControlState(Shape):
    target: str
    controls: list[ControlShape]


class ControlChangeShape(Shape):
    at: str
    target: str
    kind: Literal["pause", "override"]
    by: str
    reason: str
    before: str | None
    after: str | None
    until: str | None


class ControlList(Shape):
    controls: list[ControlShape]
    changes: list[ControlChangeShape] = Field(description="The record, newest first, of the last 90 days.")


class ControlsQuery(BaseModel):
    model_config = ConfigDict(extra="forbid")
    target: str | None = Field(default=None, max_length=200)
    limit: int = Field(default=50, ge=1, le=500, description="Lines of the record.")


class ResetQuery(BaseModel):
    model_config = ConfigDict(extra="forbid")
    reason: str = Field(default="reset", max_length=500)


class Problem(BaseModel):
    """RFC 9457 problem details. `reason` is stable; further members depend on it."""

    model_config = ConfigDict(extra="allow")
    type: str
    title: str
    status: int
    detail: str
    reason: str
    scope: str | None = Field(default=None, description="Whose limit it was, e.g. `tenant:acme`.")
    limit: float | None = None
    used: float | None = None
    retry_after_ms: int | None = Field(default=None, description="The honest wait; absent if waiting does not help.")
    run_id: str | None = None
    errors: list[dict[str, str]] | None = Field(default=None, description="Every mistake: field and message.")


class RunsQuery(BaseModel):
    """Filters of the list; unknown ones are refused rather than ignored."""

    model_config = ConfigDict(extra="forbid")
    workflow: str | None = Field(default=None, max_length=63)
    tenant: str | None = Field(default=None, max_length=128)
    lane: str | None = Field(default=None, max_length=63)
    state: list[RunState] = Field(default=[], max_length=7, description="Repeatable.")
    reason: str | None = Field(default=None, max_length=63)
    parent: str | None = Field(default=None, max_length=36, description="Only sub-runs of this run.")
    before: str | None = Field(default=None, max_length=36, description="The `next` of the page before.")
    limit: int = Field(default=50, ge=1, le=500)


class ApprovalsQuery(BaseModel):
    model_config = ConfigDict(extra="forbid")
    queue: str | None = Field(default=None, max_length=63)
    limit: int = Field(default=50, ge=1, le=500)


class Health(Shape):
    status: Literal["ok", "ready", "drained"]
